"""Taking over what escalation recorded: wards, who is posted where, and which incident each report came to."""

from collections.abc import Sequence

from services.intake import store
from services.intake.application.intake import Intake
from shared.events import Event, PostingRecorded, ReportCorrelated, UnitRecorded


async def record_escalation_events(intake: Intake, events: Sequence[Event]) -> None:
    """Record in one transaction; other types of events are ignored. Safe to repeat, whole or in part."""
    async with intake.database.begin() as connection:
        await store.put_units(connection, [e for e in events if isinstance(e, UnitRecorded)])
        await store.put_postings(connection, [e for e in events if isinstance(e, PostingRecorded)])
        await store.set_routed(connection, [e for e in events if isinstance(e, ReportCorrelated)])

"""The events that record a change of the directory. Pure."""

from collections.abc import Callable
from datetime import datetime

from services.escalation.domain.directory.diff import Plan, Reach, shown_reach
from services.escalation.domain.directory.model import Duty, Posting, Tenure, Unit
from services.escalation.domain.directory.validation import Units
from services.escalation.domain.envelope import envelope
from shared.events import (
    ContactRecorded,
    ContactRecordedData,
    Event,
    PostingRecorded,
    PostingRecordedData,
    RosterRecorded,
    RosterRecordedData,
    TenureRecorded,
    TenureRecordedData,
    UnitRecorded,
    UnitRecordedData,
)

NewId = Callable[[], str]


def of_units(plan: Plan[Unit], now: datetime, new_id: NewId) -> list[Event]:
    found: list[Event] = []
    for unit in plan.recorded:
        data = UnitRecordedData(
            unit=unit.ref,
            kind=unit.kind,
            valid_to=unit.valid_to,
            successors=unit.successors,
            legal_act=unit.legal_act,
        )
        found.append(UnitRecorded(**envelope(new_id(), unit.ref.code, now), data=data))
    return found


def of_tenures(plan: Plan[Tenure], now: datetime, new_id: NewId) -> list[Event]:
    """Return the events of a plan.

    First come the parts that stay of old tenures, then new tenures, then withdrawals of old tenures that no new record
    supersedes.
    """
    found: list[Event] = []
    instead: dict[str, str] = {}
    gone: list[Tenure] = []
    for e in plan.ended:
        found += [_tenure(left, now, new_id, supersedes=e.old.tenure_id) for left in e.left]
        if e.by is not None and e.by.tenure_id not in instead:
            instead[e.by.tenure_id] = e.old.tenure_id
        elif not e.left:
            gone.append(e.old)
    found += [_tenure(new, now, new_id, supersedes=instead.get(new.tenure_id)) for _, new in plan.added]
    return found + [_tenure(old, now, new_id, supersedes=old.tenure_id, withdrawn=True) for old in gone]


def _tenure(
    tenure: Tenure, now: datetime, new_id: NewId, *, supersedes: str | None, withdrawn: bool = False
) -> TenureRecorded:
    shown = tenure.model_dump(exclude={"recorded_at", "superseded_at", "unit"})
    data = TenureRecordedData(
        unit=tenure.unit, officials=(tenure.holder_id,), supersedes=supersedes, withdrawn=withdrawn, **shown
    )
    return TenureRecorded(**envelope(new_id(), tenure.unit.code, now), data=data)


def of_rosters(plan: Plan[Duty], units: Units, now: datetime, new_id: NewId) -> list[Event]:
    gone = [_roster(e.old, units, now, new_id, withdrawn=True) for e in plan.ended]
    return [*gone, *(_roster(new, units, now, new_id) for new in plan.recorded)]


def _roster(duty: Duty, units: Units, now: datetime, new_id: NewId, *, withdrawn: bool = False) -> RosterRecorded:
    shown = duty.model_dump(exclude={"recorded_at", "superseded_at", "unit_code", "unit_valid_from"})
    unit = units[duty.unit_key].ref if duty.unit_key else None
    data = RosterRecordedData(unit=unit, officials=(duty.holder_id,), withdrawn=withdrawn, **shown)
    return RosterRecorded(**envelope(new_id(), duty.unit_code or duty.level, now), data=data)


def of_postings(
    plan: Plan[Posting], units: Units, now: datetime, new_id: NewId, pseudonym: Callable[[str], str]
) -> list[Event]:
    """Return the events of a plan. They name officers and devices by pseudonym."""

    def event(posting: Posting, *, withdrawn: bool) -> PostingRecorded:
        shown = posting.model_dump(include={"posting_id", "document", "valid_from", "valid_to", "sample"})
        unit, sender = units[posting.unit_key].ref, pseudonym(posting.subject)
        data = PostingRecordedData(unit=unit, sender=sender, withdrawn=withdrawn, **shown)
        return PostingRecorded(**envelope(new_id(), posting.unit_code, now), data=data)

    gone = [event(e.old, withdrawn=True) for e in plan.ended]
    return [*gone, *(event(new, withdrawn=False) for new in plan.recorded)]


def of_contacts(plan: Plan[Reach], now: datetime, new_id: NewId) -> list[Event]:
    """Return the events of a plan. Each holds only the scheme of a channel."""
    gone = [_contact(e.old, now, new_id, withdrawn=True) for e in plan.ended if e.by is None]
    return [*gone, *(_contact(new, now, new_id) for new in plan.recorded)]


def _contact(reach: Reach, now: datetime, new_id: NewId, *, withdrawn: bool = False) -> ContactRecorded:
    data = ContactRecordedData(officials=(reach.holder_id,), withdrawn=withdrawn, **shown_reach(reach))
    return ContactRecorded(**envelope(new_id(), reach.holder_id, now), data=data)

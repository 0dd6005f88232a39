"""Show who sent the reports of an incident, and record who asked and why. One transaction: no answer unrecorded."""

from typing import Any

from services.escalation.application.escalation import Escalation, salted
from services.escalation.domain.envelope import envelope
from services.escalation.store import incident_queries
from shared.events import AccessRecorded, AccessRecordedData, UnitRef
from shared.http.identity import Principal
from shared.http.problem import Problem


async def show_senders(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> dict[str, Any]:
    """Return the incident with all its parts, as `incident_queries.one` does. Raises Problem 404."""
    escalation = escalation.by(caller)
    async with escalation.database.begin() as connection:
        whole = await incident_queries.one(connection, incident_id)
        if whole is None:
            raise Problem(404, f"there is no incident {incident_id}")
        row = whole["incident"]
        why = salted(reason)
        assert why is not None
        data = AccessRecordedData(
            incident=incident_id,
            unit=UnitRef(code=row.unit_code, valid_from=row.unit_valid_from, name=row.unit_name),
            category=row.category,
            what="senders",
            reason=why,
        )
        head = envelope(escalation.new_id(), incident_id, escalation.clock.now())
        await escalation.emit(connection, [AccessRecorded(**head, data=data)])
    escalation.wake()
    return whole

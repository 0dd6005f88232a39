"""The desk assigns an incident of a divided unit to one of the units that took its parts."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import UnitKey, key_of
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.evaluation import evaluate
from services.escalation.domain.incidents.incident import Case
from shared.events import (
    IncidentHandedOff,
    IncidentHandedOffData,
    UnitRef,
)
from shared.http.identity import Principal
from shared.http.problem import Problem


async def reassign(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, code_and_day: UnitKey
) -> CommandResult:
    """Assign the incident to a unit that took a part of its unit. The post-holders there are notified."""
    async with command_context(escalation, incident_id, caller, "reassign", (), code_and_day) as command:
        command.allow()
        case = command.case
        successor = _successor(command.engine, case, code_and_day)
        found = command.finding("reassignment", reason, to=successor.model_dump(mode="json"))
        if command.said_before(found):
            return CommandResult(case, is_new=False)
        cause = command.record(
            found,
            lambda head, data: IncidentHandedOff(
                **head, data=IncidentHandedOffData(**data, to="unit", successor=successor)
            ),
        )
        evaluate(command.engine, case, cause)
    return CommandResult(case, is_new=True)


def _successor(engine: IncidentEngine, case: Case, wanted: UnitKey) -> UnitRef:
    """Return the unit `wanted`. Raises Problem 409 unless it took a part of the incident's unit."""
    possible = engine.lineage(case).parts
    for unit in possible:
        if key_of(unit) == wanted:
            return unit
    names = ", ".join(f"{u.code} of {u.valid_from} ({u.name})" for u in possible) or "none, for no unit was divided"
    raise Problem(409, f"unit {wanted[0]} of {wanted[1]} did not take its place; possible are: {names}")

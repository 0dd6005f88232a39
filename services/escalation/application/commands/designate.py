"""The desk designates an incident "nổi cộm" (prominent), or no longer."""

from services.escalation.application.command_context import CommandContext, CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents.evaluation import evaluate
from services.escalation.domain.incidents.incident import Case
from shared.events import (
    IncidentDesignated,
    IncidentDesignatedData,
)
from shared.http.identity import Principal


async def designate(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, *, prominent: bool
) -> CommandResult:
    """Record a designation, or that it no longer holds, and evaluate the incident."""
    async with command_context(escalation, incident_id, caller, "designate") as command:
        command.allow()
        cause = record_designation(command, command.case, reason, prominent=prominent)
        if cause is not None:
            evaluate(command.engine, command.case, cause)
    return CommandResult(command.case, cause is not None)


def record_designation(command: CommandContext, case: Case, reason: str, *, prominent: bool) -> str | None:
    """Record a designation. Returns the id of its event, or None if the same was recorded before."""
    found = command.finding("designation", reason, prominent=prominent)
    if command.said_before(found, case):
        return None
    return command.record(
        found,
        lambda head, data: IncidentDesignated(**head, data=IncidentDesignatedData(**data, prominent=prominent)),
        case,
    )

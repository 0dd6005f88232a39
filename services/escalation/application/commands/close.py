"""The desk confirms that an incident is over."""

from services.escalation.application.command_context import CommandResult, command_context, insist
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import lifecycle, timers
from shared.events import (
    FindingData,
    IncidentClosed,
)
from shared.http.identity import Principal


async def close(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Close an incident (kết thúc), which the desk confirms to be over.

    It must be confirmed, or outside of the rule, and nobody may still be asked to acknowledge.
    """
    async with command_context(escalation, incident_id, caller, "close") as command:
        case = command.case
        found = command.finding("closure", reason)
        if case.state == "closed" and command.said_before(found):
            return CommandResult(case, is_new=False)
        command.allow()
        insist(lifecycle.may_close(case.standing, is_ack_pending="acknowledge" in case.pending))
        command.record(found, lambda head, data: IncidentClosed(**head, data=FindingData(**data)))
        timers.end(command.engine, case, "closed")
    return CommandResult(case, is_new=True)

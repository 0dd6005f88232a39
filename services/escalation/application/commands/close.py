"""The desk confirms that an incident is over."""

from services.escalation.application.command_context import CommandResult, command_context, insist
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import lifecycle
from shared.events import (
    FindingData,
    IncidentClosed,
)
from shared.http.identity import Principal


async def close(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Close an incident (kết thúc), which the desk confirms to be over.

    It must be confirmed, or outside of the rule, and nobody may still be asked to acknowledge. Closing it again says
    that the end stands although reports came after it.
    """
    async with command_context(escalation, incident_id, caller, "close") as command:
        case, found = command.case, command.finding("closure", reason)
        return command.end(
            found,
            lambda head, data: IncidentClosed(**head, data=FindingData(**data)),
            "closed",
            lambda: insist(lifecycle.may_close(case.standing, is_ack_pending="acknowledge" in case.pending)),
        )

"""The desk finds that something did not happen, or is no incident."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import timers
from shared.events import (
    FindingData,
    IncidentDismissed,
)
from shared.http.identity import Principal


async def dismiss(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Dismiss an incident that did not happen or is no incident. Nothing more is sent about it."""
    async with command_context(escalation, incident_id, caller, "dismiss") as command:
        found = command.finding("dismissal", reason)
        if command.case.state == "dismissed" and command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.allow()
        cause = command.record(found, lambda head, data: IncidentDismissed(**head, data=FindingData(**data)))
        timers.end(command.engine, command.case, "dismissed", cause)
    return CommandResult(command.case, is_new=True)

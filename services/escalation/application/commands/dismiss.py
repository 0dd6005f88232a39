"""The desk finds that something did not happen, or is no incident."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from shared.events import (
    FindingData,
    IncidentDismissed,
)
from shared.http.identity import Principal


async def dismiss(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Dismiss an incident that did not happen or is no incident. Nothing more is sent about it.

    Dismissing it again says that this stands although reports came after it.
    """
    async with command_context(escalation, incident_id, caller, "dismiss") as command:
        found = command.finding("dismissal", reason)
        return command.end(found, lambda head, data: IncidentDismissed(**head, data=FindingData(**data)), "dismissed")

"""The desk hands an incident to the police."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from shared.events import (
    IncidentHandedOff,
    IncidentHandedOffData,
)
from shared.http.identity import Principal


async def hand_off(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Hand the incident to the police. It ends here, but post-holders still get their first notice.

    Handing it off again says that the police know of the reports that came after that.
    """
    async with command_context(escalation, incident_id, caller, "hand_off") as command:
        found = command.finding("hand_off", reason, to="police")
        return command.end(
            found,
            lambda head, data: IncidentHandedOff(**head, data=IncidentHandedOffData(**data, to="police")),
            "handed_off",
        )

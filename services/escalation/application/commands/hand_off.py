"""The desk hands an incident to the police."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import timers
from shared.events import (
    IncidentHandedOff,
    IncidentHandedOffData,
)
from shared.http.identity import Principal


async def hand_off(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Hand the incident to the police. It ends here, but post-holders still get their first notice."""
    async with command_context(escalation, incident_id, caller, "hand_off") as command:
        found = command.finding("hand_off", reason, to="police")
        if command.case.state == "handed_off" and command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.allow()
        command.record(
            found, lambda head, data: IncidentHandedOff(**head, data=IncidentHandedOffData(**data, to="police"))
        )
        timers.end(command.engine, command.case, "handed_off")
    return CommandResult(command.case, is_new=True)

"""Somebody records what was done at the scene."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import lifecycle, obligations
from shared.events import (
    FindingData,
    ResponseRecorded,
)
from shared.http.identity import Principal


async def respond(escalation: Escalation, incident_id: str, caller: Principal, text: str) -> CommandResult:
    """Record what was done at the scene."""
    async with command_context(escalation, incident_id, caller, "respond") as command:
        command.allow()
        found = command.finding("response", text)
        if command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.record(found, lambda head, data: ResponseRecorded(**head, data=FindingData(**data)))
        command.case.state = lifecycle.after("respond", command.case.state)
        obligations.settle(command.engine, command.case)
        if not command.case.pending - {"directory"}:
            obligations.schedule_lapse(command.engine, command.case)
    return CommandResult(command.case, is_new=True)

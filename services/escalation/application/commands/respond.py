"""Somebody records what was done at the scene."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import lifecycle, obligations
from services.escalation.domain.incidents.acknowledging import record_acknowledgement
from services.escalation.domain.incidents.incident import NOT_ENOUGH
from services.escalation.store import timers
from shared.events import (
    FindingData,
    ResponseRecorded,
)
from shared.http.identity import Principal


async def respond(escalation: Escalation, incident_id: str, caller: Principal, text: str) -> CommandResult:
    """Record what was done at the scene. Whoever acts has seen the notices to their post: that acknowledges them."""
    async with command_context(escalation, incident_id, caller, "respond") as command:
        command.allow()
        found = command.finding("response", text)
        if command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.record(found, lambda head, data: ResponseRecorded(**head, data=FindingData(**data)))
        if caller.role == "official":
            notices = await timers.notices_of(command.connection, incident_id)
            told = [n for n in notices if n.recipient == caller.subject]
            mine = [n for n in told if n.posts and (caller.post is None or caller.post in n.posts)]
            record_acknowledgement(command.engine, command.case, notices, mine, caller.subject)
        owed = obligations.desk_tasks(command.case)
        command.case.state = lifecycle.after("respond", command.case.state)
        obligations.settle(command.engine, command.case, owed)
        if not command.case.pending - NOT_ENOUGH:
            obligations.schedule_lapse(command.engine, command.case)
    return CommandResult(command.case, is_new=True)

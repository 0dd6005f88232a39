"""A ward proposes to close an incident."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents import lifecycle
from services.escalation.domain.incidents.notifying import issue
from services.escalation.domain.notices.notification import Notice
from shared.events import (
    ClosureProposed,
    FindingData,
)
from shared.http.identity import Principal


async def propose_closure(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Record that the ward considers the incident to be over. The desk is notified, and decides."""
    async with command_context(escalation, incident_id, caller, "propose_closure") as command:
        found = command.finding("closure_proposal", reason)
        if command.case.state == "closure_proposed" and command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.allow()
        cause = command.record(found, lambda head, data: ClosureProposed(**head, data=FindingData(**data)))
        command.case.state = lifecycle.after("propose_closure", command.case.state)
        issue(command.engine, command.case, Notice(DESK, "closure"), None, cause)
    return CommandResult(command.case, is_new=True)

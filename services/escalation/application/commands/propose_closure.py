"""A ward proposes to close an incident."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents import lifecycle, obligations
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
        # from now on the incident waits for the desk: the post-holders are not asked again meanwhile
        command.engine.cancel(command.case, "lapse")
        by = obligations.ask_desk(command.engine, command.case, "closure")
        issue(command.engine, command.case, Notice(DESK, "closure"), by, cause)
    return CommandResult(command.case, is_new=True)

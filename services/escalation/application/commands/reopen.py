"""The desk finds that an incident is not over, or was not false."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation, record_of
from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents import lifecycle, timers
from shared.events import (
    FindingData,
    IncidentReopened,
)
from shared.http.identity import Principal


async def reopen(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """It is not over, or was not false: everybody is told again."""
    async with command_context(escalation, incident_id, caller, "reopen") as command:
        case = command.case
        found = command.finding("reopening", reason)
        if case.is_open and command.said_before(found):
            return CommandResult(case, is_new=False)
        command.allow()
        cause = command.record(found, lambda d: IncidentReopened(**command.envelope(), data=FindingData(**d)))
        case.state = lifecycle.after("reopen", case.state)
        command.engine.begin_round(case)
        case.notified.pop((DESK, "review"), None)  # what the desk is to look at, it looks at anew
        command.engine.evaluate(case, cause)
        if record_of(case).outcome != "does_not_apply":
            timers.ask_again(command.engine, case, cause)
    return CommandResult(case, is_new=True)

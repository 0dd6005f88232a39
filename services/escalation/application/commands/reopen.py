"""The desk finds that an incident is not over, or was not false."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents import after_end, lifecycle, timers
from services.escalation.domain.incidents.evaluation import begin_round, evaluate
from shared.events import (
    FindingData,
    IncidentReopened,
)
from shared.http.identity import Principal


async def reopen(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Reopen an incident (mở lại) in a new round: everybody is notified again. Reports after its end count now."""
    async with command_context(escalation, incident_id, caller, "reopen") as command:
        case = command.case
        found = command.finding("reopening", reason)
        if case.is_open and command.said_before(found):
            return CommandResult(case, is_new=False)
        command.allow()
        cause = command.record(found, lambda head, data: IncidentReopened(**head, data=FindingData(**data)))
        case.state = lifecycle.after("reopen", case.state)
        after_end.count(case)
        begin_round(command.engine, case)
        case.notified.pop((DESK, "review"), None)  # so that the desk is asked to review it again
        evaluate(command.engine, case, cause)
        if case.standing.outcome != "does_not_apply":
            timers.ask_again(command.engine, case, cause)
    return CommandResult(case, is_new=True)

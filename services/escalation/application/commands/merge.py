"""The desk finds that two incidents are one."""

from services.escalation.application.command_context import CommandContext, CommandResult, command_context
from services.escalation.application.commands.designate import record_designation
from services.escalation.application.commands.revise_severity import record_revision
from services.escalation.application.commands.verify import record_verification
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import timers
from services.escalation.domain.incidents.evaluation import evaluate, inputs_of
from services.escalation.domain.incidents.finding import assess
from services.escalation.domain.incidents.incident import Case
from services.escalation.domain.rules.accountability import combined_harm, effective_harm
from services.escalation.store import incident_loading
from shared.events import (
    IncidentMerged,
    IncidentMergedData,
)
from shared.http.identity import Principal
from shared.http.problem import Problem


async def merge(escalation: Escalation, incident_id: str, caller: Principal, reason: str, into: str) -> CommandResult:
    """Merge the incident into `into`, which gets its reports and all later reports of either."""
    async with command_context(escalation, incident_id, caller, "merge", [into]) as command:
        if into == incident_id:
            raise Problem(409, "an incident cannot be merged into itself: name another")
        case, target = command.case, command.others[into]
        if case.state == "merged" and case.merged_into == into:
            return CommandResult(case, is_new=False)
        command.allow()
        command.allow(target)
        _insist_on_one_place(command, case, target)
        said = assess(case.findings).occurred_at
        if said is not None and said != target.anchor.at:
            raise Problem(409, f"the time of {incident_id} was corrected, and {into} has another: correct that first")
        moved = tuple(r.report_id for r in case.reports)
        found = command.finding("merge", reason, into=into, reports=list(moved))
        cause = command.record(
            found,
            lambda head, data: IncidentMerged(**head, data=IncidentMergedData(**data, into=into, reports=moved)),
        )
        timers.end(command.engine, case, "merged", cause)
        case.merged_into = into
        await incident_loading.redirect_merged(command.connection, incident_id, into)
        _take_over(command, case, target, reason)
        command.move(target, moved, cause)
        evaluate(command.engine, target, cause)
    return CommandResult(case, is_new=True)


def _insist_on_one_place(command: CommandContext, case: Case, target: Case) -> None:
    """Raise Problem 409 unless both are real, or both exercises, and their units are one place."""
    if case.anchor.exercise != target.anchor.exercise:
        raise Problem(409, f"only one of {case.incident_id} and {target.incident_id} is an exercise: correct one first")
    if not command.engine.is_one_place(case, target):
        wards = f"{case.unit.code} of {case.unit.valid_from} and {target.unit.code} of {target.unit.valid_from}"
        way = (
            "correct the ward of one; if one took a part of the other, transfer the incident of the divided ward to it"
        )
        raise Problem(409, f"the wards {wards} are not one place, for neither took the whole of the other's: {way}")


def _take_over(command: CommandContext, case: Case, target: Case, reason: str) -> None:
    """Give the reports of `case` to `target`, and its findings where they still hold, so that none is lost.

    That firecrackers did not explode was found about the reports of `case` only, and is not carried over.
    """
    mine, theirs = assess(case.findings), assess(target.findings)
    known = [effective_harm(inputs_of(command.engine, each)) for each in (case, target)]
    target.reports += case.reports
    if mine.harm or theirs.harm:
        before = command.engine.policy_of(target).severity_of(known[1])
        record_revision(command, target, reason, combined_harm(known), previous=before)
    exploded = mine.firecrackers_exploded or None
    if (mine.verified and not theirs.verified) or (exploded and not theirs.firecrackers_exploded):
        record_verification(command, target, reason, exploded=exploded)
    if mine.designated and not theirs.designated:
        record_designation(command, target, reason, prominent=True)

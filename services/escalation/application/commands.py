"""What people do about an incident: verify, dismiss, designate, revise, merge, split, hand off, respond, close, reopen.

Each is one transaction: refused with the reason, or recorded as a finding with its event, and the rule evaluated again.
The same said twice is recorded once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.escalation.application.command_context import CommandContext, command_context, insist
from services.escalation.application.escalation import Escalation, record_of
from services.escalation.domain.directory.model import DESK, UnitKey, key_of
from services.escalation.domain.incidents import lifecycle, timers
from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.finding import assess, last
from services.escalation.domain.incidents.incident import Case
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.rules.accountability import combined_harm, effective_harm, lowered
from services.escalation.store import incident_loading
from shared.events import (
    ClosureProposed,
    FindingData,
    Harm,
    IncidentClosed,
    IncidentDesignated,
    IncidentDesignatedData,
    IncidentDismissed,
    IncidentHandedOff,
    IncidentHandedOffData,
    IncidentMerged,
    IncidentMergedData,
    IncidentReopened,
    IncidentSplit,
    IncidentSplitData,
    IncidentVerified,
    IncidentVerifiedData,
    ResponseRecorded,
    SeverityRevised,
    SeverityRevisedData,
    UnitRef,
)
from shared.http.identity import Principal
from shared.http.problem import Problem
from shared.taxonomy import categories


@dataclass(frozen=True)
class CommandResult:
    """What became of a command; `is_new` is False where the same had been said before."""

    case: Case
    is_new: bool
    new_incident: str | None = None


async def verify(
    escalation: Escalation,
    incident_id: str,
    caller: Principal,
    reason: str,
    *,
    firecrackers_exploded: bool | None = None,
    reclassified: str | None = None,
) -> CommandResult:
    """It happened, as the desk found out; with an answer to whether firecrackers exploded, and to what it was."""
    async with command_context(escalation, incident_id, caller, "verify") as command:
        command.allow()
        case = command.case
        if reclassified is not None and categories()[reclassified].family != case.anchor.family:
            same = [c.code for c in categories().values() if c.family == case.anchor.family]
            raise Problem(409, f"category {reclassified} is of another kind: one of {', '.join(same)}, or dismiss it")
        cause = _verified(command, case, reason, exploded=firecrackers_exploded, reclassified=reclassified)
        if cause is not None:
            command.engine.evaluate(case, cause)
    return CommandResult(case, cause is not None)


def _verified(
    command: CommandContext, case: Case, reason: str, *, exploded: bool | None, reclassified: str | None = None
) -> str | None:
    """Id of the event; None where the same had been said before."""
    found = command.finding("verification", reason, firecrackers_exploded=exploded, reclassified=reclassified)
    if command.said_before(found, case):
        return None
    case.category = reclassified or case.category
    return command.record(
        found,
        lambda d: IncidentVerified(
            **command.envelope(case),
            data=IncidentVerifiedData(**d, firecrackers_exploded=exploded, reclassified=reclassified),
        ),
        case,
    )


async def dismiss(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """It did not happen, or is no incident."""
    async with command_context(escalation, incident_id, caller, "dismiss") as command:
        found = command.finding("dismissal", reason)
        if command.case.state == "dismissed" and command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.allow()
        command.record(found, lambda d: IncidentDismissed(**command.envelope(), data=FindingData(**d)))
        timers.end(command.engine, command.case, "dismissed")
    return CommandResult(command.case, is_new=True)


async def designate(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, *, prominent: bool
) -> CommandResult:
    """ "Nổi cộm", or no longer."""
    async with command_context(escalation, incident_id, caller, "designate") as command:
        command.allow()
        cause = _designated(command, command.case, reason, prominent=prominent)
        if cause is not None:
            command.engine.evaluate(command.case, cause)
    return CommandResult(command.case, cause is not None)


def _designated(command: CommandContext, case: Case, reason: str, *, prominent: bool) -> str | None:
    """As `_verified`."""
    found = command.finding("designation", reason, prominent=prominent)
    if command.said_before(found, case):
        return None
    return command.record(
        found,
        lambda d: IncidentDesignated(**command.envelope(case), data=IncidentDesignatedData(**d, prominent=prominent)),
        case,
    )


async def revise(escalation: Escalation, incident_id: str, caller: Principal, reason: str, harm: Harm) -> CommandResult:
    """New figures of harm: the desk's replace what was known, a ward's own can only add to it."""
    async with command_context(escalation, incident_id, caller, "revise") as command:
        command.allow()
        case = command.case
        rulebook = command.engine.policy_of(case)
        known = effective_harm(command.engine.inputs(case))
        before = rulebook.severity_of(known)
        if caller.role != "desk":
            if less := lowered(harm, known):
                raise Problem(403, f"{', '.join(less)} is less than is known: only the desk may lower it")
            harm = combined_harm([known, harm])
        severity = rulebook.severity_of(harm)
        if caller.role != "desk" and lifecycle.lowers(severity, before):
            raise Problem(403, f"severity {severity} is below {before or 'unknown'}: only the desk may lower it")
        cause = _revised(command, case, reason, harm, previous=before)
        if cause is not None:
            command.engine.evaluate(case, cause)
    return CommandResult(case, cause is not None)


def _revised(command: CommandContext, case: Case, reason: str, harm: Harm, *, previous: int | None) -> str | None:
    """As `_verified`. The figures stand for all reports that the case holds."""
    until = max(r.received_at for r in case.reports).isoformat()
    found = command.finding("severity", reason, harm=harm.model_dump(exclude_none=True), until=until)
    if command.said_before(found, case):
        return None
    severity = command.engine.policy_of(case).severity_of(harm)
    return command.record(
        found,
        lambda d: SeverityRevised(
            **command.envelope(case), data=SeverityRevisedData(**d, harm=harm, severity=severity, previous=previous)
        ),
        case,
    )


async def merge(escalation: Escalation, incident_id: str, caller: Principal, reason: str, into: str) -> CommandResult:
    """Its reports are about what incident `into` is about; later ones of either join `into`."""
    async with command_context(escalation, incident_id, caller, "merge", [into]) as command:
        if into == incident_id:
            raise Problem(409, "an incident cannot be merged into itself: name another")
        case, target = command.case, command.others[into]
        if case.state == "merged" and case.merged_into == into:
            return CommandResult(case, is_new=False)
        command.allow()
        command.allow(target)
        if (case.anchor.unit, case.anchor.exercise) != (target.anchor.unit, target.anchor.exercise):
            raise Problem(409, f"incident {into} is of another ward, or only one is an exercise: link them instead")
        moved = tuple(r.report_id for r in case.reports)
        found = command.finding("merge", reason, into=into, reports=list(moved))
        cause = command.record(
            found,
            lambda d: IncidentMerged(**command.envelope(), data=IncidentMergedData(**d, into=into, reports=moved)),
        )
        timers.end(command.engine, case, "merged")
        case.merged_into = into
        await incident_loading.redirect_merged(command.connection, incident_id, into)
        _take_over(command, case, target, reason)
        command.move(target, moved, cause)
        command.engine.evaluate(target, cause)
    return CommandResult(case, is_new=True)


def _take_over(command: CommandContext, case: Case, target: Case, reason: str) -> None:
    """The reports of `case`, and what was found about it: it holds of both now, so that no merge takes it away.

    That firecrackers did not explode is found about its own reports only.
    """
    mine, theirs = assess(case.findings), assess(target.findings)
    known = [effective_harm(command.engine.inputs(each)) for each in (case, target)]
    target.reports += case.reports
    if mine.harm or theirs.harm:
        before = command.engine.policy_of(target).severity_of(known[1])
        _revised(command, target, reason, combined_harm(known), previous=before)
    exploded = mine.firecrackers_exploded or None
    if (mine.verified and not theirs.verified) or (exploded and not theirs.firecrackers_exploded):
        _verified(command, target, reason, exploded=exploded)
    if mine.designated and not theirs.designated:
        _designated(command, target, reason, prominent=True)


async def split(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, reports: Sequence[str]
) -> CommandResult:
    """These reports are about something else: a new incident of their own, decided anew, as is what remains."""
    async with command_context(escalation, incident_id, caller, "split") as command:
        case = command.case
        command.allow()
        wanted = set(reports)
        moved = [r for r in case.reports if r.report_id in wanted]
        earlier = last(case.findings, "split")
        if earlier is not None and set(earlier.content["reports"]) == wanted and not moved:
            return CommandResult(case, is_new=False, new_incident=earlier.content["new_incident"])
        if strange := sorted(wanted - {r.report_id for r in moved}):
            raise Problem(409, f"report {strange[0]} is not one of this incident: name reports that it holds")
        if not moved or len(moved) == len(case.reports):
            raise Problem(409, "a split leaves at least one report on each side: name some of its reports, not all")
        occurrence: Occurrence = await incident_loading.occurrence_of_report(
            command.connection, moved[0].report_id, case.anchor
        )
        new = command.engine.open(occurrence, case.unit, moved[0].category)
        new.reports = moved
        first = case.reports[0]
        case.reports = [r for r in case.reports if r.report_id not in wanted]
        if case.reports[0] is not first:
            await _anchor_anew(command, case)
        ids = tuple(r.report_id for r in moved)
        found = command.finding("split", reason, new_incident=new.incident_id, reports=sorted(wanted))
        cause = command.record(
            found,
            lambda d: IncidentSplit(
                **command.envelope(), data=IncidentSplitData(**d, new_incident=new.incident_id, reports=ids)
            ),
        )
        command.move(new, ids, cause)
        command.move(case, (), cause)
        command.engine.changes.related.append((new.incident_id, case.incident_id, "split"))
        command.engine.evaluate(new, cause)
        command.engine.evaluate(case, cause)
    return CommandResult(case, is_new=True, new_incident=new.incident_id)


async def _anchor_anew(command: CommandContext, case: Case) -> None:
    """Its first report is another now: that one says when, where and what it was, and so which rulebook decides."""
    first = case.reports[0]
    case.anchor = await incident_loading.occurrence_of_report(command.connection, first.report_id, case.anchor)
    case.category = assess(case.findings).reclassified or first.category
    case.rulebook_version = None


async def hand_off(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """To the police, which ends it here."""
    async with command_context(escalation, incident_id, caller, "hand_off") as command:
        found = command.finding("hand_off", reason, to="police")
        if command.case.state == "handed_off" and command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.allow()
        command.record(
            found, lambda d: IncidentHandedOff(**command.envelope(), data=IncidentHandedOffData(**d, to="police"))
        )
        timers.end(command.engine, command.case, "handed_off")
    return CommandResult(command.case, is_new=True)


async def reassign(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, code_and_day: UnitKey
) -> CommandResult:
    """To one of the units that took parts of a unit that ended; its post-holders are told."""
    async with command_context(escalation, incident_id, caller, "reassign", (), code_and_day) as command:
        command.allow()
        case = command.case
        successor = _successor(command.engine, case, code_and_day)
        found = command.finding("reassignment", reason, to=successor.model_dump(mode="json"))
        if command.said_before(found):
            return CommandResult(case, is_new=False)
        cause = command.record(
            found,
            lambda d: IncidentHandedOff(
                **command.envelope(), data=IncidentHandedOffData(**d, to="unit", successor=successor)
            ),
        )
        command.engine.evaluate(case, cause)
    return CommandResult(case, is_new=True)


def _successor(engine: IncidentEngine, case: Case, wanted: UnitKey) -> UnitRef:
    """Raises Problem 409 unless `wanted` took a part of the incident's unit."""
    possible = engine.lineage(case).parts
    for unit in possible:
        if key_of(unit) == wanted:
            return unit
    names = ", ".join(f"{u.code} of {u.valid_from} ({u.name})" for u in possible) or "none, for no unit was divided"
    raise Problem(409, f"unit {wanted[0]} of {wanted[1]} did not take its place; possible are: {names}")


async def respond(escalation: Escalation, incident_id: str, caller: Principal, text: str) -> CommandResult:
    """What was done on the spot."""
    async with command_context(escalation, incident_id, caller, "respond") as command:
        command.allow()
        found = command.finding("response", text)
        if command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.record(found, lambda d: ResponseRecorded(**command.envelope(), data=FindingData(**d)))
        command.case.state = lifecycle.after("respond", command.case.state)
    return CommandResult(command.case, is_new=True)


async def propose_closure(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """The ward holds it to be over; the desk is told, and decides."""
    async with command_context(escalation, incident_id, caller, "propose_closure") as command:
        found = command.finding("closure_proposal", reason)
        if command.case.state == "closure_proposed" and command.said_before(found):
            return CommandResult(command.case, is_new=False)
        command.allow()
        cause = command.record(found, lambda d: ClosureProposed(**command.envelope(), data=FindingData(**d)))
        command.case.state = lifecycle.after("propose_closure", command.case.state)
        command.engine.issue(command.case, Notice(DESK, "closure"), None, cause)
    return CommandResult(command.case, is_new=True)


async def close(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """The city confirms that it is over."""
    async with command_context(escalation, incident_id, caller, "close") as command:
        case = command.case
        found = command.finding("closure", reason)
        if case.state == "closed" and command.said_before(found):
            return CommandResult(case, is_new=False)
        command.allow()
        insist(lifecycle.may_close(record_of(case), asked="acknowledge" in case.pending))
        command.record(found, lambda d: IncidentClosed(**command.envelope(), data=FindingData(**d)))
        timers.end(command.engine, case, "closed")
    return CommandResult(case, is_new=True)


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

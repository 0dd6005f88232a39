"""What people do about an incident: verify, dismiss, designate, revise, merge, split, hand off, respond, close, reopen.

Each is one transaction: refused with the reason, or recorded as a finding with its event, and the rule evaluated again.
The same said twice is recorded once.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation import chain, lifecycle
from services.escalation.accountability import combined_harm, effective_harm, lowered
from services.escalation.case import Case, about
from services.escalation.correlation import Happening
from services.escalation.digest import digest_of
from services.escalation.directory import UnitKey, key_of
from services.escalation.finding import Finding, Kind, last
from services.escalation.handlers import Escalation, count, record_of
from services.escalation.lifecycle import Action, Refused
from services.escalation.notification import DESK
from services.escalation.routing import Router
from services.escalation.store import cases
from shared.events import (
    ClosureProposed,
    Event,
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
    ReportCorrelated,
    ReportCorrelatedData,
    ResponseRecorded,
    SeverityRevised,
    SeverityRevisedData,
    UnitRef,
)
from shared.identity import Principal
from shared.problem import Problem
from shared.taxonomy import categories


@dataclass(frozen=True)
class Done:
    """What became of a command; `is_new` is False where the same had been said before."""

    case: Case
    is_new: bool
    new_incident: str | None = None


@dataclass
class Desk:
    """One command in its transaction: the cases it is about, and the router that writes what follows."""

    escalation: Escalation
    connection: AsyncConnection
    router: Router
    caller: Principal
    action: Action
    case: Case
    others: dict[str, Case]

    def allow(self, case: Case | None = None) -> None:
        """Raises Problem 409 with the reason if the incident is not in a state for the action."""
        _raise(lifecycle.refusal(self.action, self.caller.role, (case or self.case).state))

    def finding(self, kind: Kind, reason: str | None, **content: Any) -> Finding:
        return Finding(
            finding_id=self.escalation.new_id(),
            kind=kind,
            author=self.caller.subject,
            role=self.caller.role,
            content=content,
            reason=reason,
            made_at=self.router.now,
        )

    def said_before(self, found: Finding, case: Case | None = None) -> bool:
        """The latest of its kind says the same, and nothing was reopened since."""
        findings = (case or self.case).findings
        earlier = last(findings, found.kind)
        reopened = last(findings, "reopening")
        since = earlier is not None and (reopened is None or earlier.made_at >= reopened.made_at)
        return earlier is not None and since and earlier.says_the_same(found)

    def record(self, found: Finding, event: Callable[[dict[str, Any]], Event], case: Case | None = None) -> None:
        case = case or self.case
        case.findings.append(found)
        case.digest = case.digest.model_copy(update={"assessed": True})
        self.router.out.cases[case.incident_id] = case
        self.router.out.findings.append((case, found))
        shared = about(case, None) | {
            "finding_id": found.finding_id,
            "author": found.author,
            "role": found.role,
            "reason": self.escalation.committed(found.reason),
        }
        self.router.emit(event(shared))

    def move(self, case: Case, report_ids: Sequence[str]) -> None:
        """`report_ids` are now among the reports of `case`, which are stored in their order; receipts follow."""
        self.router.out.moved.append((case, tuple(r.report_id for r in case.reports)))
        held = case.digest
        case.digest = digest_of(case.reports, assessed=held.assessed, suggested=held.suggested)
        for report_id in report_ids:
            data = ReportCorrelatedData(**about(case, None), report_id=report_id, outcome="merged")
            self.router.emit(ReportCorrelated(**self.envelope(case), data=data))

    def envelope(self, case: Case | None = None) -> dict[str, Any]:
        return self.router.envelope(case or self.case)


@asynccontextmanager
async def at_desk(
    escalation: Escalation,
    incident_id: str,
    caller: Principal,
    action: Action,
    others: Sequence[str] = (),
    *more: UnitKey,
) -> AsyncGenerator[Desk]:
    """The incident and `others`, locked with their units; leaving writes what was done.

    Raises Problem 403 for a role that never may, and 404.
    """
    _raise(lifecycle.forbidden(action, caller.role))
    async with escalation.engine.begin() as connection:
        units: set[UnitKey] = set(more)
        for id_ in (incident_id, *others):
            unit = await cases.unit_of(connection, id_)
            if unit is None:
                raise _not_seen(id_)
            units.add(unit)
        await cases.lock_units(connection, [code for code, _ in units])
        # merging changes these too: locked in one order with the others, so that nothing deadlocks
        merged = await cases.merged_into(connection, incident_id) if action == "merge" else []
        wanted = {incident_id, *others}
        locked = await cases.locked(connection, [*wanted, *merged])
        found = await cases.with_history(connection, [case for case in locked if case.incident_id in wanted])
        by_id = {case.incident_id: case for case in found}
        if caller.role in {"official", "officer"} and caller.ward not in _wards(by_id[incident_id]):
            raise _not_seen(incident_id)
        units |= {key_of(case.successor) for case in found if case.successor}
        router = await escalation.router(connection, units)
        yield Desk(escalation, connection, router, caller, action, by_id.pop(incident_id), by_id)
        if router.out.cases:
            await escalation.save(connection, router.out, router.now)
    count(router.out)
    escalation.wake()


def _raise(refused: Refused | None) -> None:
    if refused is not None:
        raise Problem(refused.status, refused.reason)


def _not_seen(incident_id: str) -> Problem:
    """The same whether it does not exist or is another ward's."""
    return Problem(404, f"there is no incident {incident_id} that you may see")


def _wards(case: Case) -> set[str]:
    return {case.unit.code} | ({case.successor.code} if case.successor else set[str]())


async def verify(
    escalation: Escalation,
    incident_id: str,
    caller: Principal,
    reason: str,
    *,
    firecrackers_exploded: bool | None = None,
    reclassified: str | None = None,
) -> Done:
    """It happened, as the desk found out; with an answer to whether firecrackers exploded, and to what it was."""
    async with at_desk(escalation, incident_id, caller, "verify") as desk:
        desk.allow()
        case = desk.case
        if reclassified is not None and categories()[reclassified].family != case.anchor.family:
            same = [c.code for c in categories().values() if c.family == case.anchor.family]
            raise Problem(409, f"category {reclassified} is of another kind: one of {', '.join(same)}, or dismiss it")
        exploded = firecrackers_exploded
        found = desk.finding("verification", reason, firecrackers_exploded=exploded, reclassified=reclassified)
        if desk.said_before(found):
            return Done(case, is_new=False)
        case.category = reclassified or case.category
        desk.record(
            found,
            lambda d: IncidentVerified(
                **desk.envelope(),
                data=IncidentVerifiedData(**d, firecrackers_exploded=exploded, reclassified=reclassified),
            ),
        )
        desk.router.evaluate(case, None)
    return Done(case, is_new=True)


async def dismiss(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> Done:
    """It did not happen, or is no incident."""
    async with at_desk(escalation, incident_id, caller, "dismiss") as desk:
        found = desk.finding("dismissal", reason)
        if desk.case.state == "dismissed" and desk.said_before(found):
            return Done(desk.case, is_new=False)
        desk.allow()
        desk.record(found, lambda d: IncidentDismissed(**desk.envelope(), data=FindingData(**d)))
        chain.end(desk.router, desk.case, "dismissed")
    return Done(desk.case, is_new=True)


async def designate(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, *, prominent: bool
) -> Done:
    """ "Nổi cộm", or no longer."""
    async with at_desk(escalation, incident_id, caller, "designate") as desk:
        desk.allow()
        found = desk.finding("designation", reason, prominent=prominent)
        if desk.said_before(found):
            return Done(desk.case, is_new=False)
        desk.record(
            found,
            lambda d: IncidentDesignated(**desk.envelope(), data=IncidentDesignatedData(**d, prominent=prominent)),
        )
        desk.router.evaluate(desk.case, None)
    return Done(desk.case, is_new=True)


async def revise(escalation: Escalation, incident_id: str, caller: Principal, reason: str, harm: Harm) -> Done:
    """New figures of harm: the desk's replace what was known, a ward's own can only add to it."""
    async with at_desk(escalation, incident_id, caller, "revise") as desk:
        desk.allow()
        case = desk.case
        rulebook = desk.router.policy_of(case)
        known = effective_harm(desk.router.inputs(case))
        before = rulebook.severity_of(known)
        if caller.role != "desk":
            if less := lowered(harm, known):
                raise Problem(403, f"{', '.join(less)} is less than is known: only the desk may lower it")
            harm = combined_harm([known, harm])
        severity = rulebook.severity_of(harm)
        if caller.role != "desk" and lifecycle.lowers(severity, before):
            raise Problem(403, f"severity {severity} is below {before or 'unknown'}: only the desk may lower it")
        until = max(r.received_at for r in case.reports).isoformat()
        found = desk.finding("severity", reason, harm=harm.model_dump(exclude_none=True), until=until)
        if desk.said_before(found):
            return Done(case, is_new=False)
        desk.record(
            found,
            lambda d: SeverityRevised(
                **desk.envelope(), data=SeverityRevisedData(**d, harm=harm, severity=severity, previous=before)
            ),
        )
        desk.router.evaluate(case, None)
    return Done(case, is_new=True)


async def merge(escalation: Escalation, incident_id: str, caller: Principal, reason: str, into: str) -> Done:
    """Its reports are about what incident `into` is about; later ones of either join `into`."""
    async with at_desk(escalation, incident_id, caller, "merge", [into]) as desk:
        if into == incident_id:
            raise Problem(409, "an incident cannot be merged into itself: name another")
        case, target = desk.case, desk.others[into]
        if case.state == "merged" and case.merged_into == into:
            return Done(case, is_new=False)
        desk.allow()
        desk.allow(target)
        if (case.anchor.unit, case.anchor.exercise) != (target.anchor.unit, target.anchor.exercise):
            raise Problem(409, f"incident {into} is of another ward, or only one is an exercise: link them instead")
        moved = tuple(r.report_id for r in case.reports)
        found = desk.finding("merge", reason, into=into, reports=list(moved))
        desk.record(
            found, lambda d: IncidentMerged(**desk.envelope(), data=IncidentMergedData(**d, into=into, reports=moved))
        )
        chain.end(desk.router, case, "merged")
        case.merged_into = into
        await cases.redirect_merged(desk.connection, incident_id, into)
        target.reports += case.reports
        desk.move(target, moved)
        desk.router.evaluate(target, None)
    return Done(case, is_new=True)


async def split(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, reports: Sequence[str]
) -> Done:
    """These reports are about something else: a new incident of their own, decided anew, as is what remains."""
    async with at_desk(escalation, incident_id, caller, "split") as desk:
        case = desk.case
        desk.allow()
        wanted = set(reports)
        moved = [r for r in case.reports if r.report_id in wanted]
        earlier = last(case.findings, "split")
        if earlier is not None and set(earlier.content["reports"]) == wanted and not moved:
            return Done(case, is_new=False, new_incident=earlier.content["new_incident"])
        if strange := sorted(wanted - {r.report_id for r in moved}):
            raise Problem(409, f"report {strange[0]} is not one of this incident: name reports that it holds")
        if not moved or len(moved) == len(case.reports):
            raise Problem(409, "a split leaves at least one report on each side: name some of its reports, not all")
        happening: Happening = await cases.happening_of_report(desk.connection, moved[0].report_id, case.anchor)
        new = desk.router.open(happening, case.unit, moved[0].category)
        new.reports = moved
        case.reports = [r for r in case.reports if r.report_id not in wanted]
        ids = tuple(r.report_id for r in moved)
        desk.move(new, ids)
        desk.move(case, ())
        found = desk.finding("split", reason, new_incident=new.incident_id, reports=sorted(wanted))
        desk.record(
            found,
            lambda d: IncidentSplit(
                **desk.envelope(), data=IncidentSplitData(**d, new_incident=new.incident_id, reports=ids)
            ),
        )
        desk.router.out.links.append((new.incident_id, case.incident_id, "split"))
        desk.router.evaluate(new, None)
        desk.router.evaluate(case, None)
    return Done(case, is_new=True, new_incident=new.incident_id)


async def hand_off(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> Done:
    """To the police, which ends it here."""
    async with at_desk(escalation, incident_id, caller, "hand_off") as desk:
        found = desk.finding("hand_off", reason, to="police")
        if desk.case.state == "handed_off" and desk.said_before(found):
            return Done(desk.case, is_new=False)
        desk.allow()
        desk.record(found, lambda d: IncidentHandedOff(**desk.envelope(), data=IncidentHandedOffData(**d, to="police")))
        chain.end(desk.router, desk.case, "handed_off")
    return Done(desk.case, is_new=True)


async def reassign(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, code_and_day: UnitKey
) -> Done:
    """To one of the units that took parts of a unit that ended; its post-holders are told."""
    async with at_desk(escalation, incident_id, caller, "reassign", (), code_and_day) as desk:
        desk.allow()
        case = desk.case
        successor = _successor(desk.router, case, code_and_day)
        if successor == case.successor:
            return Done(case, is_new=False)
        found = desk.finding("reassignment", reason, to=successor.model_dump(mode="json"))
        desk.record(
            found,
            lambda d: IncidentHandedOff(
                **desk.envelope(), data=IncidentHandedOffData(**d, to="unit", successor=successor)
            ),
        )
        case.successor = successor
        desk.router.evaluate(case, None)
    return Done(case, is_new=True)


def _successor(router: Router, case: Case, wanted: UnitKey) -> UnitRef:
    """Raises Problem 409 unless `wanted` took a part of the incident's unit."""
    possible = _parts(router, case)
    for unit in possible:
        if key_of(unit) == wanted:
            return unit
    names = ", ".join(f"{u.code} of {u.valid_from} ({u.name})" for u in possible) or "none, for the unit has not ended"
    raise Problem(409, f"unit {wanted[0]} of {wanted[1]} did not take its place; possible are: {names}")


def _parts(router: Router, case: Case) -> tuple[UnitRef, ...]:
    """What took the place of the unit that acts; if that is in force, also what took the first one's: a correction."""
    for ref in (case.successor or case.unit, case.unit):
        unit = router.directory.units.get(key_of(ref))
        if unit is not None and unit.ended(router.now) and unit.successors:
            return unit.successors
    return ()


async def respond(escalation: Escalation, incident_id: str, caller: Principal, text: str) -> Done:
    """What was done on the spot."""
    async with at_desk(escalation, incident_id, caller, "respond") as desk:
        desk.allow()
        found = desk.finding("response", text)
        if desk.said_before(found):
            return Done(desk.case, is_new=False)
        desk.record(found, lambda d: ResponseRecorded(**desk.envelope(), data=FindingData(**d)))
        desk.case.state = lifecycle.after("respond", desk.case.state)
    return Done(desk.case, is_new=True)


async def propose_closure(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> Done:
    """The ward holds it to be over; the desk is told, and decides."""
    async with at_desk(escalation, incident_id, caller, "propose_closure") as desk:
        found = desk.finding("closure_proposal", reason)
        if desk.case.state == "closure_proposed" and desk.said_before(found):
            return Done(desk.case, is_new=False)
        desk.allow()
        desk.record(found, lambda d: ClosureProposed(**desk.envelope(), data=FindingData(**d)))
        desk.case.state = lifecycle.after("propose_closure", desk.case.state)
        desk.router.tell_office(desk.case, DESK, "closure", ())
    return Done(desk.case, is_new=True)


async def close(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> Done:
    """The city confirms that it is over."""
    async with at_desk(escalation, incident_id, caller, "close") as desk:
        case = desk.case
        found = desk.finding("closure", reason)
        if case.state == "closed" and desk.said_before(found):
            return Done(case, is_new=False)
        desk.allow()
        _raise(lifecycle.may_close(case.state, record_of(case), asked="acknowledge" in case.pending))
        desk.record(found, lambda d: IncidentClosed(**desk.envelope(), data=FindingData(**d)))
        chain.end(desk.router, case, "closed")
    return Done(case, is_new=True)


async def reopen(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> Done:
    """It is not over, or was not false: everybody is told again."""
    async with at_desk(escalation, incident_id, caller, "reopen") as desk:
        case = desk.case
        found = desk.finding("reopening", reason)
        if case.is_open and desk.said_before(found):
            return Done(case, is_new=False)
        desk.allow()
        desk.record(found, lambda d: IncidentReopened(**desk.envelope(), data=FindingData(**d)))
        case.state = lifecycle.after("reopen", case.state)
        chain.begin_round(desk.router, case)
        desk.router.evaluate(case, None)
        if record_of(case).outcome != "does_not_apply":
            chain.ask_again(desk.router, case, None)
    return Done(case, is_new=True)

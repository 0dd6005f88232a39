"""The context of a command: check the caller, lock and load the incidents, record what was done, and save it.

A command is one transaction.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.access import insist_on_sight, sight_of, unknown
from services.escalation.application.escalation import Escalation, salted
from services.escalation.application.fire_timers import fire_missed, mark_missed
from services.escalation.domain.directory.model import UnitKey, answers, key_of
from services.escalation.domain.directory.places import Sight
from services.escalation.domain.envelope import Envelope
from services.escalation.domain.incidents import after_end, lifecycle, timers
from services.escalation.domain.incidents.engine import BuildEvent, IncidentEngine
from services.escalation.domain.incidents.finding import Finding, FindingKind
from services.escalation.domain.incidents.incident import Case, EventData
from services.escalation.domain.incidents.lifecycle import Action, Refused
from services.escalation.domain.incidents.report_summary import summary_of
from services.escalation.store import correlation, incident_loading
from shared.commitment import Committed
from shared.events import (
    Event,
    ReportCorrelated,
    ReportCorrelatedData,
)
from shared.http.identity import Principal
from shared.http.problem import Problem


class FindingEventData(EventData):
    """The data that all events of a finding have in common."""

    finding_id: str
    author: str
    role: str
    reason: Committed | None


BuildFindingEvent = Callable[[Envelope, FindingEventData], Event]
"""Builds the event of a finding from its envelope and the common data."""


@dataclass(frozen=True)
class CommandResult:
    """The result of a command. `is_new`: False if the same was recorded before."""

    case: Case
    is_new: bool
    new_incident: str | None = None


@dataclass
class CommandContext:
    """One command in its transaction: its incidents, and the engine that collects the changes."""

    escalation: Escalation
    connection: AsyncConnection
    engine: IncidentEngine
    caller: Principal
    action: Action
    case: Case
    others: dict[str, Case]

    def allow(self, case: Case | None = None) -> None:
        """Raise Problem 409 with the reason if the incident's state does not allow the action."""
        insist(lifecycle.refusal(self.action, self.caller.role, (case or self.case).state))

    def end(
        self,
        found: Finding,
        build: BuildFindingEvent,
        state: Literal["closed", "dismissed", "handed_off"],
        check: Callable[[], None] | None = None,
    ) -> CommandResult:
        """Record the finding and end the incident.

        If it ended so before and the desk is asked about reports that came after that, the finding says that the end
        stands. `check`: raises Problem if the incident may not be ended.
        """
        case = self.case
        if case.state == state and case.late_reports_waiting:
            self.record(found, build)
            after_end.stands(self.engine, case)
            return CommandResult(case, is_new=True)
        if case.state == state and self.said_before(found):
            return CommandResult(case, is_new=False)
        self.allow()
        if check is not None:
            check()
        timers.end(self.engine, case, state, self.record(found, build))
        return CommandResult(case, is_new=True)

    def finding(self, kind: FindingKind, reason: str | None, **content: Any) -> Finding:
        return Finding(
            finding_id=self.escalation.new_id(),
            kind=kind,
            author=self.caller.subject,
            role=self.caller.role,
            content=content,
            reason=reason,
            made_at=self.engine.now,
        )

    def said_before(self, found: Finding, case: Case | None = None) -> bool:
        """Return whether the latest finding of this kind says the same, with no reopening since."""
        findings = (case or self.case).findings
        latest = {f.kind: place for place, f in enumerate(findings)}
        earlier = latest.get(found.kind)
        if earlier is None or earlier < latest.get("reopening", 0):
            return False
        return findings[earlier].says_the_same(found)

    def record(self, found: Finding, build: BuildFindingEvent, case: Case | None = None) -> str:
        """Record a finding. Returns the id of its event."""
        case = case or self.case
        case.findings.append(found)
        # no suggestion to the desk for what it has looked at; a finding by the ward does not prevent one
        seen = {"suggested": True} if self.caller.role == "desk" else {}
        case.summary = case.summary.model_copy(update={"assessed": True} | seen)
        self.engine.changes.findings.append((case, found))
        reason = salted(found.reason)
        # an officer by pseudonym, as `who` of the event names them
        author = self.caller.who(self.escalation.pseudonym_key).subject
        return self.engine.emit(
            case,
            lambda head, data: build(
                head,
                {**data, "finding_id": found.finding_id, "author": author, "role": found.role, "reason": reason},
            ),
        )

    def move(self, case: Case, report_ids: Sequence[str], cause: str) -> None:
        """Store the reports of `case` under it in their order, and record that it now has `report_ids`.

        Intake updates the receipts by these events. `cause`: id of the event that led to the move.
        """
        self.engine.changes.moved.append((case, tuple(r.report_id for r in case.reports)))
        held = case.summary
        case.summary = summary_of(case.reports, assessed=held.assessed, suggested=held.suggested)
        for report_id in report_ids:
            self.engine.emit(case, _correlated(report_id), cause=cause)


def _correlated(report_id: str) -> BuildEvent:
    return lambda head, data: ReportCorrelated(
        **head, data=ReportCorrelatedData(**data, report_id=report_id, outcome="merged")
    )


@asynccontextmanager
async def command_context(
    escalation: Escalation,
    incident_id: str,
    caller: Principal,
    action: Action,
    others: Sequence[str] = (),
    *more: UnitKey,
) -> AsyncGenerator[CommandContext]:
    """Lock the incident, `others` and their units, and yield the context. Leaving it saves the changes.

    `more`: further units to lock and load. Raises Problem 403 if the caller may not give the command, and 404 for an
    unknown incident, but 403 to whoever is bound to a ward.
    """
    insist(lifecycle.forbidden(action, caller.role))
    escalation = escalation.by(caller)
    async with escalation.database.begin() as connection:
        sight = await sight_of(connection, escalation, caller)
        units = await _lock_units(connection, sight, (incident_id, *others), more)
        # A merge changes these as well. All are locked in one order, so that nothing deadlocks.
        merged = await incident_loading.merged_into(connection, incident_id) if action == "merge" else []
        wanted = {incident_id, *others}
        locked = await incident_loading.locked(connection, [*wanted, *merged])
        missed = await mark_missed(connection, wanted, escalation.clock.now())
        found = await incident_loading.with_history(connection, [row for row in locked if row.incident_id in wanted])
        by_id = {case.incident_id: case for case in found}
        case = by_id.pop(incident_id)
        await insist_on_sight(connection, sight, incident_id, case.units)
        units |= {key_of(case.successor) for case in found if case.successor}
        engine = await escalation.incident_engine(connection, units)
        for each in (case, *by_id.values()):
            insist(lifecycle.interested(caller.role, caller.subject, each.standing))
        if caller.role == "official":
            _insist_on_post(engine, case, caller)
        await fire_missed(connection, engine, found, missed)
        yield CommandContext(escalation, connection, engine, caller, action, case, by_id)
        if engine.changes.incidents:
            await escalation.save(connection, engine.changes, engine.now)
    escalation.committed(engine.changes)


async def _lock_units(
    connection: AsyncConnection, sight: Sight | None, incident_ids: Collection[str], more: Collection[UnitKey]
) -> set[UnitKey]:
    """Lock the units of these incidents and `more`, and return them. Raises Problem for an unknown incident.

    A correction may move an incident while we wait for the lock of its unit, so they are looked up again.
    """
    locked: set[UnitKey] = set()
    while True:
        units = await incident_loading.units_of(connection, incident_ids)
        if missing := [id_ for id_ in incident_ids if id_ not in units]:
            raise unknown(sight, f"incident {missing[0]}")
        wanted = {*units.values(), *more}
        if wanted <= locked:
            return locked
        await correlation.lock_units(connection, [code for code, _ in wanted])
        locked |= wanted


def insist(refused: Refused | None) -> None:
    """Raise a refusal as a Problem. Does nothing for None."""
    if refused is not None:
        raise Problem(refused.status, refused.reason)


def _insist_on_post(engine: IncidentEngine, case: Case, caller: Principal) -> None:
    """Raise Problem 403 unless the caller answers for their post now. A token may outlast a tenure."""
    acts, held = case.successor or case.unit, engine.tenures(case.unit, case.successor)
    posts = {caller.post} if caller.post else {tenure.post for tenure in held}
    if not any(answers(held, post, caller.subject, engine.now, acts) for post in posts):
        post = f"post {caller.post}" if caller.post else "a post"
        raise Problem(403, f"{caller.subject} does not hold {post} of {acts.name} now, nor stands in there")

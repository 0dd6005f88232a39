"""What escalation does: route a batch of reports, record an acknowledgement, act on passed deadlines.

Each function is one transaction, and safe to run twice.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.escalation.directory import Tenure, holder_at
from services.escalation.notification import DESK
from services.escalation.routing import Case, Channels, Outcome, Router, about, envelope, happening_of
from services.escalation.store import directory, due, incidents, tables
from shared import metrics
from shared.clock import Clock
from shared.events import (
    AcknowledgementRecorded,
    AcknowledgementRecordedData,
    Event,
    ReportReceived,
    StepRaised,
    StepRaisedData,
    encode,
)
from shared.identity import Principal
from shared.ids import uuid7
from shared.messaging import ESCALATION, Outgoing, add, route
from shared.problem import Problem

DEADLINES_AT_ONCE = 500


@dataclass(frozen=True)
class Escalation:
    """What the handlers need: the database, the clock, and where the desk and exercises are told."""

    engine: AsyncEngine
    clock: Clock
    partitions: int
    desk_channel: str
    log_channel: str
    wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called after each commit: the outbox relay and the delivery loop need not wait for their next poll."""

    def new_id(self) -> str:
        return uuid7(self.clock.now())

    def wake(self) -> None:
        for wake in self.wakes:
            wake()

    async def emit(self, connection: AsyncConnection, events: Sequence[Event]) -> None:
        """Put events into the outbox of the caller's transaction, in this order."""
        rows = [
            Outgoing(e.id, route(ESCALATION, e.data.unit.code if e.data.unit else "", self.partitions), encode(e))
            for e in events
        ]
        await add(connection, tables.outbox, rows)

    async def router(self, connection: AsyncConnection, units: Collection[tuple[str, date]]) -> Router:
        now = self.clock.now()
        of_holder = await directory.channels(connection)
        return Router(
            cases={},
            tenures=await directory.tenures(connection, now, units=units),
            rulebooks=await directory.rulebooks(connection),
            unit_kinds=await directory.unit_kinds(connection),
            channels=Channels(of_holder, self.desk_channel, self.log_channel),
            now=now,
            new_id=self.new_id,
        )


async def on_reports(escalation: Escalation, events: Sequence[ReportReceived]) -> None:
    """Route a batch of reports in its order. A report that is known already is left alone."""
    by_id = {event.id: event for event in reversed(events)}
    async with escalation.engine.begin() as connection:
        happenings = {id_: happening_of(event) for id_, event in by_id.items()}
        await incidents.lock_units(connection, [h.unit[0] for h in happenings.values()])
        for known in await incidents.known_events(connection, list(by_id)):
            del by_id[known]
        fresh = [event for event in events if by_id.pop(event.id, None)]
        if not fresh:
            return
        near = [happenings[event.id] for event in fresh]
        router = await escalation.router(connection, {h.unit for h in near})
        window = max(a.rulebook.correlation.window_minutes for a in router.rulebooks)
        for case in await incidents.cases_near(connection, near, timedelta(minutes=window)):
            router.cases.setdefault(case.anchor.key, []).append(case)
        for event in fresh:
            router.route(event)
        await incidents.save(connection, router.out, router.now)
        await escalation.emit(connection, router.out.events)
    _count(router.out)
    escalation.wake()


def _count(out: Outcome) -> None:
    """Exercises are in no count."""
    real = [case for case in out.cases.values() if not case.anchor.exercise]
    new = sum(case.is_new for case in real)
    metrics.incidents.labels("new").inc(new)
    metrics.incidents.labels("merged").inc(sum(not case.anchor.exercise for _, case in out.reports) - new)
    for issued in out.notices:
        if not issued.case.anchor.exercise:
            metrics.notices.labels(issued.notice.purpose).inc()


@dataclass(frozen=True)
class Acknowledged:
    incident: str
    state: str
    is_new: bool
    notices: tuple[str, ...]


async def acknowledge(escalation: Escalation, incident_id: str, caller: Principal) -> Acknowledged:
    """Record that the holder of a post has seen the notice. Raises Problem 403 or 404."""
    async with escalation.engine.begin() as connection:
        case = next(iter(await incidents.locked(connection, [incident_id])), None)
        if case is None or caller.ward != case.unit.code:
            raise Problem(404, f"incident {incident_id} is not one of your ward")
        notices = await incidents.holder_notices(connection, incident_id)
        of_post = [n for n in notices if caller.post in n.posts]
        if not of_post:
            raise Problem(404, f"no notice of incident {incident_id} went to post {caller.post}")
        now = escalation.clock.now()
        tenures = await directory.tenures(connection, now, units=[(case.unit.code, case.unit.valid_from)])
        mine = [n for n in of_post if _is_theirs(n, caller.subject, tenures, now)]
        if not mine:
            raise Problem(403, f"{caller.subject} does not hold post {caller.post} and was not told")
        new = await incidents.acknowledge(connection, [n.notice_id for n in mine], caller.subject, now)
        if new:
            waiting = [n for n in notices if n.acknowledged_at is None and n.notice_id not in new]
            case.state = "notified" if waiting else "acknowledged"
            recorded = [
                _acknowledgement(escalation.new_id(), case, n, caller.subject, now) for n in mine if n.notice_id in new
            ]
            await incidents.set_progress(connection, case)
            await escalation.emit(connection, recorded)
    escalation.wake()
    return Acknowledged(incident_id, case.state, bool(new), tuple(n.notice_id for n in mine))


def _is_theirs(notice: Row[Any], holder: str, tenures: Sequence[Tenure], now: datetime) -> bool:
    """Sent to them; or to a predecessor, and every post it names is theirs now. Nobody answers for another."""
    present = [holder_at(tenures, post, now, now) for post in notice.posts]
    return notice.recipient == holder or all(t is not None and t.holder_id == holder for t in present)


def _acknowledgement(
    event_id: str, case: Case, notice: Row[Any], holder: str, now: datetime
) -> AcknowledgementRecorded:
    data = AcknowledgementRecordedData(
        **about(case, None, {holder, notice.recipient}),
        notice_id=notice.notice_id,
        holder=holder,
        posts=tuple(notice.posts),
        in_time=notice.due_at is None or now <= notice.due_at,
    )
    return AcknowledgementRecorded(**envelope(event_id, case.incident_id, now), data=data)


async def pass_deadlines(escalation: Escalation) -> int:
    """Raise the step of incidents whose deadline has passed; returns how many incidents that were.

    The desk is told once an incident that a holder has not acknowledged; every passed deadline is an event.
    """
    async with escalation.engine.begin() as connection:
        now = escalation.clock.now()
        ids = await due.claim_passed(connection, now, DEADLINES_AT_ONCE)
        if not ids:
            return 0
        passed = await due.pass_deadlines(connection, ids, now)
        found = await incidents.with_history(connection, await incidents.locked(connection, ids))
        cases = {case.incident_id: case for case in found}
        units = {(c.unit.code, c.unit.valid_from) for c in cases.values()}
        router = await escalation.router(connection, units)
        for row in passed:
            _raise_step(router, cases[row.incident_id], row)
        posts = await due.posts_of(connection, [row.notice_id for row in passed if row.notice_id])
        for incident_id, late in posts.items():
            router.tell_desk(cases[incident_id], "not_acknowledged", late)
        await incidents.save_notices(connection, router.out.notices, now)
        for case in cases.values():
            await incidents.set_progress(connection, case)
        await escalation.emit(connection, router.out.events)
    _count(router.out)
    escalation.wake()
    return len(ids)


def _raise_step(router: Router, case: Case, deadline: Row[Any]) -> None:
    reason: Literal["not_acknowledged", "not_reviewed"] = (
        "not_acknowledged" if deadline.kind == "acknowledge" else "not_reviewed"
    )
    data = StepRaisedData(**about(case, None), level=DESK, reason=reason, due_at=deadline.due_at)
    router.emit(StepRaised(**envelope(router.new_id(), case.incident_id, router.now), data=data))

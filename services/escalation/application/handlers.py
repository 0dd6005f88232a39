"""What escalation does with reports and acknowledgements. Each function is one transaction, and safe to run twice."""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.escalation.domain.directory.model import DESK, LEADERSHIP, OFFICES, UnitKey, answers, key_of
from services.escalation.domain.envelope import envelope
from services.escalation.domain.incidents import grouping, lifecycle
from services.escalation.domain.incidents.engine import IncidentEngine, OfficeChannels
from services.escalation.domain.incidents.incident import Case, ChangeSet, about, occurrence_of
from services.escalation.domain.notices.notification import ASKING, to_holders
from services.escalation.domain.rules.accountability import Decision
from services.escalation.store import directory, incident_loading, incident_saving, tables, timeline, timers
from shared import metrics
from shared.clock import Clock
from shared.commitment import Committed
from shared.events import AcknowledgementRecorded, AcknowledgementRecordedData, Event, ReportReceived, encode
from shared.http.identity import Principal
from shared.http.problem import Problem
from shared.ids import ids, uuid7
from shared.messaging import ESCALATION, Outgoing, add, route


@dataclass(frozen=True)
class Escalation:
    """What the handlers need: the database, the clock, and where offices and exercises are told."""

    database: AsyncEngine
    clock: Clock
    partitions: int
    channels: OfficeChannels
    wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called after each commit: the outbox relay and the delivery loop need not wait for their next poll."""

    def new_id(self) -> str:
        return uuid7(self.clock.now())

    def wake(self) -> None:
        for wake in self.wakes:
            wake()

    async def emit(self, connection: AsyncConnection, events: Sequence[Event]) -> None:
        """Put events into the outbox and the timeline of the caller's transaction, in this order."""
        bodies = [encode(e) for e in events]
        rows = [
            Outgoing(e.id, route(ESCALATION, e.data.unit.code if e.data.unit else "", self.partitions), body)
            for e, body in zip(events, bodies, strict=True)
        ]
        await add(connection, tables.outbox, rows)
        await timeline.add(connection, [timeline.line(e, body) for e, body in zip(events, bodies, strict=True)])

    async def incident_engine(self, connection: AsyncConnection, units: Collection[UnitKey]) -> IncidentEngine:
        now = self.clock.now()
        return IncidentEngine(
            cases={},
            directory=await directory.load(connection, units, now),
            rulebooks=await directory.rulebooks(connection),
            channels=self.channels,
            now=now,
            new_id=ids(now),
        )

    async def save(self, connection: AsyncConnection, changes: ChangeSet, now: datetime) -> None:
        await incident_saving.save(connection, changes, now)
        await self.emit(connection, changes.events)

    def committed(self, text: str | None) -> Committed | None:
        """Free text for an event: the ledger keeps a salted commitment to it."""
        return Committed(salt=secrets.token_hex(32), value=text) if text else None


async def on_reports(escalation: Escalation, events: Sequence[ReportReceived]) -> None:
    """Route a batch of reports in its order. A report that is known already is left alone."""
    by_id = {event.id: event for event in reversed(events)}
    async with escalation.database.begin() as connection:
        occurrences = {id_: occurrence_of(event) for id_, event in by_id.items()}
        await incident_loading.lock_units(connection, [h.unit[0] for h in occurrences.values()])
        for known in await incident_loading.known_events(connection, list(by_id)):
            del by_id[known]
        fresh = [event for event in events if by_id.pop(event.id, None)]
        if not fresh:
            return
        near = [occurrences[event.id] for event in fresh]
        engine = await escalation.incident_engine(connection, {h.unit for h in near})
        rules = [a.rulebook for a in engine.rulebooks]
        window = timedelta(minutes=max(r.correlation.window_minutes for r in rules))
        for case in await incident_loading.cases_near(connection, near, window):
            for key in {anchor.key for anchor in (case.anchor, *case.aliases)}:
                engine.cases.setdefault(key, []).append(case)
        wide = max(max(r.patterns.ward_window_minutes, r.patterns.related_window_minutes) for r in rules)
        joined = [grouping.join(engine, event) for event in fresh]
        opened = [j.case.anchor for j in joined if j.case.is_new]
        if opened:
            engine.neighbours.update(await incident_loading.neighbours(connection, opened, timedelta(minutes=wide)))
        stored = {j.case.incident_id: j.case for j in joined if j.matters and not j.case.has_history}
        await incident_loading.with_history(connection, list(stored.values()))
        for each in joined:
            grouping.attach(engine, each)
        await escalation.save(connection, engine.changes, engine.now)
    count(engine.changes)
    escalation.wake()


def count(changes: ChangeSet) -> None:
    """Metrics of what was written; exercises are in no count."""
    for joined in changes.reports:
        if not joined.case.anchor.exercise:
            metrics.incidents.labels(joined.outcome).inc()
    for issued in changes.notices:
        if not issued.case.anchor.exercise:
            metrics.notices.labels(issued.notice.purpose).inc()


@dataclass(frozen=True)
class Acknowledged:
    incident: str
    state: str
    is_new: bool
    notices: tuple[str, ...]


async def acknowledge(escalation: Escalation, incident_id: str, caller: Principal) -> Acknowledged:
    """Record that the holder of a post, or the office, has seen the notice. Raises Problem 403 or 404."""
    async with escalation.database.begin() as connection:
        case = next(iter(await incident_loading.locked(connection, [incident_id])), None)
        if case is None:
            raise Problem(404, f"there is no incident {incident_id}")
        insist_on_ward(caller, case.wards)
        notices = await timers.notices_of(connection, incident_id)
        if caller.role == "official":
            mine = await _of_post(escalation, connection, case, notices, caller)
        else:
            office = DESK if caller.role == "desk" else LEADERSHIP
            mine = [n for n in notices if n.recipient == office]
            if not mine:
                raise Problem(404, f"no notice of incident {incident_id} went to the {office}")
        done = await _record(escalation, connection, case, notices, mine, caller.subject)
    escalation.wake()
    return done


async def acknowledge_notice(escalation: Escalation, notice_id: str, by: str) -> Acknowledged | None:
    """The same by a signed link, whose recipient is `by`; None where there is no such notice to them."""
    async with escalation.database.begin() as connection:
        found = await timers.notice_by_id(connection, notice_id)
        if found is None or found.recipient != by:
            return None
        (case,) = await incident_loading.locked(connection, [found.incident_id])
        notices = await timers.notices_of(connection, case.incident_id)
        done = await _record(escalation, connection, case, notices, [n for n in notices if n.recipient == by], by)
    escalation.wake()
    return done


def insist_on_ward(caller: Principal, wards: Collection[str]) -> None:
    """Raises Problem 403: an officer or official sees what is of their own ward, or of one whose place it took."""
    if caller.role in {"officer", "official"} and caller.ward not in wards:
        raise Problem(403, f"this is of ward {', '.join(sorted(wards))}; your token is for ward {caller.ward}")


async def _of_post(
    escalation: Escalation, connection: AsyncConnection, case: Case, notices: Sequence[Row[Any]], caller: Principal
) -> list[Row[Any]]:
    """The notices that are the caller's to acknowledge. Raises Problem 403 or 404."""
    of_post = [n for n in notices if n.recipient not in OFFICES and caller.post in n.posts]
    if not of_post:
        raise Problem(404, f"no notice of incident {case.incident_id} went to post {caller.post}")
    now = escalation.clock.now()
    acts = case.successor or case.unit
    held = (await directory.load(connection, {key_of(acts)}, now)).tenures
    mine = [
        n
        for n in of_post
        if n.recipient == caller.subject or all(answers(held, post, caller.subject, now, acts) for post in n.posts)
    ]
    if not mine:
        raise Problem(403, f"{caller.subject} does not hold post {caller.post} and was not told")
    return mine


async def _record(
    escalation: Escalation,
    connection: AsyncConnection,
    case: Case,
    notices: Sequence[Row[Any]],
    mine: Sequence[Row[Any]],
    by: str,
) -> Acknowledged:
    now = escalation.clock.now()
    new = await timers.acknowledge(connection, [n.notice_id for n in mine], by, now)
    if new:
        asked = [n for n in notices if n.purpose in ASKING and n.round == case.round]
        waiting = [n for n in asked if n.acknowledged_at is None and n.notice_id not in new]
        if waiting:
            answering = await _answering(connection, case)
            asked, waiting = ([n for n in some if n.recipient in answering] for some in (asked, waiting))
        if asked and not waiting and case.is_open:
            case.state = lifecycle.after_acknowledgement(case.state)
            await timers.stop_chain(connection, case.incident_id, now)
        recorded = [_acknowledgement(escalation, case, n, by, now) for n in mine if n.notice_id in new]
        await timers.set_progress(connection, case.incident_id, case.state, case.sequence)
        await escalation.emit(connection, recorded)
    return Acknowledged(case.incident_id, case.state, bool(new), tuple(n.notice_id for n in mine))


async def _answering(connection: AsyncConnection, case: Case) -> set[str]:
    """Who answers for a post by the standing decision; of who left nothing is waited for."""
    await incident_loading.with_history(connection, [case], reports=False)
    return {n.recipient for n in to_holders(record_of(case).parties, "accountable")}


def _acknowledgement(
    escalation: Escalation, case: Case, notice: Row[Any], by: str, now: datetime
) -> AcknowledgementRecorded:
    holders = () if notice.recipient in OFFICES else {by, notice.recipient}
    data = AcknowledgementRecordedData(
        **about(case, None, holders),
        notice_id=notice.notice_id,
        holder=by,
        posts=tuple(notice.posts),
        in_time=notice.due_at is None or now <= notice.due_at,
    )
    return AcknowledgementRecorded(**envelope(escalation.new_id(), case.incident_id, now), data=data)


def record_of(case: Case) -> Decision:
    """The standing decision; every stored incident has one."""
    assert case.decision is not None
    return case.decision

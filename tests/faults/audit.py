"""What must be true of a city's records after any faults, each broken promise in a sentence."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from services.cli.verify_ledger import verify_ledger
from services.escalation.domain.notices.message import LEASE
from services.escalation.domain.rules.replay import replay
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from services.escalation.store import directory, timers
from services.escalation.store import tables as escalation_tables
from services.intake.store import outbox as intake_outbox
from services.ledger.app import load_signer
from shared import messaging
from shared.database import connect
from shared.http.identity import Principal
from shared.messaging import ESCALATION, INTAKE, is_transient
from tests.faults.broken import SHOWN, Broken, named
from tests.faults.history import jobs
from tests.faults.invariants import PROMISES, unequal_records
from tests.faults.kept import Kept, kept
from tests.faults.load import Load
from tests.faults.readiness import Watcher
from tests.faults.receiver import other_bodies, shown_twice
from tests.faults.stack import House
from tests.faults.truth import LIMIT_SECONDS, Job, Wait, down, lies, refusing
from tests.integration.stored.looking import deliveries_waiting, stored_in
from tests.integration.stored.neighbours import Entry

A_MOMENT = timedelta(seconds=3)
"""In which escalation can be ended before more falls due."""
EXPLAINED = frozenset(
    {
        "BusyLoadingError",
        "ConnectionDoesNotExistError",
        "ConnectionError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "DiskFullError",
        "DBAPIError",
        "FileNotFoundError",
        "InterfaceError",
        "InternalClientError",
        "InternalError",
        "LockNotAvailableError",
        "OutOfMemoryError",
        "QueryCanceledError",
        "ResponseError",
        "TimeoutError",
        "TooManyConnectionsError",
    }
)
"""Errors of a server that is away, full or busy, or comes back. A deadlock is one too: of that its own log tells."""


async def findings(house: House, load: Load, watcher: Watcher, at: datetime) -> list[Broken]:
    """Every promise that is broken; empty when nothing was lost and nothing was doubled. `at`: when all had come to
    rest, and escalation was ended."""
    engine = connect(str(house.settings.database_url))
    try:
        async with engine.connect() as connection:
            found = await kept(connection, at, house.set_back, house.left.entries if house.left else 0)
            books = {book.rulebook.version: book for book in await directory.rulebooks(connection)}
            done = await jobs(connection, house, load.accepted)
    finally:
        await engine.dispose()
    return [
        *_refused(load),
        *_lost(found, load),
        *_broken_promises(found),
        *_untold(found, await _written(house)),
        *_untold_by_webhook(found, house),
        *_told_after_all(found, load.people.acknowledged),
        *_unlike_computed_again(found, books),
        *_mistakes(house),
        *await _unverified(house),
        *_untruthful(done, load, watcher, house.started),
    ]


async def unsettled(house: House) -> list[str]:
    """What is still under way; empty once the system has recovered from all that was done to it."""
    engine = connect(str(house.settings.database_url))
    redis = messaging.connect(str(house.settings.redis_url))
    count = house.shape.partitions
    streams = {**messaging.streams(INTAKE, count), **messaging.streams(ESCALATION, count)}
    outboxes = ((engine, intake_outbox), (engine, escalation_tables.outbox))
    try:
        found = await house.not_ready()
        if not await messaging.is_drained(redis, outboxes, streams):
            groups = [str(group) for group in await messaging.progress(redis, streams) if not group.caught_up]
            found.append(f"events are not yet with everybody: {'; '.join(groups) or 'some are not published'}")
        async with engine.connect() as connection:
            if not await timers.is_idle(connection, house.now() + A_MOMENT):
                found.append("a deadline falls due, or a delivery does")
            if waiting := await deliveries_waiting(connection):
                found.append(f"{waiting} deliveries wait or are under way")
            for _, outbox in outboxes:
                if left := await connection.scalar(select(func.count()).select_from(outbox.rows)):
                    found.append(f"{outbox.rows.fullname} still has {left} events that everybody should have")
        return found
    finally:
        await redis.aclose()
        await engine.dispose()


async def _unsettled_or_away(house: House) -> list[str]:
    """A server that has not come back from the last fault is one more thing that has not settled."""
    try:
        return await unsettled(house)
    except Exception as error:
        if not is_transient(error):
            raise
        return [f"a server is away: {type(error).__name__}"]


async def until_recovered(house: House, seconds: float) -> list[Broken]:
    """Wait until all has come to rest. What has not in that time."""
    left: list[str] = ["nothing was looked at"]
    try:
        async with asyncio.timeout(seconds):
            while left := await _unsettled_or_away(house):  # noqa: ASYNC110 - the event is in other processes
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    return [Broken("stuck", f"not recovered {seconds:.0f} s after everything fell due: {line}") for line in left]


def _refused(load: Load) -> list[Broken]:
    """Answers that no fault explains."""
    unexplained = (f"{text}, {count} times" for text, count in load.asking.unexplained.most_common(SHOWN))
    return [Broken("wrong", text) for text in (*load.refused[:SHOWN], *load.people.refused[:SHOWN], *unexplained)]


def _lost(kept: Kept, load: Load) -> list[Broken]:
    people = load.people
    routed = {report.event_id for report in kept.reports}
    stored = {report.report_id for report in kept.received if report.event_id in routed}
    seen = {notice.notice_id for notice in kept.notices if notice.acknowledged_at is not None}
    said = {finding.reason for finding in kept.findings}
    return [
        *named("lost", "report {} was accepted and has no incident", load.accepted.keys() - stored),
        *named(
            "wrong",
            "report {} has an incident, but no sender was told of it",
            stored - load.accepted.keys(),
        ),
        *named("lost", "the acknowledgement of notice {} was answered and is lost", people.acknowledged.keys() - seen),
        *named("lost", "what the desk or a ward said was answered and is lost: {}", people.said - said),
    ]


def _broken_promises(kept: Kept) -> list[Broken]:
    found = [line for promise, (sort, finder) in PROMISES.items() for line in named(sort, promise, finder(kept))]
    return found + [line for sort, promise, items in unequal_records(kept) for line in named(sort, promise, items)]


def _untold(kept: Kept, written: Counter[str]) -> list[Broken]:
    """Against the file of the channel: what was sent is there, and no more often than it was tried."""
    attempts = {delivery.delivery_id: delivery.attempts for delivery in kept.deliveries}
    sent = {delivery.delivery_id for delivery in kept.deliveries if delivery.state == "sent"}
    too_often = {id_ for id_, count in written.items() if id_ in attempts and count > attempts[id_]}
    return [
        *named("lost", "delivery {} counts as sent and reached nobody", sent - written.keys()),
        *named("wrong", "delivery {} reached somebody and was never queued", written.keys() - attempts.keys()),
        *named("doubled", "delivery {} reached somebody more often than it was tried", too_often),
    ]


def _untold_by_webhook(kept: Kept, house: House) -> list[Broken]:
    arrivals = house.receiver.arrivals
    arrived = {delivery for arrival in arrivals for delivery in arrival.deliveries}
    taken = {delivery.delivery_id for delivery in kept.deliveries if delivery.state == "delivered"}
    return [
        *named("lost", "delivery {} counts as delivered and reached no receiver", taken - arrived),
        *named("doubled", "delivery {} reached a receiver under more than one webhook-id", shown_twice(arrivals)),
        *named("wrong", "webhook-id {} had more than one body", other_bodies(arrivals)),
    ]


def _untruthful(done: Sequence[Job], load: Load, watcher: Watcher, started: Sequence[float]) -> list[Broken]:
    """`started`: when all processes came back from a stop. Only from then on somebody can be waited for."""
    fresh = [Wait(at, at) for at in started]
    found = [(job, period) for job in done for period in lies(job, down([*job.waits, *fresh]), watcher.said)]
    attempts = load.asking.attempts
    for process in sorted({attempt.process for attempt in attempts}):
        job = Job(f"requests to {process} served", (process,), ())
        periods = refusing([attempt for attempt in attempts if attempt.process == process])
        found += [(job, period) for period in lies(job, periods, watcher.said)]
    return [_lie(job, period) for job, period in found]


def _lie(job: Job, period: tuple[float, float]) -> Broken:
    begin, end = (datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S") for at in period)
    more = f"{period[1] - period[0]:.0f} s more than {LIMIT_SECONDS:.0f}"
    ready = " and ".join(job.services)
    return Broken("untruthful", f"no {job.name} from {begin} to {end} ({more}), {ready} said ready")


def _told_after_all(kept: Kept, acknowledged: Mapping[str, datetime]) -> list[Broken]:
    """Begun after somebody had heard that the notice is acknowledged; what was under way by then may still arrive."""
    late = [
        delivery.delivery_id
        for delivery in kept.deliveries
        if delivery.state == "sent"
        and delivery.notice_id in acknowledged
        and delivery.next_at - LEASE > acknowledged[delivery.notice_id] + kept.set_back
    ]
    return named("wrong", "delivery {} was begun after its notice was acknowledged", late)


def _unlike_computed_again(kept: Kept, books: Mapping[str, AdoptedRulebook]) -> list[Broken]:
    replayed = [replay(made.decision_id, made.inputs, made.record, books) for made in kept.decisions]
    return named(
        "wrong", "decision {} is another when computed again", (r.decision_id for r in replayed if not r.equal)
    )


def _mistakes(house: House) -> list[Broken]:
    """Errors in the logs that no fault explains."""
    found: Counter[str] = Counter()
    for name, lines in house.said().items():
        for said in (json.loads(line) for line in lines if line.startswith("{")):
            kind = str(said.get("error", "")).partition(":")[0].partition(" ")[0]
            if kind and kind not in EXPLAINED:
                found[f"{name.partition('-')[0]} said {said['event']!r} of {said['error']!r}"] += 1
    log = house.database_log()
    deadlocks = ["\n".join(log[place : place + 10]) for place, line in enumerate(log) if "deadlock detected" in line]
    said_too = [f"{text}, {count} times" for text, count in found.most_common(SHOWN)]
    return [Broken("wrong", text) for text in (*said_too, *deadlocks)]


async def _unverified(house: House) -> list[Broken]:
    token = house.header(Principal("kiem-toan", "auditor"))["authorization"].removeprefix("Bearer ")
    vkey = load_signer(house.settings).verifier.vkey()
    known = house.left.checkpoint if house.left else None
    report = await asyncio.to_thread(verify_ledger, house.of("ledger")[0].url, vkey, token, None, known)
    return [Broken("wrong", f"the ledger does not verify: {failure}") for failure in report.failures]


async def summary(house: House, load: Load) -> list[str]:
    """Lines for a person: what was done, and how often each kind of event happened."""
    engine = connect(str(house.settings.database_url))
    kinds = Counter(entry.kind for entry in await stored_in(engine, Entry))
    await engine.dispose()
    again = sum(count > 1 for count in (await _written(house)).values())
    people = load.people
    return [
        f"{len(load.accepted)} reports, {len(people.acknowledged)} acknowledgements, {len(people.said)} commands",
        f"answers: {sorted(people.answers.items())}",
        f"stored: {dict(sorted(kinds.items()))}, {again} sent again",
        f"met on the way: {dict(load.asking.setbacks)}; ended by themselves: {len(house.deaths)}",
        *house.deaths,
    ]


async def _written(house: House) -> Counter[str]:
    """How often each delivery came out of the channel."""
    lines = await asyncio.to_thread(house.outbox.read_text, encoding="utf-8")
    return Counter(str(json.loads(line)["delivery_id"]) for line in lines.splitlines())

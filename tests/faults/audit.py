"""What must be true of a city's records after any faults, each broken promise in a sentence."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

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
from tests.faults.invariants import PROMISES, unequal_records
from tests.faults.kept import Kept, kept
from tests.faults.load import Load
from tests.faults.stack import House
from tests.integration.stored.looking import deliveries_waiting, stored_in
from tests.integration.stored.records import Entry

SHOWN = 5
"""Examples of a broken promise that are named; the rest are counted."""
A_MOMENT = timedelta(seconds=3)
"""In which escalation can be ended before more falls due."""
EXPLAINED = frozenset(
    {
        "BusyLoadingError",
        "ConnectionError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "DBAPIError",
        "FileNotFoundError",
        "InterfaceError",
        "InternalError",
        "ResponseError",
        "TimeoutError",
    }
)
"""Errors of a server that is away or comes back. A deadlock is one too: of that the database's own log tells."""


async def findings(house: House, load: Load, at: datetime) -> list[str]:
    """Every promise that is broken; empty when nothing was lost and nothing was doubled. `at`: when all had come to
    rest, and escalation was ended."""
    engine = connect(str(house.settings.database_url))
    try:
        async with engine.connect() as connection:
            found = await kept(connection, at)
            books = {book.rulebook.version: book for book in await directory.rulebooks(connection)}
    finally:
        await engine.dispose()
    return [
        *_lost(found, load),
        *_broken_promises(found),
        *_untold(found, await _written(house)),
        *_told_after_all(found, load.people.acknowledged),
        *_unlike_computed_again(found, books),
        *_mistakes(house),
        *await _unverified(house),
    ]


async def unsettled(house: House) -> list[str]:
    """What is still under way; empty once the system has recovered from all that was done to it."""
    engine = connect(str(house.settings.database_url))
    redis = messaging.connect(str(house.settings.redis_url))
    streams = {**messaging.streams(INTAKE, 1), **messaging.streams(ESCALATION, 1)}
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


async def until_recovered(house: House, seconds: float) -> None:
    """Raises AssertionError that names what did not come to rest in time."""
    left: list[str] = ["nothing was looked at"]
    try:
        async with asyncio.timeout(seconds):
            while left := await _unsettled_or_away(house):  # noqa: ASYNC110 - the event is in other processes
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not recovered after {seconds:.0f} s: {'; '.join(left)}") from None


def _lost(kept: Kept, load: Load) -> list[str]:
    people = load.people
    stored = {report.report_id for report in kept.reports}
    seen = {notice.notice_id for notice in kept.notices if notice.acknowledged_at is not None}
    said = {finding.reason for finding in kept.findings}
    return [
        *_named("report {} was accepted and has no incident", load.accepted - stored),
        *_named("report {} has an incident, but no sender was told that it was accepted", stored - load.accepted),
        *_named("the acknowledgement of notice {} was answered and is lost", people.acknowledged.keys() - seen),
        *_named("what the desk or a ward said was answered and is lost: {}", people.said - said),
    ]


def _broken_promises(kept: Kept) -> list[str]:
    broken = [*((promise, finder(kept)) for promise, finder in PROMISES.items()), *unequal_records(kept)]
    return [line for promise, items in broken for line in _named(promise, items)]


def _untold(kept: Kept, written: Counter[str]) -> list[str]:
    """Against the file of the channel: what was sent is there, and no more often than it was tried."""
    attempts = {delivery.delivery_id: delivery.attempts for delivery in kept.deliveries}
    sent = {delivery.delivery_id for delivery in kept.deliveries if delivery.state == "sent"}
    too_often = {id_ for id_, count in written.items() if id_ in attempts and count > attempts[id_]}
    return [
        *_named("delivery {} counts as sent and reached nobody", sent - written.keys()),
        *_named("delivery {} reached somebody and was never queued", written.keys() - attempts.keys()),
        *_named("delivery {} reached somebody more often than it was tried", too_often),
    ]


def _told_after_all(kept: Kept, acknowledged: Mapping[str, datetime]) -> list[str]:
    """Begun after somebody had heard that the notice is acknowledged; what was under way by then may still arrive."""
    late = [
        delivery.delivery_id
        for delivery in kept.deliveries
        if delivery.state == "sent"
        and delivery.notice_id in acknowledged
        and delivery.next_at - LEASE > acknowledged[delivery.notice_id]
    ]
    return _named("delivery {} was begun after its notice was acknowledged", late)


def _unlike_computed_again(kept: Kept, books: Mapping[str, AdoptedRulebook]) -> list[str]:
    replayed = [replay(made.decision_id, made.inputs, made.record, books) for made in kept.decisions]
    return _named("decision {} is another when computed again", (r.decision_id for r in replayed if not r.equal))


def _mistakes(house: House) -> list[str]:
    """Errors in the logs that no fault explains."""
    found: Counter[str] = Counter()
    for name, lines in house.said().items():
        for said in (json.loads(line) for line in lines if line.startswith("{")):
            kind = str(said.get("error", "")).partition(":")[0].partition(" ")[0]
            if kind and kind not in EXPLAINED:
                found[f"{name.partition('-')[0]} said {said['event']!r} of {said['error']!r}"] += 1
    log = house.database_log()
    deadlocks = ["\n".join(log[place : place + 10]) for place, line in enumerate(log) if "deadlock detected" in line]
    return [f"{text}, {count} times" for text, count in found.most_common(SHOWN)] + deadlocks


async def _unverified(house: House) -> list[str]:
    token = house.header(Principal("kiem-toan", "auditor"))["authorization"].removeprefix("Bearer ")
    vkey = load_signer(house.settings).verifier.vkey()
    report = await asyncio.to_thread(verify_ledger, house.url("ledger"), vkey, token, None)
    return [f"the ledger does not verify: {failure}" for failure in report.failures]


def _named(promise: str, broken: Iterable[Any]) -> list[str]:
    items = sorted(str(item) for item in broken)
    more = [f"… and {len(items) - SHOWN} more: {promise}"] if len(items) > SHOWN else []
    return [promise.format(item) for item in items[:SHOWN]] + more


async def counts(house: House) -> dict[str, int]:
    """How often each kind of event happened, for the printed summary; and how many deliveries came out twice."""
    engine = connect(str(house.settings.database_url))
    kinds = Counter(entry.kind for entry in await stored_in(engine, Entry))
    await engine.dispose()
    return dict(sorted(kinds.items())) | {"sent again": sum(count > 1 for count in (await _written(house)).values())}


async def _written(house: House) -> Counter[str]:
    """How often each delivery came out of the channel."""
    lines = await asyncio.to_thread(house.outbox.read_text, encoding="utf-8")
    return Counter(str(json.loads(line)["delivery_id"]) for line in lines.splitlines())

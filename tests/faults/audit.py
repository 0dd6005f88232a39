"""What must be true of a city's records after any faults, each broken promise in a sentence."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cli.verify_ledger import verify_ledger
from services.escalation.domain.notices.message import LEASE
from services.escalation.domain.rules.replay import replay
from services.escalation.store import decisions, directory, timers
from services.escalation.store import tables as escalation_tables
from services.intake.store import outbox as intake_outbox
from services.ledger.app import load_signer
from shared import messaging
from shared.database import connect
from shared.http.identity import Principal
from shared.messaging import ESCALATION, INTAKE, is_transient
from tests.faults.invariants import ENTRIES_ABOUT, PROMISES, RECORDED
from tests.faults.load import Load
from tests.faults.stack import House

SHOWN = 5
"""Examples of a broken promise that are named; the rest are counted."""
A_MOMENT = timedelta(seconds=3)
"""In which escalation can be ended before more falls due."""
WAITING = text("SELECT count(*) FROM escalation.delivery WHERE state IN ('queued', 'sending', 'failed')")
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
            found = [
                *await _lost(connection, load),
                *await _broken_promises(connection, at),
                *await _unequal_records(connection),
                *await _untold(connection, house),
                *await _told_after_all(connection, load.people.acknowledged),
                *await _unlike_computed_again(connection),
            ]
    finally:
        await engine.dispose()
    return [*found, *_mistakes(house), *await _unverified(house)]


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
            if waiting := await connection.scalar(WAITING):
                found.append(f"{waiting} deliveries wait or are under way")
            for _, outbox in outboxes:
                if left := await connection.scalar(text(f"SELECT count(*) FROM {outbox.rows.fullname}")):
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


async def _lost(connection: AsyncConnection, load: Load) -> list[str]:
    people = load.people
    stored = set(await connection.scalars(text("SELECT report_id FROM escalation.report")))
    seen = set(
        await connection.scalars(text("SELECT notice_id FROM escalation.notice WHERE acknowledged_at IS NOT NULL"))
    )
    said = set(await connection.scalars(text("SELECT reason FROM escalation.finding")))
    return [
        *_named("report {} was accepted and has no incident", load.accepted - stored),
        *_named("report {} has an incident, but no sender was told that it was accepted", stored - load.accepted),
        *_named("the acknowledgement of notice {} was answered and is lost", people.acknowledged.keys() - seen),
        *_named("what the desk or a ward said was answered and is lost: {}", people.said - said),
    ]


async def _broken_promises(connection: AsyncConnection, now: datetime) -> list[str]:
    found: list[str] = []
    for promise, query in PROMISES.items():
        parameters = {"now": now} if ":now" in query else {}
        rows = await connection.scalars(text(query.replace("::", "\\:\\:")), parameters)
        found += _named(promise, list(rows))
    return found


async def _unequal_records(connection: AsyncConnection) -> list[str]:
    found: list[str] = []
    for kind, (key, query) in RECORDED.items():
        rows = list(await connection.scalars(text(query)))
        entries = await connection.scalars(ENTRIES_ABOUT, {"key": key, "kind": kind})
        recorded = Counter(entries)
        twice = [id_ for id_, count in recorded.items() if count > 1]
        found += _named(f"{key} {{}} has no {kind} in the ledger", set(rows) - recorded.keys())
        found += _named(f"{key} {{}} has a {kind} in the ledger and is not stored", recorded.keys() - set(rows))
        found += _named(f"{key} {{}} has more than one {kind} in the ledger", twice)
    return found


async def _untold(connection: AsyncConnection, house: House) -> list[str]:
    """Against the file of the channel: what was sent is there, and no more often than it was tried."""
    deliveries = {
        row.delivery_id: row
        for row in await connection.execute(text("SELECT delivery_id, state, attempts FROM escalation.delivery"))
    }
    lines = await _written(house)
    sent = {id_ for id_, row in deliveries.items() if row.state == "sent"}
    too_often = {id_ for id_, count in lines.items() if id_ in deliveries and count > deliveries[id_].attempts}
    return [
        *_named("delivery {} counts as sent and reached nobody", sent - lines.keys()),
        *_named("delivery {} reached somebody and was never queued", lines.keys() - deliveries.keys()),
        *_named("delivery {} reached somebody more often than it was tried", too_often),
    ]


async def _told_after_all(connection: AsyncConnection, acknowledged: Mapping[str, datetime]) -> list[str]:
    """Begun after somebody had heard that the notice is acknowledged; what was under way by then may still arrive."""
    rows = await connection.execute(
        text("SELECT delivery_id, notice_id, next_at FROM escalation.delivery WHERE state = 'sent'")
    )
    late = [
        row.delivery_id
        for row in rows
        if row.notice_id in acknowledged and row.next_at - LEASE > acknowledged[row.notice_id]
    ]
    return _named("delivery {} was begun after its notice was acknowledged", late)


async def _unlike_computed_again(connection: AsyncConnection) -> list[str]:
    books = {book.rulebook.version: book for book in await directory.rulebooks(connection)}
    rows = [row async for row in decisions.every(connection)]
    replayed = [replay(row.decision_id, row.inputs, row.record, books) for row in rows]
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
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT kind, count(*) FROM ledger.entry GROUP BY 1 ORDER BY 1"))
        found = {row.kind: int(row[1]) for row in rows}
    await engine.dispose()
    return found | {"sent again": sum(count > 1 for count in (await _written(house)).values())}


async def _written(house: House) -> Counter[str]:
    """How often each delivery came out of the channel."""
    lines = await asyncio.to_thread(house.outbox.read_text, encoding="utf-8")
    return Counter(str(json.loads(line)["delivery_id"]) for line in lines.splitlines())

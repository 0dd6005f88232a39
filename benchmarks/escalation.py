"""Escalation alone: how soon a notice is handed to its channel, and ten thousand due at once."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from benchmarks.measure import Connection, Figure, Timer, until
from benchmarks.stack import BATCH, SAMPLES, furnished
from services.escalation.app import connect_escalation
from services.escalation.application.adopt_rulebooks import adopt_rulebooks, packaged_rulebooks
from services.escalation.application.escalation import Escalation
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.rules.rulebook import read
from shared import messaging
from shared.clock import Clock
from shared.commitment import Committed, new_salt
from shared.events import ReportReceivedV2, ReportReceivedV2Data, Source, UnitRef, encode
from shared.ids import uuid7
from shared.pseudonym import pseudonym
from shared.settings import Settings

T = TypeVar("T")
NIGHT = datetime.fromisoformat("2023-01-21T23:50:00+07:00")
BEFORE = datetime.fromisoformat("2023-01-06T08:00:00+07:00")
APART = timedelta(minutes=61)
"""Incidents of one ward: neither the same, nor so many at once that the desk is pointed to them."""
SENSORS = 3
"""Distinct senders of an incident's reports."""
PER_SECOND = 100
UNBUNDLED = ("bundling: {at_once: 3", "bundling: {at_once: 1000000")
"""The benchmark asks how soon a notice can go, not how many one person should get a minute."""


async def run(data: Path, *, quick: bool) -> list[Figure]:
    stepped = await _step_up(data / "due", 10_000)
    p99, hops = await _latency(data / "latency", seconds=8 if quick else 30)
    return [
        Figure("escalation.step_up_10k_s", stepped, "s for 10,000 incidents due in one second, one process"),
        Figure(
            "escalation.p99_vs_floor",
            p99 / hops,
            f"ratio; p99 {p99 * 1000:.1f} ms from the durable report to its channel at {PER_SECOND}/s",
            "s, p99 of a commit and two stream hops at the same rate",
            hops,
        ),
        Figure(
            "escalation.p99_ms_at_100",
            p99 * 1000,
            f"ms, p99 from the durable report to its channel at {PER_SECOND}/s",
            "ms, p99 of a commit and two stream hops at the same rate",
            hops * 1000,
        ),
    ]


def reports_of(count: int, incidents: int) -> list[ReportReceivedV2]:
    """Reports of `incidents` that are apart in each ward, one after the other in turns."""
    units = _units()
    found: list[ReportReceivedV2] = []
    for i in range(count):
        incident = i % incidents
        at = NIGHT - incident // len(units) * APART
        report_id = uuid7(at)
        data = ReportReceivedV2Data(
            report_id=report_id,
            unit=units[incident % len(units)],
            category="FIRECRACKER_SET_OFF",
            occurred_at=at,
            received_at=at,
            from_source=Source(kind="device", subject=pseudonym(b"bench", f"cam-bien-{i // incidents % SENSORS}")),
            description=Committed(salt=new_salt(), value="Nghe tiếng pháo nổ liên tiếp ở đầu phố, khoảng hai phút"),
        )
        found.append(ReportReceivedV2(id=report_id, source="/trucban/intake", subject=report_id, time=at, data=data))
    return found


def _units() -> list[UnitRef]:
    lines = (SAMPLES / "wards.csv").read_text(encoding="utf-8").splitlines()[1:]
    cells = [line.split(",") for line in lines]
    return [UnitRef(code=c[0], valid_from=datetime.fromisoformat(c[1]).date(), name=c[2]) for c in cells]


@asynccontextmanager
async def core(settings: Settings) -> AsyncGenerator[Escalation]:
    escalation = connect_escalation(settings, Clock(NIGHT))
    try:
        yield escalation
    finally:
        await escalation.database.dispose()


# --- all due at once ---


async def _step_up(data: Path, incidents: int) -> float:
    """Seconds until `incidents` whose post-holders did not answer are all with the desk."""
    async with furnished(data, BEFORE) as house, core(house.settings) as escalation:
        events = reports_of(incidents, incidents)
        for start in range(0, incidents, BATCH):
            await route_reports(escalation, events[start : start + BATCH])
        escalation.clock.set(NIGHT + timedelta(minutes=15, seconds=30))
        await house.pool.execute(
            "UPDATE escalation.deadline SET due_at = $1 WHERE kind = 'acknowledge'", NIGHT + timedelta(minutes=15)
        )
        await house.pool.execute("UPDATE escalation.deadline SET state = 'passed' WHERE kind = 'remind'")
        timer = Timer()
        while await fire_due_timers(escalation):
            pass
        seconds = timer.seconds
        told = await house.pool.fetchval(
            "SELECT count(DISTINCT incident_id) FROM escalation.notice WHERE purpose = 'not_acknowledged'"
        )
    if told != incidents:
        raise RuntimeError(f"{told} of {incidents} incidents were stepped up")
    return seconds


# --- from a durable report to the channel ---


async def _latency(data: Path, *, seconds: int) -> tuple[float, float]:
    """p99 in seconds: from the answer 201 to the notice in its channel; and of a commit with two stream hops.

    A process for each service, as in production.
    """
    count = PER_SECOND * seconds
    async with furnished(data) as house:
        async with core(house.settings) as escalation:
            await adopt_rulebooks(escalation, [_unbundled()])
        hops = await two_hops(str(house.settings.redis_url), house.pool, count, PER_SECOND)
        async with house.serving("ledger"), house.serving("escalation"), house.serving("intake") as port:
            durable = await send(port, house.token, reports_of(count, count), PER_SECOND)
            handed = await _handed(house.pool, durable)
    return _p99([handed[report_id] - at for report_id, at in durable.items()]), _p99(hops)


def _unbundled() -> Any:
    text = packaged_rulebooks()[0].text
    old, new = UNBUNDLED
    if old not in text:
        raise RuntimeError(f"the packaged rulebook does not say {old!r}")
    return read(
        text.replace(old, new)
        .replace('version: "2023-01-06.1"', 'version: "bench"')
        .replace("valid_from: 2023-01-06T", "valid_from: 2023-01-07T")
        .encode()
    )


def body_of(event: ReportReceivedV2) -> bytes:
    """The report as its sender sends it."""
    body = {
        "report_id": event.data.report_id,
        "category": event.data.category,
        "ward": event.data.unit.code if event.data.unit else "",
        "occurred_at": str(event.data.occurred_at).replace(" ", "T"),
    }
    return json.dumps(body).encode()


async def send(port: int, token: str, events: Sequence[ReportReceivedV2], per_second: int) -> dict[str, float]:
    """One report after the other at this rate; when each was answered, by report id."""
    loop, durable = asyncio.get_running_loop(), dict[str, float]()
    idle = [await Connection.open(port) for _ in range(16)]
    free = asyncio.Semaphore(len(idle))

    async def one(event: ReportReceivedV2) -> None:
        async with free:
            connection = idle.pop(0)  # in turns: the server closes what is idle for long
            status, answer = await connection.request("POST", "/intake/v1/reports", body_of(event), token)
            if status != 201:
                raise RuntimeError(f"POST /reports answered {status}: {answer[:200]!r}")
            durable[event.data.report_id] = loop.time()
            idle.append(connection)

    await at_rate(events, per_second, one)
    return durable


async def at_rate(items: Iterable[T], per_second: int, work: Callable[[T], Coroutine[Any, Any, None]]) -> None:
    """Begin `work` with each item at its time, whether those before have ended or not."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number, item in enumerate(items):
            await asyncio.sleep(max(0.0, began + number / per_second - loop.time()))
            group.create_task(work(item))


async def _handed(pool: asyncpg.Pool, durable: dict[str, float]) -> dict[str, float]:
    """When the first notice of each report's incident was handed to its channel, on the clock of `durable`."""
    shift = datetime.now(UTC).timestamp() - asyncio.get_running_loop().time()

    async def all_sent() -> bool:
        waiting = "SELECT count(*) FROM escalation.delivery WHERE state IN ('queued', 'sending', 'failed')"
        routed = await pool.fetchval("SELECT count(*) FROM escalation.report")
        return routed >= len(durable) and not await pool.fetchval(waiting)

    await until(all_sent)
    rows = await pool.fetch(
        "SELECT r.personal->>'sender_report_id' AS report_id, min(d.finished_at) AS at FROM escalation.report r"
        " JOIN escalation.notice n USING (incident_id) JOIN escalation.delivery d USING (notice_id)"
        " GROUP BY r.report_id"
    )
    return {row["report_id"]: row["at"].timestamp() - shift for row in rows}


async def two_hops(redis_url: str, pool: asyncpg.Pool, count: int, per_second: int) -> list[float]:
    """The least that any such system does: a row committed, an entry into one stream, read, into another, read."""
    loop, redis = asyncio.get_running_loop(), messaging.connect(redis_url)
    await pool.execute("CREATE TABLE bench_hops (body bytea NOT NULL)")
    done: asyncio.Queue[float] = asyncio.Queue()
    over = asyncio.Event()
    for stream in ("bench.one", "bench.two"):
        await redis.xgroup_create(stream, "bench", id="0", mkstream=True)

    async def read(stream: str, further: str | None) -> None:
        reader = messaging.connect(redis_url)
        while not over.is_set():
            answer: Any = await reader.xreadgroup("bench", "one", {stream: ">"}, count=BATCH, block=200)
            for id_, fields in answer[0][1] if answer else ():
                if further:
                    await reader.xadd(further, fields)
                else:
                    done.put_nowait(loop.time() - float(fields[b"t"]))
                await reader.xack(stream, "bench", id_)
        await reader.aclose()

    async def one(body: bytes) -> None:
        at = loop.time()
        await pool.execute("INSERT INTO bench_hops VALUES ($1)", body)
        await redis.xadd("bench.one", {"t": repr(at), "b": body})

    readers = [asyncio.create_task(read("bench.one", "bench.two")), asyncio.create_task(read("bench.two", None))]
    bodies = [encode(event) for event in reports_of(count, count)]
    await at_rate(bodies, per_second, one)
    found = [await done.get() for _ in range(count)]
    over.set()
    await asyncio.gather(*readers)
    await redis.delete("bench.one", "bench.two")
    await redis.aclose()
    return found


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.99) - 1]

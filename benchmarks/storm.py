"""A storm of reports on few incidents: plain, on verified incidents, and each report with other harm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import func, select

from benchmarks.escalation import BEFORE, NIGHT, core, reports_of
from benchmarks.measure import Figure, Timer, ratio, until
from benchmarks.stack import BATCH, House, furnished
from services.escalation.app import build
from services.escalation.application.commands.verify import verify
from services.escalation.application.route_reports import route_reports
from services.escalation.store import tables
from shared import messaging
from shared.clock import Clock
from shared.events import Harm, ReportReceivedV2, encode, parse
from shared.http.identity import Principal
from shared.messaging import INTAKE, streams
from shared.messaging.redis.entry import FIELD, MAC

REPORTS = 20_000
INCIDENTS = 500
DESK = Principal("bench-desk", "desk")
(STREAM,) = streams(INTAKE, 1)
WRITTEN = [
    table
    for table in tables.metadata.sorted_tables
    if table.name in {"incident", "report", "link", "decision", "notice", "delivery", "deadline", "timeline", "outbox"}
]
"""What a storm writes rows into."""


async def run(data: Path, *, quick: bool) -> list[Figure]:
    count = REPORTS // 4 if quick else REPORTS
    events = reports_of(count, INCIDENTS)
    async with furnished(data / "plain", BEFORE) as house:
        await _publish(house, events)
        floor = await _read_and_copy(house, count)
        plain = await _routed_per_s(house, count)
        same_rows = await _same_rows_per_s(house, count)
    async with furnished(data / "assessed", BEFORE) as house:
        await _verified(house, events[:INCIDENTS])
        await _publish(house, events)
        assessed = await _routed_per_s(house, count, INCIDENTS)
    async with furnished(data / "differing", BEFORE) as house:
        await _publish(house, [_with_harm(event, number) for number, event in enumerate(events)])
        differing = await _routed_per_s(house, count)
    return [
        ratio("escalation.storm_vs_floor", plain, "reports/s", "the same batches read and copied as they are", floor),
        ratio(
            "escalation.storm_vs_same_rows",
            plain,
            f"reports/s, {count} of {INCIDENTS} incidents",
            "the same batches read and parsed, and the same rows copied into the same tables",
            same_rows,
        ),
        _slower("escalation.storm_assessed_vs_storm", assessed, "on verified incidents", plain),
        _slower("escalation.storm_differing_vs_storm", differing, "each with other damage", plain),
    ]


def _slower(name: str, rate: float, what: str, plain: float) -> Figure:
    return Figure(name, plain / rate, f"times as long; {rate:.0f} reports/s {what}", "reports/s, a plain storm", plain)


def _with_harm(event: ReportReceivedV2, number: int) -> ReportReceivedV2:
    """The report, with damage that no other one has and that changes no severity."""
    harm = Harm(property_vnd=1_000_000 + number)
    return event.model_copy(update={"data": event.data.model_copy(update={"harm": harm})})


async def _verified(house: House, first: Sequence[ReportReceivedV2]) -> None:
    """Each incident has one report, and the desk has verified it."""
    async with core(house.settings) as escalation:
        await route_reports(escalation, first)
        for row in await house.pool.fetch("SELECT incident_id FROM escalation.incident"):
            await verify(escalation, row["incident_id"], DESK, "bench", firecrackers_exploded=True)


async def _read_and_copy(house: House, count: int) -> float:
    """The floor of reading: the same batches read from the STREAM, and copied into a table of one column, a second."""
    redis = messaging.connect(str(house.settings.redis_url))
    await redis.xgroup_create(STREAM, "bench", id="0")
    await house.pool.execute("CREATE TABLE bench_floor (body bytea NOT NULL)")
    timer = Timer()
    for _ in range(0, count, BATCH):
        answer: Any = await redis.xreadgroup("bench", "one", {STREAM: ">"}, count=BATCH)
        found = answer[0][1]
        await house.pool.copy_records_to_table("bench_floor", records=[(next(iter(f.values())),) for _, f in found])
        await redis.xack(STREAM, "bench", *(id_ for id_, _ in found))
    seconds = timer.seconds
    await redis.xgroup_destroy(STREAM, "bench")
    await redis.aclose()
    return count / seconds


async def _publish(house: House, events: Sequence[ReportReceivedV2]) -> None:
    redis = messaging.connect(str(house.settings.redis_url))
    bodies, seals = [encode(event) for event in events], messaging.seals(house.settings.keys_dir)
    for start in range(0, len(bodies), BATCH):
        pipeline: Any = redis.pipeline(transaction=False)
        for number, body in enumerate(bodies[start : start + BATCH], start + 1):
            pipeline.xadd(STREAM, {FIELD: body, MAC: seals.sign(STREAM, number, body)}, id=f"{number}-0")
        await pipeline.execute()
    await redis.aclose()


async def _routed_per_s(house: House, count: int, before: int = 0) -> float:
    """Reports a second that the running service routes from a full stream. `before`: how many it knows already."""
    service = build(house.settings, Clock(NIGHT))
    counted = select(func.count()).select_from(tables.report)
    engine = service.escalation.database

    async def routed() -> bool:
        async with engine.connect() as connection:
            return (await connection.scalar(counted) or 0) >= count

    timer = Timer()
    async with service.running():
        await until(routed)
        return (count - before) / timer.seconds


async def _same_rows_per_s(house: House, count: int) -> float:
    """The same batches, parsed with the same models, and the rows of that storm copied into the same tables.

    Foreign keys are not checked, since rows of one batch may belong to those of a later one.
    """
    rows = {table.name: await house.pool.fetch(f"SELECT * FROM escalation.{table.name}") for table in WRITTEN}
    names = ", ".join(f"escalation.{table.name}" for table in WRITTEN)
    redis: Any = messaging.connect(str(house.settings.redis_url))
    await redis.xgroup_create(STREAM, "floor", id="0")
    async with house.pool.acquire() as connection:
        await connection.execute(f"TRUNCATE {names} CASCADE")
        await connection.execute("SET session_replication_role = replica")
        batches = count // BATCH
        timer = Timer()
        for number in range(batches):
            answer: Any = await redis.xreadgroup("floor", "one", {STREAM: ">"}, count=BATCH)
            found = answer[0][1]
            for _, fields in found:
                parse(fields[FIELD.encode()])
            async with connection.transaction():
                await _copy(connection, rows, number, batches)
            await redis.xack(STREAM, "floor", *(id_ for id_, _ in found))
        seconds = timer.seconds
    await redis.xgroup_destroy(STREAM, "floor")
    await redis.aclose()
    return count / seconds


async def _copy(connection: Any, rows: Mapping[str, Sequence[asyncpg.Record]], number: int, batches: int) -> None:
    """Copy one of `batches` equal parts of each table's rows."""
    for name, records in rows.items():
        begin, end = (place * len(records) // batches for place in (number, number + 1))
        if part := records[begin:end]:
            columns = list(part[0].keys())
            await connection.copy_records_to_table(name, schema_name="escalation", columns=columns, records=part)

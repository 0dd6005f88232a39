"""Intake and the whole path: a report sent, routed and in the ledger."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from sqlalchemy import func, select

from benchmarks.measure import Figure, Timer, free_port, post_all, process, ratio, until
from services.escalation.store.tables import report as routed
from services.ledger.store.tables import entry
from shared import messaging
from shared.database import connect
from shared.identity import Principal, issuer
from shared.messaging import INTAKE

SAMPLES = Path(__file__).parents[1] / "samples"
BATCH = 500


async def run(data: Path, *, quick: bool) -> list[Figure]:
    """Against `trucban up` in a process of its own, on its embedded servers."""
    port = free_port()
    for name in ("wards", "directory"):
        await _trucban("import", name, str(SAMPLES / f"{name}.csv"), "--data", str(data))
    up = ("-m", "services.cli", "up", "--no-sample", "--data", str(data), "--port", str(port))
    async with process(*up, port=port):
        token = issuer(data / "keys").issue(Principal("bench", "device"))
        addresses = json.loads((data / "addresses.json").read_text())
        pool = await asyncpg.create_pool(addresses["database_url"].replace("+asyncpg", ""))
        try:
            single = await _single(port, token, pool, 1_000 if quick else 5_000)
            batch = await _batches(port, token, pool, addresses, 5_000 if quick else 20_000)
        finally:
            await pool.close()
    return [*single, *batch]


async def _trucban(*arguments: str) -> None:
    child = await asyncio.create_subprocess_exec(".venv/bin/trucban", *arguments, stdout=asyncio.subprocess.DEVNULL)
    if await child.wait():
        raise RuntimeError(f"trucban {' '.join(arguments)} failed")


def reports(count: int, prefix: str) -> list[dict[str, Any]]:
    """Reports that spread over wards and over incidents of about forty reports each."""
    codes = [line.split(",")[0] for line in (SAMPLES / "wards.csv").read_text().splitlines()[1:]]
    incidents = max(count // 40, 1)
    return [
        {
            "report_id": f"{prefix}-{i}",
            "category": "FIRECRACKER_SET_OFF",
            "ward": codes[i % incidents % len(codes)],
            "occurred_at": f"2023-02-{1 + i % incidents // len(codes) // 24 % 28:02}T"
            f"{i % incidents // len(codes) % 24:02}:10:00+07:00",
            "description": "Nghe tiếng pháo nổ liên tiếp ở đầu phố, khoảng hai phút",
        }
        for i in range(count)
    ]


async def _single(port: int, token: str, pool: asyncpg.Pool, count: int) -> list[Figure]:
    bodies = [orjson.dumps(r) for r in reports(count, "single")]
    echo_port = free_port()
    serve = (
        "-m",
        "uvicorn",
        "benchmarks.echo:app",
        "--port",
        str(echo_port),
        "--log-level",
        "error",
        "--no-access-log",
    )
    async with process(*serve, port=echo_port):
        echoed = await post_all(echo_port, "/echo", bodies, token, 64)
    taken = await post_all(port, "/intake/v1/reports", bodies, token, 64)
    inserted = await _inserts(pool, bodies)
    return [
        ratio("intake.single_vs_echo", taken, "requests/s", "FastAPI route that echoes the body", echoed),
        ratio("intake.single_vs_insert", taken, "requests/s", "one-row INSERT commits, 10 connections", inserted),
    ]


async def _inserts(pool: asyncpg.Pool, bodies: Sequence[bytes]) -> float:
    await pool.execute("CREATE TABLE bench_insert (id bigserial PRIMARY KEY, body bytea NOT NULL)")
    waiting = iter(bodies)

    async def work() -> None:
        async with pool.acquire() as connection:
            for body in waiting:
                await connection.execute("INSERT INTO bench_insert (body) VALUES ($1)", body)

    timer = Timer()
    await asyncio.gather(*(work() for _ in range(10)))
    return len(bodies) / timer.seconds


async def _batches(port: int, token: str, pool: asyncpg.Pool, addresses: dict[str, str], count: int) -> list[Figure]:
    items = reports(count, "batch")
    bodies = [orjson.dumps(items[i : i + BATCH]) for i in range(0, count, BATCH)]
    engine = connect(addresses["database_url"], pool_size=1)

    async def arrived() -> bool:
        async with engine.connect() as connection:
            in_ledger = await connection.scalar(
                select(func.count()).select_from(entry).where(entry.c.kind == "report.received")
            )
            at_incident = await connection.scalar(select(func.count()).select_from(routed))
        return (in_ledger or 0) >= before + count and (at_incident or 0) >= before + count

    async with engine.connect() as connection:
        before = int(await connection.scalar(select(func.count()).select_from(routed)) or 0)
    timer = Timer()
    accepted = await post_all(port, "/intake/v1/reports:batch", bodies, token, 2) * BATCH
    await until(arrived, 600)
    whole = count / timer.seconds
    await engine.dispose()
    copied = await _copy(pool, [orjson.dumps(item) for item in items])
    floor = await _read_and_copy(addresses["redis_url"], pool, [orjson.dumps(item) for item in items])
    return [
        Figure("intake.batch_per_s", accepted, "reports/s accepted"),
        ratio("intake.batch_vs_copy", accepted, "reports/s", "COPY of the same bodies, 500 a commit", copied),
        Figure("path.reports_per_s", whole, "reports/s sent, routed and in the ledger"),
        ratio("path.vs_floor", whole, "reports/s", "XADD, XREADGROUP and COPY of the same bodies", floor),
    ]


async def _copy(pool: asyncpg.Pool, bodies: Sequence[bytes]) -> float:
    await pool.execute("CREATE TABLE bench_copy (body bytea NOT NULL)")
    timer = Timer()
    for start in range(0, len(bodies), BATCH):
        await pool.copy_records_to_table("bench_copy", records=[(b,) for b in bodies[start : start + BATCH]])
    return len(bodies) / timer.seconds


async def _read_and_copy(redis_url: str, pool: asyncpg.Pool, bodies: Sequence[bytes]) -> float:
    """The least that a message system of this shape can do: into a stream, out of it, into one table."""
    redis = messaging.connect(redis_url)
    stream = f"bench.{INTAKE}"
    await redis.xgroup_create(stream, "bench", id="0", mkstream=True)
    await pool.execute("CREATE TABLE bench_floor (body bytea NOT NULL)")
    timer = Timer()
    for start in range(0, len(bodies), BATCH):
        pipeline = redis.pipeline(transaction=False)
        for body in bodies[start : start + BATCH]:
            pipeline.xadd(stream, {"b": body})
        await pipeline.execute()
        answer: Any = await redis.xreadgroup("bench", "one", {stream: ">"}, count=BATCH)
        found = answer[0][1]
        await pool.copy_records_to_table("bench_floor", records=[(fields[b"b"],) for _, fields in found])
        await redis.xack(stream, "bench", *(id_ for id_, _ in found))
    seconds = timer.seconds
    await redis.delete(stream)
    await redis.aclose()
    return len(bodies) / seconds

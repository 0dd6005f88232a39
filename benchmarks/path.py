"""The whole path: reports sent over HTTP, routed to their incidents, and entered into the ledger."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from benchmarks.measure import Figure, Timer, free_port, post_all, process, ratio
from benchmarks.stack import BATCH, SAMPLES, UNBOUNDED, device_token, furnished, plain_pool, reports, until_recorded
from shared import messaging

SENDERS = 2
UNIT = "reports/s routed and in the ledger"


async def run(data: Path, *, quick: bool) -> list[Figure]:
    """`trucban up`, as `make run` starts it; and the floor on the same servers."""
    count, port = _count(quick=quick), free_port()
    await imported(data)
    up = ("-m", "services.cli", "up", "--no-sample", "--data", str(data), "--port", str(port))
    async with process(*up, port=port, ready="/readyz", environment=UNBOUNDED):
        addresses: dict[str, str] = json.loads((data / "addresses.json").read_text())
        whole = await _path_per_s(port, device_token(data), addresses["database_url"], count)
        pool = await plain_pool(addresses["database_url"])
        try:
            floor = await _read_and_copy(addresses["redis_url"], pool, count)
        finally:
            await pool.close()
    return [
        Figure("path.reports_per_s", whole, f"{UNIT}; a process for each service, behind a front"),
        ratio("path.vs_floor", whole, "reports/s", "XADD, XREADGROUP and COPY of the same bodies", floor),
    ]


async def run_split(data: Path, *, quick: bool) -> list[Figure]:
    """A process for each service, as in production, and so more than one processor."""
    async with (
        furnished(data) as house,
        house.serving("ledger"),
        house.serving("escalation"),
        house.serving("intake") as port,
    ):
        whole = await _path_per_s(port, house.token, str(house.settings.database_url), _count(quick=quick))
    return [Figure("path.split_reports_per_s", whole, f"{UNIT}; three processes")]


def _count(*, quick: bool) -> int:
    return 5_000 if quick else 20_000


async def _path_per_s(port: int, token: str, database_url: str, count: int) -> float:
    items = reports(count, "path")
    bodies = [orjson.dumps(items[i : i + BATCH]) for i in range(0, count, BATCH)]
    timer = Timer()
    await post_all(port, "/intake/v1/reports:batch", bodies, token, SENDERS)
    await until_recorded(database_url, count)
    return count / timer.seconds


async def imported(data: Path) -> None:
    """The sample's wards and post-holders, in the folder that `trucban up` is given."""
    for name in ("wards", "directory"):
        await _trucban("import", name, str(SAMPLES / f"{name}.csv"), "--data", str(data))


async def _trucban(*arguments: str) -> None:
    command = (sys.executable, "-m", "services.cli", *arguments)
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if await child.wait():
        raise RuntimeError(f"trucban {' '.join(arguments)} failed")


async def _read_and_copy(redis_url: str, pool: asyncpg.Pool, count: int) -> float:
    """The least that a message system of this shape can do: into a stream, out of it, into one table."""
    bodies = [orjson.dumps(item) for item in reports(count, "floor")]
    redis, stream, group = messaging.connect(redis_url), "bench.floor", "bench"
    await redis.xgroup_create(stream, group, id="0", mkstream=True)
    await pool.execute("CREATE TABLE bench_floor (body bytea NOT NULL)")
    timer = Timer()
    for start in range(0, count, BATCH):
        pipeline = redis.pipeline(transaction=False)
        for body in bodies[start : start + BATCH]:
            pipeline.xadd(stream, {"b": body})
        await pipeline.execute()
        answer: Any = await redis.xreadgroup(group, "one", {stream: ">"}, count=BATCH)
        found = answer[0][1]
        await pool.copy_records_to_table("bench_floor", records=[(fields[b"b"],) for _, fields in found])
        await redis.xack(stream, group, *(id_ for id_, _ in found))
    seconds = timer.seconds
    await redis.delete(stream)
    await redis.aclose()
    return count / seconds

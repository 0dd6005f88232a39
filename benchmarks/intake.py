"""Intake alone, in a process of its own: one report a request, and many."""

import asyncio
from pathlib import Path

import orjson

from benchmarks.measure import ROUNDS, Figure, Timer, by_turns, free_port, post_all, process, ratio
from benchmarks.stack import BATCH, House, copy_per_s, furnished, reports

CONCURRENCY = 64
WRITERS = 10
"""Connections of the peer that commits each row by itself; as many as intake's pool has."""


async def run(data: Path, *, quick: bool) -> list[Figure]:
    async with furnished(data) as house:
        async with house.serving("escalation"), house.serving("intake"):
            pass  # ready: intake has learnt the wards, and can be measured without the others
        async with house.serving("intake") as port:
            return [
                *await _single(house, port, 500 if quick else 3_000),
                *await _batches(house, port, 3_000 if quick else 10_000),
            ]


async def _single(house: House, port: int, count: int) -> list[Figure]:
    """Counts are those of one round."""
    bodies = [[orjson.dumps(r) for r in reports(count, f"single-{number}")] for number in range(ROUNDS)]
    echo_port = free_port()
    command = (
        "-m",
        "uvicorn",
        "benchmarks.echo:app",
        "--port",
        str(echo_port),
        "--log-level",
        "error",
        "--no-access-log",
    )
    async with process(*command, port=echo_port, ready="/ready"):
        taken, echoed, inserted = await by_turns(
            lambda number: post_all(port, "/intake/v1/reports", bodies[number], house.token, CONCURRENCY),
            lambda number: post_all(echo_port, "/echo", bodies[number], house.token, CONCURRENCY),
            lambda number: _insert_per_s(house, f"bench_insert_{number}", bodies[number]),
        )
    peer = f"one-row INSERT commits, {WRITERS} connections"
    return [
        ratio("intake.single_vs_echo", taken, "requests/s", "FastAPI route that echoes the body", echoed),
        ratio("intake.single_vs_insert", taken, "requests/s", peer, inserted),
    ]


async def _insert_per_s(house: House, table: str, bodies: list[bytes]) -> float:
    await house.pool.execute(f"CREATE TABLE {table} (id bigserial PRIMARY KEY, body bytea NOT NULL)")
    waiting = iter(bodies)

    async def work() -> None:
        async with house.pool.acquire() as connection:
            for body in waiting:
                await connection.execute(f"INSERT INTO {table} (body) VALUES ($1)", body)

    timer = Timer()
    await asyncio.gather(*(work() for _ in range(WRITERS)))
    return len(bodies) / timer.seconds


async def _batches(house: House, port: int, count: int) -> list[Figure]:
    """Counts are those of one round."""
    items = [reports(count, f"batch-{number}") for number in range(ROUNDS)]

    async def send(number: int) -> float:
        bodies = [orjson.dumps(items[number][i : i + BATCH]) for i in range(0, count, BATCH)]
        return BATCH * await post_all(port, "/intake/v1/reports:batch", bodies, house.token, 2)

    async def copy(number: int) -> float:
        return await copy_per_s(house.pool, f"bench_copy_{number}", [orjson.dumps(item) for item in items[number]])

    accepted, copied = await by_turns(send, copy)
    return [
        Figure("intake.batch_per_s", accepted, "reports/s accepted"),
        ratio("intake.batch_vs_copy", accepted, "reports/s", "COPY of the same bodies, 500 a commit", copied),
    ]

"""What a new incident and an idle second cost `trucban up` with its servers: processor time and transactions."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.escalation import body_of, reports_of, send, two_hops
from benchmarks.measure import Connection, Figure, Timer, free_port, post_all, process
from benchmarks.path import imported
from benchmarks.stack import BATCH, UNBOUNDED, device_token, plain_pool, until_recorded
from shared.background import in_background

SINGLE_PER_SECOND = 30
PROBE_SECONDS = 5.0
"""How often somebody outside asks for readiness, as an orchestrator does."""
STARTED_SECONDS = 15.0
"""A system that has just become ready still opens connections. That is not what idle means."""
SETTLE_SECONDS = 3.0
"""PostgreSQL counts the transactions of a session up to a second late, and notices are on their way."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    seconds: float
    """By the clock."""
    cpu_ms: float
    transactions: float

    def beyond(self, idle: "Spent") -> "Spent":
        """Without what as much time costs when nothing comes in."""
        share = self.seconds / idle.seconds
        return Spent(self.seconds, self.cpu_ms - share * idle.cpu_ms, self.transactions - share * idle.transactions)


async def run(data: Path, *, quick: bool) -> list[Figure]:
    singles, batches = (300, 2_000) if quick else (900, 6_000)
    await imported(data)
    port = free_port()
    up = ("-m", "services.cli", "up", "--no-sample", "--data", str(data), "--port", str(port))
    async with process(*up, port=port, ready="/readyz", environment=UNBOUNDED) as pid:
        addresses: dict[str, str] = json.loads((data / "addresses.json").read_text())
        url, token = addresses["database_url"], device_token(data)
        pool = await plain_pool(url)
        events = reports_of(singles + batches, singles + batches)

        async def singly() -> None:
            await send(port, token, events[:singles], SINGLE_PER_SECOND)
            await until_recorded(url, singles)

        async def in_batches() -> None:
            bodies = [body_of(event) for event in events[singles:]]
            chunks = [b"[" + b",".join(bodies[i : i + BATCH]) + b"]" for i in range(0, batches, BATCH)]
            await post_all(port, "/intake/v1/reports:batch", chunks, token, 1)
            await until_recorded(url, singles + batches)

        async with in_background(_probe(port), "readiness probe"):
            await asyncio.sleep(STARTED_SECONDS)
            idle = await _spent(pid, pool, lambda: asyncio.sleep(10 if quick else 30))
            single = (await _spent(pid, pool, singly)).beyond(idle)
            batch = (await _spent(pid, pool, in_batches)).beyond(idle)
            began = time.process_time()
            hops = await _spent(pid, pool, lambda: two_hops(addresses["redis_url"], pool, singles, SINGLE_PER_SECOND))
            floor = hops.beyond(idle).cpu_ms + (time.process_time() - began) * 1000
        await pool.close()
    return [
        Figure(
            "escalation.cpu_ms_single",
            single.cpu_ms / singles,
            f"ms of CPU a new incident at {SINGLE_PER_SECOND}/s",
            "ms, a commit and two stream hops at that rate, with their client",
            floor / singles,
        ),
        Figure("escalation.cpu_ms_batch", batch.cpu_ms / batches, f"ms of CPU a new incident, {BATCH} in a request"),
        Figure("escalation.transactions_single", single.transactions / singles, "transactions a new incident"),
        Figure("escalation.idle_transactions_per_s", idle.transactions / idle.seconds, "transactions/s, all services"),
        Figure("escalation.idle_cpu_ms_per_s", idle.cpu_ms / idle.seconds, "ms of CPU a second, all services"),
    ]


async def _spent(pid: int, pool: asyncpg.Pool, work: Callable[[], Awaitable[object]]) -> Spent:
    """What the process `pid` and all that it started spend on `work`, and on what follows from it."""
    timer, cpu, transactions = Timer(), _cpu_ms(pid), await _transactions(pool)
    await work()
    await asyncio.sleep(SETTLE_SECONDS)
    return Spent(timer.seconds, _cpu_ms(pid) - cpu, await _transactions(pool) - transactions)


async def _transactions(pool: asyncpg.Pool) -> int:
    return await pool.fetchval(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    )


def _cpu_ms(pid: int) -> float:
    """Of a process, its descendants, and those of them that have ended."""
    own: dict[int, tuple[int, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        own[int(stat.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    family, before = {pid}, 0
    while len(family) > before:
        before = len(family)
        family |= {child for child, (parent, _) in own.items() if parent in family}
    return sum(own[member][1] for member in family if member in own) * 1000 / TICKS


async def _probe(port: int) -> None:
    while True:
        connection = await Connection.open(port)
        await connection.request("GET", "/readyz")
        connection.close()
        await asyncio.sleep(PROBE_SECONDS)

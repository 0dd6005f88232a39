"""Faults of PostgreSQL: locks that others hold, time-outs, connections that run out."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random

import asyncpg
from sqlalchemy.engine import make_url

from tests.faults.administration import AWAY, Connection, connect, end_sessions, execute, session
from tests.faults.stack import House

LOCK_SECONDS = 15.0
"""How long the other session waits for its lock. What waits behind it waits too."""
TABLES = (
    "intake.report",
    "intake.outbox",
    "intake.outbox_stream",
    "escalation.incident",
    "escalation.report",
    "escalation.notice",
    "escalation.delivery",
    "escalation.deadline",
    "escalation.pace",
    "escalation.outbox",
    "escalation.outbox_stream",
    "ledger.entry",
    "ledger.checkpoint",
)
ROWS = (
    "SELECT FROM escalation.incident ORDER BY random() LIMIT 3",
    "SELECT FROM escalation.incident",
    "SELECT FROM escalation.delivery WHERE state IN ('queued', 'sending', 'failed')",
    "SELECT FROM escalation.deadline WHERE state = 'pending'",
    "SELECT FROM escalation.pace",
    "SELECT FROM escalation.outbox_stream",
    "SELECT FROM intake.outbox_stream",
    "SELECT FROM intake.outbox",
    "SELECT FROM intake.report ORDER BY random() LIMIT 50",
)
_ADVISORY = "SELECT DISTINCT classid::int8, objid::int8, objsubid FROM pg_locks WHERE locktype = 'advisory'"
LOOKS = 200
"""How often the other session looks which advisory locks the product uses."""


# --- locks ---


async def lock_table(house: House, draw: Random, seconds: float) -> None:
    """By a session that holds it and does nothing."""
    await _hold(house, f"LOCK TABLE {draw.choice(TABLES)} IN ACCESS EXCLUSIVE MODE", seconds)


async def lock_rows(house: House, draw: Random, seconds: float) -> None:
    await _hold(house, f"{draw.choice(ROWS)} FOR UPDATE", seconds)


async def lock_advisory(house: House, draw: Random, seconds: float) -> None:
    """One of those that the product takes, whichever it is."""
    async with session(house.servers) as connection:
        with suppress(*AWAY):
            keys = await _advisory_keys(connection)
            if not keys:
                return
            high, low, parts = draw.choice(keys)
            key = f"{_signed(high, 32)}, {_signed(low, 32)}" if parts == 2 else str(_signed((high << 32) + low, 64))
            await _hold_on(connection, f"SELECT pg_advisory_xact_lock({key})", seconds)


async def _advisory_keys(connection: Connection) -> Sequence[tuple[int, int, int]]:
    found: set[tuple[int, int, int]] = set()
    for _ in range(LOOKS):
        found |= {(row[0], row[1], row[2]) for row in await connection.fetch(_ADVISORY)}
        await asyncio.sleep(0.005)
    return sorted(found)


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >= 1 << (bits - 1) else number


async def _hold(house: House, statement: str, seconds: float) -> None:
    async with session(house.servers) as connection:
        with suppress(*AWAY):  # the server was killed, and the lock is gone with it
            await _hold_on(connection, statement, seconds)


async def _hold_on(connection: Connection, statement: str, seconds: float) -> None:
    async with connection.transaction():
        await connection.execute(statement, timeout=LOCK_SECONDS)
        await asyncio.sleep(seconds)


# --- time-outs ---


async def statement_timeout(house: House, draw: Random, seconds: float) -> None:
    await _with_setting(house, "statement_timeout", draw.choice((5, 20, 100, 500)), seconds)


async def lock_timeout(house: House, draw: Random, seconds: float) -> None:
    await _with_setting(house, "lock_timeout", draw.choice((1, 5, 50)), seconds)


async def _with_setting(house: House, name: str, milliseconds: int, seconds: float) -> None:
    """Of the database: it holds for sessions that begin later, so all end."""
    database = make_url(house.servers.database_url).database
    try:
        await execute(house.servers, f"ALTER DATABASE {database} SET {name} = {milliseconds}")
        await end_sessions(house.servers)
        await asyncio.sleep(seconds)
    finally:
        await execute(house.servers, f"ALTER DATABASE {database} RESET {name}")
        await end_sessions(house.servers)


# --- connections ---


async def take_connections(house: House, draw: Random, seconds: float) -> None:
    """Idle connections take all that are left; half of the time the product's own are ended first."""
    held: list[Connection] = []
    if draw.random() < 0.5:
        await end_sessions(house.servers)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _keep_full(house, held)
    finally:
        for connection in held:
            connection.terminate()


async def _keep_full(house: House, held: list[Connection]) -> None:
    while True:
        try:
            held.append(await connect(house.servers))
        except asyncpg.TooManyConnectionsError:
            await asyncio.sleep(0.05)
        except AWAY:
            held[:] = [connection for connection in held if not connection.is_closed()]
            await asyncio.sleep(0.2)

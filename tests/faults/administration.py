"""What an administrator of the two servers can do to them; each action is repeated until the server takes it."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.cli.embedded import EmbeddedError, Servers

AGAIN_SECONDS = 0.1
ANSWER_SECONDS = 20.0
"""After this long without an answer the server is asked again over another connection."""
AWAY = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its own, where the server dies in the midst of a statement
    RedisError,
    TimeoutError,
)
"""What is raised while a server is frozen, full, starting, or gone."""
_SETTINGS = ("track_commit_timestamp = on", "max_wal_size = '96MB'", "min_wal_size = '32MB'")
"""The first tells when each row came to be; the others keep the log of changes on a small disk."""
_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
Connection = asyncpg.Connection


async def insist(action: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat the action while the server is away. Without end: a run has a limit of its own."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await action()
        except AWAY:
            await asyncio.sleep(AGAIN_SECONDS)


# --- PostgreSQL ---


def postgres_pid(servers: Servers) -> int | None:
    """Of the postmaster; None while it is not there."""
    try:
        return servers.postgres_pid
    except EmbeddedError:
        return None


async def connect(servers: Servers) -> Connection:
    """A session that no time-out of the database concerns. Raises what AWAY lists."""
    url = servers.database_url.replace("+asyncpg", "")
    settings = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
    return await asyncpg.connect(url, timeout=5, ssl=False, server_settings=settings | {"application_name": "faults"})


@asynccontextmanager
async def session(servers: Servers) -> AsyncGenerator[Connection]:
    made: Connection = await insist(lambda: connect(servers))
    try:
        yield made
    finally:
        made.terminate()


async def execute(servers: Servers, *statements: str) -> None:
    async def all_of_them() -> None:
        connection = await connect(servers)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            connection.terminate()

    await insist(all_of_them)


async def end_sessions(servers: Servers) -> None:
    """All sessions of clients end, as after a restart of the network; settings of the database hold for later ones."""
    await execute(servers, _TERMINATE)


async def restart_postgres(servers: Servers) -> None:
    """Once, before anything runs: some settings want a restart."""
    await execute(servers, *(f"ALTER SYSTEM SET {setting}" for setting in _SETTINGS))
    before = servers.postgres_pid
    os.kill(before, signal.SIGINT)
    while servers.postgres_pid == before:  # noqa: ASYNC110 - the parent starts it again
        await asyncio.sleep(0.05)
    await execute(servers, "SELECT 1")


# --- Redis ---


@asynccontextmanager
async def redis_client(servers: Servers) -> AsyncGenerator[Redis]:
    async with Redis.from_url(servers.redis_url, socket_timeout=5) as client:
        yield client


async def redis_command(servers: Servers, *parts: str | int) -> Any:
    """Raises ResponseError, a refusal, as it is."""

    async def command() -> Any:
        async with redis_client(servers) as client:
            return await client.execute_command(*parts)

    return await insist(command)


async def redis_try(servers: Servers, *parts: str | int) -> Any:
    """Once; None if Redis refuses or does not answer."""
    with suppress(*AWAY):
        async with redis_client(servers) as client:
            return await client.execute_command(*parts)
    return None


def send(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):  # struck a moment ago, and not yet back
            os.kill(pid, number)

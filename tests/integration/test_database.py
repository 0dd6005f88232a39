"""The limits of each connection: of time in PostgreSQL, and of a host that has vanished."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.cli.embedded import Servers
from shared.database import PATIENT, SERVICE, TimeLimits, connect
from shared.messaging import passes_by_itself
from tests.integration.escalation_support import until

SHOWN = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
KEEPALIVE_TIMER = "02"
Run = Callable[[Coroutine[Any, Any, None]], None]


async def _limits(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return [str(await connection.scalar(text(f"SHOW {name}"))) for name in SHOWN]


async def test_a_service_is_limited_and_long_work_is_not(servers: Servers) -> None:
    for limits, shown in ((SERVICE, ["20s", "15s", "10s", "30s"]), (PATIENT, ["0", "0", "1min", "0"])):
        engine = connect(servers.database_url, limits=limits)
        assert await _limits(engine) == shown
        await engine.dispose()


async def test_who_waits_for_a_frozen_holders_lock_gets_it_before_the_own_time_is_up() -> None:
    assert SERVICE.idle_in_transaction < SERVICE.lock < SERVICE.statement < SERVICE.transaction


async def test_a_transaction_in_which_nothing_happens_ends_and_the_next_works(servers: Servers) -> None:
    watching = connect(servers.database_url, pool_size=1)
    engine = connect(servers.database_url, pool_size=1, limits=TimeLimits(0, 0, idle_in_transaction=0.1, transaction=0))
    async with engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        await until(lambda: _is_gone(watching, pid), "the session ends")
        with pytest.raises(DBAPIError) as lost:
            await connection.execute(text("SELECT 1"))
        assert passes_by_itself(lost.value)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await engine.dispose()
    await watching.dispose()


@pytest.mark.parametrize("limits", [TimeLimits(0.1, 0, 0, 0), TimeLimits(0, 0.1, 0, 0)], ids=["statement", "lock"])
async def test_who_waits_too_long_for_a_lock_is_told_so(servers: Servers, limits: TimeLimits) -> None:
    engine = connect(servers.database_url, limits=limits)
    lock = text("SELECT pg_advisory_xact_lock(4711)")
    async with engine.begin() as holder, engine.connect() as waiting:
        await holder.execute(lock)
        with pytest.raises(DBAPIError) as late:
            await waiting.execute(lock)
        assert passes_by_itself(late.value)
    await engine.dispose()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_over_a_network_notices_that_the_other_host_has_vanished(servers: Servers, run: Run) -> None:
    """The kernel asks the other host on a timer. The server is asked to do the same by the session's settings."""
    run(_connected_over_tcp(servers))


async def _connected_over_tcp(servers: Servers) -> None:
    host = str(make_url(servers.database_url).query["host"])

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, ours))
            both.create_task(_copy(theirs, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as network:
        port = network.sockets[0].getsockname()[1]
        database = make_url(servers.database_url).database
        engine = connect(f"postgresql://trucban@127.0.0.1:{port}/{database}", pool_size=1)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SHOW tcp_keepalives_idle")) in {"0", "10"}, "0: a socket of Unix"
            assert _timer_to(port) == KEEPALIVE_TIMER
        await engine.dispose()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    writer.close()


def _timer_to(port: int) -> str:
    """What the kernel waits for on the established connection to the port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, _, timer, *_ = line.split()
        if remote.endswith(f":{port:04X}") and state == "01":
            return timer.partition(":")[0]
    raise AssertionError("there is no connection")


async def _is_gone(engine: AsyncEngine, pid: int) -> bool:
    async with engine.connect() as connection:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        return not await connection.scalar(query, {"pid": pid})

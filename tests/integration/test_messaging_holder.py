"""One relay holds a stream. It may be stopped at any step, for any time, and wake when another has gone on."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cli.embedded import Servers
from shared import messaging
from shared.messaging.publishing import Position, Publisher
from shared.messaging.relay import LOCK_CLASS, lock_key
from tests.integration.messaging_support import Seen, World, new_world, own_redis, relay_process, until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


async def test_another_relay_goes_on_for_one_that_is_frozen_and_harmless_when_it_wakes(world: World) -> None:
    waiting = world.relay(take_over_after=0.5)
    async with relay_process(world) as frozen:
        await world.emit(*range(100))
        await until(lambda: world.holds(list(range(100))), "the first has the lock")
        async with waiting.running():
            frozen.send_signal(signal.SIGSTOP)
            try:
                for n in range(100, 300, 5):
                    await world.emit(*range(n, n + 5))
                await until(lambda: world.holds(list(range(300))), "the other has taken over")
                assert waiting.health_failure() is None
            finally:
                frozen.send_signal(signal.SIGCONT)
            for n in range(300, 500, 5):
                await world.emit(*range(n, n + 5))
            await until(lambda: world.holds(list(range(500))), "in order, nothing twice")


async def test_who_publishes_hears_at_once_of_the_rows_of_another_process(world: World) -> None:
    """By itself it would look after ten minutes."""
    publishing, waiting = world.relay(poll=600.0), world.relay(poll=600.0)
    async with publishing.running():
        await world.emit(0)
        publishing.wake()
        await until(lambda: world.holds([0]), "it has the lock")
        async with waiting.running():
            for number in range(1, 4):
                await world.emit(number)
                waiting.wake()
                await until(lambda number=number: world.holds(list(range(number + 1))), "published")


async def test_rows_of_which_nobody_told_are_found(world: World) -> None:
    async with world.relay().running():
        await world.emit(0)
        await until(lambda: world.holds([0]), "published")
        await world.emit(1)
        await until(lambda: world.holds([0, 1]), "published too")


async def test_a_relay_that_waits_complains_of_events_that_nobody_publishes(world: World) -> None:
    """PostgreSQL is working for the session that has the lock: it has not stalled, and is not ended."""
    relay = world.relay(take_over_after=0.3)
    async with _locked(world) as (holder, _):
        working = asyncio.create_task(holder.execute(text("SELECT pg_sleep(300)")))
        async with relay.running():
            await asyncio.sleep(1)
            assert relay.health_failure() is None, "nothing waits"
            await world.emit(1)
            await until(lambda: _says(relay, "have waited"), "a health failure")
            await _end(world, holder)
            with pytest.raises(DBAPIError):
                await working
            await until(lambda: world.holds([1]), "published once the lock is free")
            assert relay.health_failure() is None


async def _append(world: World, publisher: Publisher) -> Callable[[], Awaitable[object]]:
    position = await publisher.find_position()
    await world.emit(*range(10))
    rows = await publisher.next_rows(position)
    assert len(rows) == 10
    return lambda: publisher.append(position, rows)


async def _prune(world: World, publisher: Publisher) -> Callable[[], Awaitable[object]]:
    position = await _publish(world, publisher)
    return lambda: publisher.prune(position)


async def _publish(world: World, publisher: Publisher) -> Position:
    position = await publisher.find_position()
    await world.emit(*range(10))
    assert await publisher.append(position, await publisher.next_rows(position))
    return position


async def _look_for_rows(world: World, publisher: Publisher) -> Callable[[], Awaitable[object]]:
    position = await _publish(world, publisher)
    return lambda: publisher.next_rows(position)


async def _restart(world: World, publisher: Publisher) -> Callable[[], Awaitable[object]]:
    """It has found that entries were lost."""
    stream = world.redis.stream(world.stream, world.groups)
    position = await _publish(world, publisher)
    return lambda: stream.restart(position.last_id)


STEPS = {
    "append": _append,
    "prune": _prune,
    "look for rows": _look_for_rows,
    "restart the stream": _restart,
}


@pytest.mark.parametrize("freeze_before", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("comes_to_rest", [True, False], ids=["afterwards", "meanwhile"])
async def test_a_relay_that_wakes_after_another_took_over_does_no_harm_with_its_next_step(
    world: World,
    freeze_before: Callable[[World, Publisher], Awaitable[Callable[[], Awaitable[object]]]],
    comes_to_rest: bool,
) -> None:
    seen = Seen()
    async with _locked(world) as (connection, publisher):
        next_step = await freeze_before(world, publisher)
        await _end(world, connection)
        async with world.relay().running(), world.consumer(seen.handle).running():
            await until(lambda: _has(seen, 10), "another has published what there was")
            await world.emit(*range(10, 20))
            if comes_to_rest:
                await world.drained()
            await asyncio.gather(next_step(), return_exceptions=True)
            await world.emit(*range(20, 30))
            await until(lambda: _has(seen, 30), "and the rest")
            await world.drained()
    assert seen.order == list(range(30))
    if freeze_before is not _restart:
        assert [n for batch in seen.given for n in batch] == list(range(30)), "in order, nothing twice"


async def test_a_relay_that_wakes_deletes_no_row(world: World) -> None:
    """Though all is handled: whoever has the lock does it."""
    async with _locked(world) as (connection, publisher):
        position = await _publish(world, publisher)
        await world.handled("escalation", "one", await world.read("escalation", "one", 10))
        await _end(world, connection)
        with pytest.raises(DBAPIError):
            await publisher.prune(position)
    assert len(await world.waiting()) == 10


@asynccontextmanager
async def _locked(world: World) -> AsyncGenerator[tuple[AsyncConnection, Publisher]]:
    """A session that has the relay's lock, and its publisher."""
    async with world.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        lock = select(func.pg_advisory_lock(LOCK_CLASS, lock_key(world.outbox, world.stream)))
        await connection.execute(lock)
        stream = world.redis.stream(world.stream, world.groups)
        try:
            yield connection, Publisher(connection, world.outbox, stream, world.seals, 500, 0.0)
        finally:
            await connection.invalidate()


async def _end(world: World, connection: AsyncConnection) -> None:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    async with world.engine.connect() as other:
        await other.execute(select(func.pg_terminate_backend(driver.get_server_pid())))


async def _says(relay: messaging.Relay, words: str) -> bool:
    return words in (relay.health_failure() or "")


async def _has(seen: Seen, count: int) -> bool:
    return len(seen.once) >= count

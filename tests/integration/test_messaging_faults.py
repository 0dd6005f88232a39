"""The same way while Redis forgets, dies or refuses, and while relays and consumers are killed."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import RedisError
from sqlalchemy import delete, update

from services.cli.embedded import Servers
from shared import messaging
from tests.integration.messaging_support import Event, Seen, World, new_world, own_redis, relay_process, until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


class Interrupted(Seen):
    """Does something to the servers, once, when half of the load has been handled."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.half, self.reached = half, asyncio.Event()

    async def handle(self, events: Sequence[Event]) -> None:
        await super().handle(events)
        if len(self.once) >= self.half:
            self.reached.set()


async def _load(world: World, count: int) -> None:
    for n in range(0, count, 20):
        await world.emit(*range(n, n + 20))
        await asyncio.sleep(0)


@pytest.mark.parametrize("loss", ["everything is flushed", "the stream is deleted", "redis is killed"])
async def test_no_event_is_lost_in_the_middle_of_a_load_when(world: World, loss: str) -> None:
    seen = Interrupted(700)
    async with world.relay().running() as _, world.consumer(seen.handle, max_records=50).running():
        load = asyncio.create_task(_load(world, 2000))
        await seen.reached.wait()
        if loss == "everything is flushed":
            await world.redis.flushall()
        elif loss == "the stream is deleted":
            await world.redis.delete(world.stream)
        else:
            os.kill(world.servers.redis_pid, signal.SIGKILL)
        await load
        await world.drained(20)
    assert seen.order == list(range(2000)), "every event, first seen in order"
    assert not await world.dead_rows()


async def test_what_is_lost_while_nothing_new_comes_is_published_again(world: World) -> None:
    await world.emit(*range(10))
    async with world.relay().running():
        await until(lambda: _in_stream(world, list(range(10))), "published")
        await world.redis.flushall()
        await until(lambda: _in_stream(world, list(range(10))), "and again")


async def test_what_redis_lost_while_no_relay_ran_is_published_again(world: World) -> None:
    await world.emit(*range(10))
    async with world.relay().running():
        await until(lambda: _in_stream(world, list(range(10))), "published")
    await world.redis.flushall()
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        await world.drained()
    assert seen.order == list(range(10))


async def test_only_a_lost_tail_is_published_again(world: World) -> None:
    """Redis came back from an append-only file that lacks the last entries: its stream ends at an earlier id."""
    await world.emit(*range(10))
    async with world.relay().running():
        await until(lambda: _in_stream(world, list(range(10))), "published")
        await world.redis.xdel(world.stream, *(f"{number}-0" for number in range(6, 11)))
        await world.redis.execute_command("XSETID", world.stream, "5-0")
        await until(lambda: _in_stream(world, list(range(10))), "the tail is published again, nothing twice")


async def _restored(world: World) -> None:
    """As from a backup of PostgreSQL, when only three events had been decided."""
    async with world.engine.begin() as connection:
        await connection.execute(update(world.outbox.streams).values(assigned=3))
        await connection.execute(delete(world.outbox.rows).where(world.outbox.rows.c.number > 3))


async def test_an_outbox_older_than_its_stream_publishes_all_it_has(world: World) -> None:
    await world.emit(*range(10))
    async with world.relay().running():
        await until(lambda: _in_stream(world, list(range(10))), "published")
    await _restored(world)
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        await world.emit(10, 11)
        await until(lambda: _has_seen(seen, 12), "what only the stream has, and what is new")
        await world.drained()
    assert sorted(seen.order) == list(range(12))


async def test_an_older_outbox_publishes_all_though_new_events_took_the_numbers_of_lost_ones(world: World) -> None:
    """Between the restart of PostgreSQL and the relay's first look more is decided than was lost."""
    await world.emit(*range(10))
    async with world.relay().running():
        await until(lambda: _in_stream(world, list(range(10))), "published")
    await _restored(world)
    await world.emit(*range(10, 30))
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        await until(lambda: _has_seen(seen, 30), "what only the stream has, and what is new")
        await world.drained()
    assert sorted(seen.order) == list(range(30))


async def test_a_relay_killed_anywhere_leaves_no_gap_and_no_double(world: World) -> None:
    await world.emit(*range(5000))
    async with relay_process(world):
        await until(lambda: _at_least(world, 1000), "publishing")
    async with world.relay().running():
        await until(lambda: _at_least(world, 5000), "the rest")
    assert await world.in_stream() == list(range(5000))


async def test_a_relay_killed_while_it_waits_for_redis_leaves_no_gap_and_no_double(world: World) -> None:
    await world.emit(*range(10))
    async with relay_process(world) as process:
        await until(lambda: _at_least(world, 10), "published")
        await world.redis.client_pause(30_000, all=False)  # writes wait, from here on
        try:
            await world.emit(*range(10, 20))
            await until(lambda: _somebody_appends(world), "the relay waits for Redis")
        finally:
            process.kill()
            await process.wait()
            await until(lambda: _nobody_appends(world), "Redis notices that the relay is gone")
            await world.redis.client_unpause()
    assert await world.in_stream() == list(range(10)), "nothing was sent"
    async with world.relay().running():
        await until(lambda: _at_least(world, 20), "the next relay sends it")
    assert await world.in_stream() == list(range(20))


async def test_a_lost_group_starts_from_the_beginning(world: World) -> None:
    """Without a relay, which would make the group anew as well."""
    await world.emit(*range(10))
    async with world.relay().running():
        await until(lambda: _at_least(world, 10), "published")
    seen = Seen()
    async with world.consumer(seen.handle).running():
        await world.drained()
        await world.redis.xgroup_destroy(world.stream, "escalation")
        await world.drained()
    assert [n for batch in seen.given for n in batch] == [*range(10), *range(10)]


async def test_a_redis_that_refuses_is_asked_seldom_and_served_when_it_is_back(world: World) -> None:
    """READONLY, as after a failover. FastStream alone asks 2,400 times a second and leaks a task each time."""
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        await world.emit(1)
        await world.drained()
        tasks = len(asyncio.all_tasks())
        await world.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            await world.emit(2)
            before = await world.statistic("errorstats", "errorstat_READONLY", "count")
            await asyncio.sleep(2)  # the length of the measurement
            refused = await world.statistic("errorstats", "errorstat_READONLY", "count") - before
            assert 2 <= refused <= 60, "four loops, each backing off"
            assert len(asyncio.all_tasks()) <= tasks + 2, "nothing piles up"
        finally:
            await world.redis.execute_command("REPLICAOF", "NO", "ONE")
        await world.drained()
    assert seen.order == [1, 2]


async def test_a_consumer_starts_without_redis_says_so_and_stops(world: World) -> None:
    consumer = world.consumer(Seen().handle, url="unix:///tmp/no-such-redis.sock", stall_after=0.1)
    assert "nothing was read yet" in (consumer.health_failure() or "")
    async with consumer.running():
        await until(lambda: _says(consumer, "ConnectionError"), "why")


async def _says(consumer: messaging.Consumer[Event], words: str) -> bool:
    return words in (consumer.health_failure() or "")


async def test_a_handler_that_hangs_is_a_health_failure_though_redis_answers(world: World) -> None:
    forever = asyncio.Event()

    async def handle(events: Sequence[Event]) -> None:
        await forever.wait()

    consumer = world.consumer(handle, stall_after=0.3, grace=0.1)
    await world.emit(1)
    async with world.relay().running(), consumer.running():
        assert await world.redis.ping()
        await until(lambda: _is_unhealthy(consumer), "a health failure")
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle, claim_idle=60.0).running():
        await world.drained()
    assert seen.order == [1], "cut off, it is handled first after the restart"


async def test_a_consumer_killed_in_a_batch_handles_it_first_after_its_restart(world: World) -> None:
    await world.emit(*range(10))
    async with world.relay().running():
        await until(lambda: _at_least(world, 10), "published")
        await world.read("escalation", "one", 4)
        seen = Seen()
        async with world.consumer(seen.handle, claim_idle=60.0).running():
            await world.drained()
    assert seen.given == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


async def _in_stream(world: World, expected: list[int]) -> bool:
    return await world.in_stream() == expected


async def _at_least(world: World, count: int) -> bool:
    try:
        return await world.redis.xlen(world.stream) >= count
    except RedisError:
        return False


async def _nobody_appends(world: World) -> bool:
    clients: Any = await world.redis.client_list()
    return all(client["cmd"] != "evalsha" for client in clients)


async def _somebody_appends(world: World) -> bool:
    return not await _nobody_appends(world)


async def _has_seen(seen: Seen, count: int) -> bool:
    return len(seen.once) >= count


async def _is_unhealthy(consumer: messaging.Consumer[Event]) -> bool:
    return consumer.health_failure() is not None

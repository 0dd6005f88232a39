"""The way of events from an outbox through a stream to its groups, when nothing breaks but the events themselves."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from services.cli.embedded import Servers
from shared import messaging
from shared.database import connect
from shared.messaging import dead_stream
from tests.integration.messaging_support import Event, Seen, World, new_world, own_redis, until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


async def test_events_arrive_in_order_and_are_forgotten_once_everyone_has_them(world: World) -> None:
    seen = Seen()
    await world.emit(*range(1200))
    async with world.relay().running() as _, world.consumer(seen.handle).running():
        await world.drained()
        assert [n for batch in seen.given for n in batch] == list(range(1200)), "each event once, in order"
        assert max(map(len, seen.given)) <= 500, "a read is bounded"

        async def forgotten() -> bool:
            return not await world.waiting() and not await world.in_stream()

        await until(forgotten, "acknowledged events leave the outbox and the stream")


async def test_what_comes_while_a_consumer_gathers_is_handled_together(world: World) -> None:
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle, gather=0.5).running():
        for n in range(1, 4):
            await world.emit(n)
            await until(world.is_published, "published")
        await world.drained()
    assert [n for batch in seen.given for n in batch] == [1, 2, 3]
    assert len(seen.given) < 3


async def test_an_event_is_published_only_if_its_transaction_commits(world: World) -> None:
    with pytest.raises(IntegrityError):
        await world.emit(1, 1)
    await world.emit(2)
    async with world.relay().running():
        await until(lambda: _equals(world.in_stream, [2]), "only the committed event is in the stream")


async def test_a_group_gets_what_was_published_before_it_existed(world: World) -> None:
    await world.emit(1, 2)
    async with world.relay().running():
        await until(lambda: _equals(world.in_stream, [1, 2]), "published")
        seen = Seen()
        await world.redis.xgroup_destroy(world.stream, "escalation")
        async with world.consumer(seen.handle).running():
            await world.drained()
    assert seen.order == [1, 2]


async def test_the_slowest_group_decides_what_is_forgotten(servers: Servers) -> None:
    async with new_world(servers, ("escalation", "ledger")) as world:
        await world.emit(*range(200))
        seen = Seen()
        async with world.relay().running(), world.consumer(seen.handle).running():
            await until(lambda: _covers(world, 200), "published")
            in_hand = await world.read("ledger", "slow", 120)
            await world.handled("ledger", "slow", in_hand[:100])
            await until(lambda: _equals(world.in_stream, list(range(100, 200))), "trimmed up to what ledger owes")
            assert seen.order == list(range(200)), "escalation has all"
            assert len(await world.waiting()) == 100, "the outbox keeps what ledger owes"
            ledger = Seen()
            async with world.consumer(ledger.handle, "slow", group="ledger").running():
                await world.drained()
            assert ledger.order == list(range(100, 200)), "the entries in hand before the restart come first"


async def test_one_relay_works_and_another_takes_over(world: World) -> None:
    """Each with its own engine, as two processes have."""
    engine = connect(world.servers.database_url)
    first, second = world.relay(engine), world.relay()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        async with first.running():
            await world.emit(0, 1, 2)
            await until(lambda: _covers(world, 3), "the first has the lock")
            await stack.enter_async_context(second.running())
            for n in range(3, 300, 3):
                await world.emit(n, n + 1, n + 2)
            await until(lambda: _covers(world, 100), "published by one of them")
        for n in range(300, 600, 3):
            await world.emit(n, n + 1, n + 2)
            second.wake()
        await until(lambda: _covers(world, 600), "the one that is left publishes the rest")
        assert await world.in_stream() == list(range(600)), "in order, nothing twice"
        assert second.health_failure() is None


async def test_what_cannot_be_read_is_a_dead_letter_at_once_and_its_neighbours_are_handled(world: World) -> None:
    seen = Seen()
    await world.emit(1, 2, 3, bodies={2: "không phải JSON: Nguyễn Văn A".encode()})
    async with world.relay().running(), world.consumer(seen.handle).running():
        await world.drained()
    assert seen.given == [[1, 3]]
    (row,) = await world.dead_rows()
    assert (row.group, row.stream, row.deliveries) == ("escalation", world.stream, 1)
    assert row.body.decode().endswith("Nguyễn Văn A"), "the truth is kept whole"
    assert row.error.startswith("JSONDecodeError")
    letters: Any = await world.redis.xrange(dead_stream(world.stream))
    assert [fields for _, fields in letters] == [
        {b"group": b"escalation", b"entry_id": row.entry_id.encode(), b"error": row.error.encode()}
    ], "without the words: a stream cannot forget them"


async def test_a_foreign_entry_neither_hides_nor_stops_our_events(world: World) -> None:
    """Somebody adds an entry by hand, with the id of Redis' clock, far above ours."""
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        await world.emit(1, 2, 3)
        await world.drained()
        await world.redis.xadd(world.stream, {"garbage": "x"})
        await world.emit(4, 5, 6)
        await world.drained()
    assert seen.order == [1, 2, 3, 4, 5, 6]
    (row,) = await world.dead_rows()
    assert row.error == "entries were refused: no service has signed them"


async def test_an_event_that_always_fails_is_dead_after_its_deliveries_and_holds_up_nobody(world: World) -> None:
    seen = Seen()
    tries: list[int] = []

    async def handle(events: Sequence[Event]) -> None:
        if any(event.n == 40 for event in events):
            tries.append(len(events))
            raise ValueError("Nguyễn Văn A")
        await seen.handle(events)

    await world.emit(*range(100))
    async with world.relay().running() as _, world.consumer(handle).running():
        await world.drained()
    assert seen.order == [n for n in range(100) if n != 40], "the others, in order"
    assert tries.count(1) == 3, "alone, at each of its three deliveries"
    (row,) = await world.dead_rows()
    assert (row.deliveries, row.body) == (3, b'{"n": 40, "words": "Nguy\\u1ec5n V\\u0103n A","seq":41}')
    assert row.error.startswith("ValueError at ")
    assert "Nguyễn" not in row.error, "an error's text may quote a person"
    assert (await messaging.progress(world.redis, world.streams))[0].dead == 1


FAILURES = {
    "connection killed": "SELECT pg_terminate_backend(pg_backend_pid())",
    "serialization": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$",
    "deadlock": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$",
    "lock not available": "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '55P03'; END $$",
}


@pytest.mark.parametrize("statement", FAILURES.values(), ids=FAILURES.keys())
async def test_what_passes_by_itself_is_met_by_the_same_batch_again(world: World, statement: str) -> None:
    seen = Seen()
    failed: list[list[int]] = []

    async def handle(events: Sequence[Event]) -> None:
        if len(failed) < 4:  # more often than an event may be delivered
            failed.append([event.n for event in events])
            async with world.engine.begin() as connection:
                await connection.execute(text(statement))
        await seen.handle(events)

    await world.emit(*range(50))
    async with world.relay().running() as _, world.consumer(handle).running():
        await world.drained()
    assert [n for batch in seen.given for n in batch] == list(range(50)), "each once, in order"
    assert failed == [failed[0]] * 4, "the same batch each time"
    assert not await world.dead_rows(), "an outage kills no event"


async def test_an_error_of_the_data_is_not_taken_for_an_outage(world: World) -> None:
    async def handle(events: Sequence[Event]) -> None:
        async with world.engine.begin() as connection:
            await connection.execute(text("SELECT 1/0"))

    await world.emit(1)
    async with world.relay().running(), world.consumer(handle).running():
        await world.drained()
    assert [row.error.split(" ")[0] for row in await world.dead_rows()] == ["DBAPIError"]


async def test_what_is_being_handled_is_not_claimed_by_another(world: World) -> None:
    release, other = asyncio.Event(), Seen()

    async def slow(events: Sequence[Event]) -> None:
        await release.wait()

    await world.emit(1, 2)
    async with world.relay().running(), world.consumer(slow).running():
        await until(lambda: _equals(world.pending, 2), "in hand")
        async with world.consumer(other.handle, "two").running():
            looks = await world.statistic("commandstats", "cmdstat_xpending", "calls")

            async def looked_often() -> bool:
                return await world.statistic("commandstats", "cmdstat_xpending", "calls") > looks + 60

            await until(looked_often, "the other has looked for what is idle")
            assert other.given == []
            release.set()
            await world.drained()
    assert other.given == []


async def test_what_a_crashed_consumer_had_in_hand_is_taken_over(world: World) -> None:
    await world.emit(1, 2, 3)
    async with world.relay().running():
        await until(lambda: _equals(world.in_stream, [1, 2, 3]), "published")
        await world.read("escalation", "crashed", 2)
        seen = Seen()
        async with world.consumer(seen.handle, stale_after=0.3).running():
            await world.drained()
            assert sorted(seen.order) == [1, 2, 3]

            async def alone() -> bool:
                consumers: Any = await world.redis.xinfo_consumers(world.stream, "escalation")
                return [consumer["name"] for consumer in consumers] == [b"one"]

            await until(alone, "a consumer that is gone for long is deleted")


async def test_a_handler_finishes_before_the_consumer_stops(world: World) -> None:
    started, done = asyncio.Event(), Seen()

    async def handle(events: Sequence[Event]) -> None:
        started.set()
        await asyncio.sleep(0.2)
        await done.handle(events)

    await world.emit(1)
    async with world.relay().running():
        async with world.consumer(handle).running():
            await started.wait()
        assert done.order == [1]
        assert await world.pending() == 0, "and acknowledges"


async def test_what_does_not_come_to_rest_is_named(world: World) -> None:
    await world.emit(1)
    with pytest.raises(TimeoutError, match="group escalation"):
        await world.drained(0.1)
    async with world.relay().running():
        await until(lambda: _equals(world.in_stream, [1]), "published")
    (group,) = await messaging.progress(world.redis, world.streams)
    assert (group.exists, group.published, group.delivered, group.caught_up) == (True, 1, 0, False)


async def _equals(ask: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await ask() == expected


async def _covers(world: World, count: int) -> bool:
    return await world.redis.xlen(world.stream) >= count

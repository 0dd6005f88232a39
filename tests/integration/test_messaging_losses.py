"""What Redis still holds is cut, moved or acknowledged by others while a group lags: no event may be lost."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from services.cli.embedded import Servers
from shared import messaging
from tests.integration.messaging_support import Seen, World, new_world, own_redis, until

ALL = list(range(10))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


async def _trim_all(world: World) -> None:
    await world.redis.xtrim(world.stream, maxlen=0, approximate=False)


async def _trim_some(world: World) -> None:
    await world.redis.xtrim(world.stream, maxlen=3, approximate=False)


async def _delete_some(world: World) -> None:
    await world.redis.xdel(world.stream, "6-0", "8-0")


async def _delete_the_last(world: World) -> None:
    await world.redis.xdel(world.stream, "10-0")


async def _move_the_group(world: World) -> None:
    await world.redis.xgroup_setid(world.stream, "escalation", "$")


async def _make_the_group_anew(world: World) -> None:
    await world.redis.xgroup_destroy(world.stream, "escalation")
    await world.redis.xgroup_create(world.stream, "escalation", "$")


async def _delete_the_consumer(world: World) -> None:
    await world.read("escalation", "crashed", 4)
    await world.redis.xgroup_delconsumer(world.stream, "escalation", "crashed")


async def _acknowledge_what_nobody_handled(world: World) -> None:
    await world.redis.xack(world.stream, "escalation", *await world.read("escalation", "crashed", 4))


async def _delete_what_is_pending(world: World) -> None:
    await world.redis.xdel(world.stream, *await world.read("escalation", "crashed", 4))


async def _trim_what_is_pending_and_forget_the_group(world: World) -> None:
    await world.read("escalation", "crashed", 4)
    await _trim_all(world)
    await world.redis.xgroup_destroy(world.stream, "escalation")


async def _delete_what_the_groups_said(world: World) -> None:
    await world.redis.delete(f"{world.stream}.handled")
    await _move_the_group(world)


LOSSES = {
    "all entries are trimmed": _trim_all,
    "the first entries are trimmed": _trim_some,
    "entries in the middle are deleted": _delete_some,
    "the last entry is deleted": _delete_the_last,
    "the group is moved to the end": _move_the_group,
    "the group is made anew at the end": _make_the_group_anew,
    "a consumer is deleted with what it had": _delete_the_consumer,
    "somebody acknowledges what nobody handled": _acknowledge_what_nobody_handled,
    "pending entries are deleted": _delete_what_is_pending,
    "the stream is trimmed and the group destroyed": _trim_what_is_pending_and_forget_the_group,
    "what the groups said is deleted": _delete_what_the_groups_said,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
async def test_a_group_that_lags_gets_everything_though(world: World, lose: Callable[[World], Awaitable[None]]) -> None:
    await world.emit(*ALL)
    seen = Seen()
    async with world.relay().running():
        await until(lambda: world.holds(ALL), "published")
        await lose(world)
        async with world.consumer(seen.handle).running():
            await until(lambda: _has(seen, 10), "everything is handled")
            await world.drained()
            await until(lambda: _is_forgotten(world), "and leaves the outbox and the stream")
    assert sorted(seen.order) == ALL
    assert not await world.dead_rows()


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
async def test_a_relay_that_starts_afterwards_gives_it_everything_though(
    world: World, lose: Callable[[World], Awaitable[None]]
) -> None:
    await world.emit(*ALL)
    async with world.relay().running():
        await until(lambda: world.holds(ALL), "published")
    await lose(world)
    seen = Seen()
    async with world.consumer(seen.handle).running(), world.relay().running():
        await until(lambda: _has(seen, 10), "everything is handled")
        await world.drained()
    assert sorted(seen.order) == ALL


async def test_unread_entries_trimmed_in_the_middle_of_a_load_are_published_again(world: World) -> None:
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle, max_records=20).running():
        for n in range(0, 2000, 20):
            await world.emit(*range(n, n + 20))
            if n % 200 == 0:
                await _trim_all(world)
            await asyncio.sleep(0)
        await until(lambda: _has(seen, 2000), "everything is handled")
        await world.drained()
    assert sorted(seen.order) == list(range(2000))


async def test_who_has_handled_it_does_not_get_it_again_with_the_group_that_lags(servers: Servers) -> None:
    async with new_world(servers, ("escalation", "ledger")) as world:
        escalation, ledger = Seen(), Seen()
        await world.emit(*ALL)
        async with world.relay().running(), world.consumer(ledger.handle, group="ledger").running():
            await until(lambda: _has(ledger, 10), "the ledger has all")
            await _trim_all(world)
            async with world.consumer(escalation.handle).running():
                await until(lambda: _has(escalation, 10), "escalation too")
                await world.emit(10, 11)
                await world.drained()
        assert [n for batch in ledger.given for n in batch] == list(range(12)), "each once"
        assert sorted(escalation.order) == list(range(12))


async def test_the_outbox_keeps_what_only_redis_says_is_handled(servers: Servers) -> None:
    """Nobody runs who could handle it."""
    async with new_world(servers, ("escalation", "ledger")) as world:
        await world.emit(*ALL)
        async with world.relay().running():
            await until(lambda: world.holds(ALL), "published")
            for group in world.groups:
                await world.redis.xack(world.stream, group, *await world.read(group, "stranger", 10))

            async def published_again() -> bool:
                groups: Any = await world.redis.xinfo_groups(world.stream)
                return [g["last-delivered-id"] for g in groups] == [b"0-0", b"0-0"] and await world.holds(ALL)

            await until(published_again, "it is published again")
            assert len(await world.waiting()) == 10


async def test_a_consumer_that_never_says_what_it_handled_does_not_make_the_stream_run_in_a_circle(
    world: World,
) -> None:
    """As one of an older version."""
    await world.emit(*ALL)
    rounds = 0
    async with world.relay().running():
        await until(lambda: world.holds(ALL), "published")
        for _ in range(100):
            found: Any = await world.redis.xreadgroup("escalation", "old", {world.stream: ">"}, count=10)
            if found:
                rounds += 1
                await world.redis.xack(world.stream, "escalation", *(entry_id for entry_id, _ in found[0][1]))
            await asyncio.sleep(0.02)  # the length of the measurement: 2 s
    assert 2 <= rounds <= 10, "one more round after 1 s, then after 2, 4, 8 s"
    assert len(await world.waiting()) == 10


async def test_a_relay_says_what_was_lost_and_waits_to_be_published_again(world: World) -> None:
    """After some losses in a row it waits longer and longer. Nobody gets these entries meanwhile."""
    await world.emit(*ALL)
    relay = world.relay(prune_every=0.05, take_over_after=0.5)
    async with relay.running():
        await until(lambda: world.holds(ALL), "published")

        async def complains() -> bool:
            state: Any = await world.redis.xinfo_groups(world.stream)
            if state and state[0]["last-delivered-id"] == b"0-0":
                await _move_the_group(world)
            return "were lost" in (relay.health_failure() or "")

        await until(complains, "a health failure")
        seen = Seen()
        async with world.consumer(seen.handle).running():
            await until(lambda: _has(seen, 10), "all is handled in the end")
            await until(lambda: _is_well(relay), "and the relay is well again")


async def _is_well(relay: messaging.Relay) -> bool:
    return relay.health_failure() is None


async def _has(seen: Seen, count: int) -> bool:
    return len(seen.once) >= count


async def _is_forgotten(world: World) -> bool:
    return not await world.waiting() and not await world.in_stream()

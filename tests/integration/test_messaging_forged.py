"""Whoever can write to Redis cannot speak in a service's name, stop its stream, or hide what was published."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from sqlalchemy import select

from services.cli.embedded import Servers
from shared.messaging import Seals, drop_unsigned
from tests.integration.messaging_support import Seen, World, body, new_world, own_redis, until

FORGED = 666


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


async def _append(world: World, entry_id: str, **fields: bytes) -> None:
    await world.redis.xadd(world.stream, {"__data__": body(FORGED), **fields}, id=entry_id)


async def _under_the_next_number(world: World) -> None:
    await _append(world, "4-0")


async def _under_redis_own_clock(world: World) -> None:
    await _append(world, "*")


async def _as_far_ahead_as_redis_counts(world: World) -> None:
    await _append(world, f"{2**64 - 1}-{2**64 - 1}")


async def _far_ahead_and_deleted(world: World) -> None:
    await _append(world, f"{2**63}-0")
    await world.redis.xdel(world.stream, f"{2**63}-0")


async def _between_two_numbers(world: World) -> None:
    await _append(world, "3-5")


async def _with_a_mac_of_another_key(world: World) -> None:
    mac = Seals({world.stream.partition(".{")[0]: b"guessed"}).sign(world.stream, 4, body(FORGED))
    await _append(world, "4-0", mac=mac)


async def _with_the_mac_of_another_stream(world: World) -> None:
    base = world.stream.partition(".{")[0]
    await _append(world, "4-0", mac=world.seals.sign(f"{base}.{{1}}", 4, body(FORGED)))


async def _with_the_mac_of_another_number(world: World) -> None:
    await _append(world, "4-0", mac=world.seals.sign(world.stream, 3, body(FORGED)))


async def _without_a_body(world: World) -> None:
    await world.redis.xadd(world.stream, {"garbage": "x", "since": "y"})


FORGERIES = {
    "the next number": _under_the_next_number,
    "an id of Redis' clock": _under_redis_own_clock,
    "the highest id": _as_far_ahead_as_redis_counts,
    "far ahead and deleted": _far_ahead_and_deleted,
    "an id between two numbers": _between_two_numbers,
    "another key": _with_a_mac_of_another_key,
    "the mac of another stream": _with_the_mac_of_another_stream,
    "the mac of another number": _with_the_mac_of_another_number,
    "no body": _without_a_body,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_what_no_service_has_signed_is_not_handled_and_stops_nothing(
    world: World, forge: Callable[[World], Awaitable[None]]
) -> None:
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        await world.emit(0, 1, 2)
        await world.drained()
        await forge(world)
        await until(lambda: _is_refused(world), "it is counted")
        await world.emit(3, 4, 5)
        await world.drained()
        await until(lambda: _is_forgotten(world), "what is handled leaves the outbox")
    assert seen.order == [0, 1, 2, 3, 4, 5]
    assert (await world.redis.stream(world.stream, world.groups).state()).last_number == 6, "no number was left out"


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
async def test_what_is_forged_while_no_relay_runs_does_not_hide_what_waits(
    world: World, forge: Callable[[World], Awaitable[None]]
) -> None:
    seen = Seen()
    async with world.relay().running():
        await world.emit(0, 1, 2)
        await until(lambda: world.holds([0, 1, 2]), "published")
    await world.emit(3, 4, 5)
    await forge(world)
    async with world.consumer(seen.handle).running(), world.relay().running():
        await until(lambda: _has(seen, 6), "all is handled")
        await world.drained()
    assert sorted(seen.order) == [0, 1, 2, 3, 4, 5]


async def test_refused_entries_are_a_dead_letter_that_holds_nothing_of_them(world: World) -> None:
    """One for all: retrying it would handle nothing, and whoever forges cannot fill the table."""
    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        for number in range(1, 6):
            await _append(world, f"{number}-0")
            await until(lambda: _is_forgotten(world), "the stream is emptied")
            await world.drained()

        async def is_told() -> bool:
            return bool(await world.dead_rows())

        await until(is_told, "the operator is told")
    (row,) = await world.dead_rows()
    assert (row.body, row.stream) == (b"entries that no service has signed", world.stream)
    assert not seen.order


async def test_what_a_consumer_with_a_wrong_key_refuses_is_not_lost(world: World) -> None:
    """As where its key file was made anew. It complains, and the outbox keeps the events until the key is right."""
    seen, wrong = Seen(), Seals({world.stream.partition(".{")[0]: b"wrong"})
    await world.emit(0, 1, 2)
    async with world.relay().running():
        async with world.consumer(seen.handle, "mistaken", seals=wrong).running():
            await until(lambda: _is_refused(world, "escalation"), "it refuses them")
        assert not seen.order
        async with world.consumer(seen.handle).running():
            await until(lambda: _has(seen, 3), "they come again")
            await world.drained()
    assert sorted(seen.order) == [0, 1, 2]


async def test_a_stream_of_an_older_version_is_emptied_before_the_services_start(world: World) -> None:
    """So that no consumer complains of it. Its relay publishes again what is owed."""
    await world.emit(0, 1, 2)
    async with world.engine.connect() as connection:
        rows = (await connection.execute(select(world.outbox.rows).order_by(world.outbox.rows.c.number))).all()
    for row in rows:
        await world.redis.xadd(world.stream, {"__data__": row.body}, id=f"{row.number}-0")
    await drop_unsigned(world.redis, world.streams, world.seals)
    assert not await world.in_stream()
    seen = Seen()
    async with world.consumer(seen.handle).running(), world.relay().running():
        await until(lambda: _has(seen, 3), "all is handled")
        await world.drained()
    assert not await world.dead_rows()
    await drop_unsigned(world.redis, world.streams, world.seals)
    assert (await world.redis.stream(world.stream, world.groups).state()).last_number == 3, "a signed one is left"


async def _is_refused(world: World, *readers: str) -> bool:
    found: list[Any] = [
        REGISTRY.get_sample_value("trucban_refused_entries_total", {"stream": world.stream, "reader": reader})
        for reader in readers or ("relay", "escalation")
    ]
    return any(found)


async def _has(seen: Seen, count: int) -> bool:
    return len(seen.once) >= count


async def _is_forgotten(world: World) -> bool:
    return not await world.waiting() and not await world.in_stream()

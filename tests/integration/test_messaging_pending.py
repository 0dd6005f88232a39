"""What a consumer was given and has not handled: lost on the way to it, or left by its handler."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import pytest_asyncio

from services.cli.embedded import Servers
from shared import messaging
from shared.messaging import Left
from tests.integration.messaging_support import Event, Seen, World, new_world, own_redis, until


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


# --- lost on the way ---


@dataclass
class Wire:
    """Stands between a consumer and Redis, and breaks the connection in the place of answers that hold entries."""

    url: str
    upstream: str
    breaks: int = 0
    """How many of the next such answers are lost."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_unix_connection(self.upstream)
        try:
            with suppress(ConnectionError):
                await asyncio.gather(_pump(reader, requests), self._pump_answers(answers, writer))
        finally:
            requests.close()
            writer.close()

    async def _pump_answers(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 20):
            if self.breaks and b"__data__" in data:
                self.breaks -= 1
                raise ConnectionResetError
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 20):
        sink.write(data)
        await sink.drain()
    raise ConnectionResetError


@asynccontextmanager
async def _wire(world: World) -> AsyncGenerator[Wire]:
    user, _, path = world.servers.redis_url.removeprefix("unix://").partition("?")[0].rpartition("@")
    with TemporaryDirectory(prefix="wire-") as folder:
        wire = Wire(f"unix://{user}@{folder}/redis.sock", path)
        server = await asyncio.start_unix_server(wire.serve, f"{folder}/redis.sock")
        try:
            yield wire
        finally:
            server.close()


async def test_what_was_given_to_a_connection_that_broke_is_read_again_at_once_and_in_order(world: World) -> None:
    seen = Seen()
    async with _wire(world) as wire:
        consumer = world.consumer(seen.handle, url=wire.url, claim_idle=600.0, max_records=10)
        async with world.relay().running(), consumer.running():
            await world.emit(*range(5))
            await world.drained()
            wire.breaks = 3
            for n in range(5, 45, 5):
                await world.emit(*range(n, n + 5))
            await world.drained()
            assert wire.breaks == 0
    assert [n for batch in seen.given for n in batch] == list(range(45)), "each once, in order"


async def test_an_answer_that_is_lost_counts_as_no_delivery(world: World) -> None:
    """An event that failed once dies of its failures, not of the network's."""
    seen = Seen()
    failures: list[int] = []

    async def handle(events: Sequence[Event]) -> None:
        if len(failures) < 2 and any(event.n == 1 for event in events):
            failures.append(len(events))
            raise ValueError
        await seen.handle(events)

    async with _wire(world) as wire:
        consumer = world.consumer(handle, url=wire.url, claim_idle=0.5)
        async with world.relay().running(), consumer.running():
            wire.breaks = 3  # as often as the event may be delivered
            await world.emit(1)
            await world.drained()
    assert seen.order == [1]
    assert not await world.dead_rows()


# --- left by its handler ---


class Wards(Seen):
    """A handler of events of three wards (`n` modulo 3), some of which somebody else has locked."""

    def __init__(self, *locked: int) -> None:
        super().__init__()
        self.locked = set(locked)
        self.calls = 0

    async def take(self, events: Sequence[Event]) -> Left[Event] | None:
        self.calls += 1
        left = [event for event in events if event.n % 3 in self.locked]
        await self.handle([event for event in events if event not in left])
        return Left(left, f"ward {sorted(self.locked)} is locked") if left else None


async def test_what_is_left_waits_keeps_its_place_and_holds_up_no_other(world: World) -> None:
    wards = Wards(0)
    consumer = world.consumer(wards.take, waiting_after=0.5)
    async with world.relay().running(), consumer.running():
        await world.emit(*range(6))
        await until(lambda: _has(wards, 4), "the others are handled")
        await world.emit(*range(6, 12))
        await until(lambda: _has(wards, 8), "the later ones too")
        await until(lambda: _is_unhealthy(consumer), "a health failure that names it")
        assert "4 events" in (consumer.health_failure() or "")
        assert "ward [0] is locked" in (consumer.health_failure() or "")
        calls = wards.calls
        await asyncio.sleep(1)  # the length of the measurement
        assert 1 <= wards.calls - calls <= 5, "tried again, without spinning"
        assert await world.pending() == 4
        wards.locked.clear()
        await world.emit(12)
        await world.drained()
        assert consumer.health_failure() is None
    assert [n for n in wards.order if n % 3 == 0] == [0, 3, 6, 9, 12], "in order"
    assert not await world.dead_rows(), "waiting counts as no delivery"


async def test_what_is_left_is_handled_soon_though_nothing_else_comes(world: World) -> None:
    wards = Wards(0)
    async with world.relay().running(), world.consumer(wards.take, claim_idle=600.0).running():
        await world.emit(3)
        await until(lambda: _was_asked(wards), "left")
        wards.locked.clear()
        await world.drained()
    assert wards.order == [3]


async def test_what_is_left_when_the_consumer_stops_comes_first_when_it_is_back(world: World) -> None:
    wards, later = Wards(0), Seen()
    async with world.relay().running():
        async with world.consumer(wards.take).running():
            await world.emit(*range(6))
            await until(lambda: _has(wards, 4), "the others are handled")
        await world.emit(6)
        async with world.consumer(later.handle, claim_idle=600.0).running():
            await world.drained()
    assert later.order == [0, 3, 6]


async def _has(seen: Seen, count: int) -> bool:
    return len(seen.once) >= count


async def _was_asked(wards: Wards) -> bool:
    return wards.calls > 0


async def _is_unhealthy(consumer: messaging.Consumer[Event]) -> bool:
    return consumer.health_failure() is not None

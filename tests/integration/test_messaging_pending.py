"""What a consumer was given and has not handled."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import pytest_asyncio

from services.cli.embedded import Servers
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
    path = world.servers.redis_url.removeprefix("unix://").partition("?")[0]
    with TemporaryDirectory(prefix="wire-") as folder:
        wire = Wire(f"unix://{folder}/redis.sock", path)
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

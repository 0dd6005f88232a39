"""A stream of its own, with outbox and dead letters in a schema of its own, on real servers, for each test."""

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import MetaData, Table, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateSchema

from services.cli.embedded import Servers, embedded_servers
from shared import messaging
from shared.database import connect
from shared.messaging import Consumer, Left, Outbox, Outgoing, Relay, Seals
from shared.messaging.redis.consumer_group import RedisConsumerGroup
from tests.servers import new_database
from tests.support import passable_folder

_numbers = itertools.count()


@dataclass(frozen=True)
class Event:
    n: int


def parse(body: bytes, _producer: str = "") -> Event:
    return Event(json.loads(body)["n"])


def body(n: int) -> bytes:
    return json.dumps({"n": n, "words": "Nguyễn Văn A"}).encode()


def seals_of(base: str) -> Seals:
    """With a key that another process of the same test has too."""
    return Seals({base: base.encode()})


async def append_signed(redis: messaging.Client, seals: Seals, stream: str, number: int, body: bytes) -> None:
    """As a relay does."""
    await redis.xadd(stream, {"__data__": body, "mac": seals.sign(stream, number, body)}, id=f"{number}-0")


@dataclass
class Seen:
    """A handler that ignores events that it has seen, and keeps what it was given."""

    given: list[list[int]] = field(default_factory=list[list[int]])
    once: dict[int, None] = field(default_factory=dict[int, None])

    async def handle(self, events: Sequence[Event]) -> None:
        self.given.append([event.n for event in events])
        self.once |= dict.fromkeys(event.n for event in events)

    @property
    def order(self) -> list[int]:
        return list(self.once)


@dataclass
class World:
    servers: Servers
    engine: AsyncEngine
    redis: messaging.Client
    stream: str
    outbox: Outbox
    dead: Table
    groups: tuple[str, ...] = ("escalation",)

    @property
    def streams(self) -> dict[str, tuple[str, ...]]:
        return {self.stream: self.groups}

    @property
    def seals(self) -> Seals:
        return seals_of(messaging.base_of(self.stream))

    def relay(self, engine: AsyncEngine | None = None, **options: Any) -> Relay:
        options = {"poll": 0.02, "prune_every": 0.05, "lock_every": 0.2} | options
        return Relay(engine or self.engine, self.redis, self.outbox, self.streams, self.seals, **options)

    def consumer(
        self, handle: Callable[[Sequence[Event]], Awaitable[Left[Event] | None]], name: str = "one", **options: Any
    ) -> Consumer[Event]:
        options = {"group": self.groups[0], "claim_idle": 0.2, "dead_after": 3, "block": 0.1} | options
        return Consumer(
            options.pop("url", self.servers.redis_url),
            [self.stream],
            options.pop("group"),
            name,
            parse,
            handle,
            self.engine,
            self.dead,
            options.pop("seals", self.seals),
            **options,
        )

    async def emit(self, *numbers: int, bodies: dict[int, bytes] | None = None) -> None:
        events = [Outgoing(f"{self.stream}/{n}", self.stream, (bodies or {}).get(n) or body(n)) for n in numbers]
        async with self.engine.begin() as connection:
            await messaging.add(connection, self.outbox, events)

    async def drained(self, seconds: float = 15.0) -> None:
        await messaging.wait_drained(self.redis, [(self.engine, self.outbox)], self.streams, seconds)

    async def waiting(self) -> list[int]:
        """Numbers of the rows that are still in the outbox."""
        rows = self.outbox.rows
        async with self.engine.connect() as connection:
            return list(await connection.scalars(select(rows.c.number).order_by(rows.c.number)))

    async def in_stream(self) -> list[int]:
        entries: Any = await self.redis.xrange(self.stream)
        return [parse(fields[b"__data__"]).n for _, fields in entries]

    async def is_published(self) -> bool:
        """Whether every row is in the stream."""
        state = await self.redis.stream(self.stream, self.groups).state()
        return all(number <= state.last_number for number in await self.waiting())

    async def holds(self, expected: list[int]) -> bool:
        """Whether the stream holds these, in this order, and nothing else."""
        return await self.in_stream() == expected

    async def read(self, group: str, name: str, count: int) -> list[bytes]:
        """As a consumer that reads and is then not heard of again."""
        reply: Any = await self.redis.xreadgroup(group, name, {self.stream: ">"}, count=count)
        return [entry_id for entry_id, _ in reply[0][1]]

    async def handled(self, group: str, name: str, ids: Sequence[bytes]) -> None:
        """As a consumer that has handled these entries."""
        await RedisConsumerGroup(self.redis, self.stream, group, name).acknowledge([id_.decode() for id_ in ids])

    async def dead_rows(self) -> list[Any]:
        async with self.engine.connect() as connection:
            return list(await connection.execute(select(self.dead).order_by(self.dead.c.id)))

    async def pending(self) -> int:
        (group, *_) = await messaging.progress(self.redis, self.streams)
        return group.pending

    async def statistic(self, section: str, name: str, part: str) -> int:
        """A counter of the server's own, such as how often it refused a command."""
        found: Any = await self.redis.info(section)
        return int(found.get(name, {}).get(part, 0))


@asynccontextmanager
async def own_redis(shared: Servers) -> AsyncGenerator[Servers]:
    """A Redis to be flushed, killed and counted on, beside a database of its own on the shared PostgreSQL."""
    with passable_folder("messaging") as folder:
        async with embedded_servers(folder, postgres=False) as own:
            yield replace(own, database_url=await new_database(shared))


@asynccontextmanager
async def new_world(servers: Servers, groups: tuple[str, ...] = ("escalation",)) -> AsyncGenerator[World]:
    name = f"messaging_{next(_numbers)}"
    metadata = MetaData(schema=name)
    outbox, dead = messaging.outbox_tables(metadata), messaging.dead_letter_table(metadata)
    engine, redis = connect(servers.database_url), messaging.connect(servers.redis_url)
    try:
        async with engine.begin() as connection:
            await connection.execute(CreateSchema(name))
            await connection.run_sync(metadata.create_all)
        yield World(servers, engine, redis, messaging.stream_name(name, 0), outbox, dead, groups)
    finally:
        await redis.aclose()
        await engine.dispose()


@asynccontextmanager
async def relay_process(world: World) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A relay that is killed on leaving."""
    schema = world.outbox.rows.schema
    assert schema is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.messaging_relay",
        world.servers.redis_url,
        world.servers.database_url,
        schema,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - what others do in Redis and PostgreSQL sets no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None

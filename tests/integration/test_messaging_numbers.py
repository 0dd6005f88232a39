"""The number of an event is given in the transaction that decides it: without a gap, and for ever."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest_asyncio
from sqlalchemy import select, text

from services.cli.embedded import Servers
from shared import messaging
from shared.database import connect, migrate
from shared.messaging import Outgoing
from tests.integration.messaging_support import Seen, World, body, new_world, own_redis, until
from tests.servers import new_database


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


class RolledBackError(Exception):
    pass


async def test_numbers_have_no_gap_though_transactions_run_side_by_side_and_some_are_rolled_back(
    world: World,
) -> None:
    async def decide(n: int) -> None:
        with suppress(RolledBackError):
            async with world.engine.begin() as connection:
                await messaging.add(connection, world.outbox, [Outgoing(f"e{n}", world.stream, body(n))])
                if n % 3 == 0:
                    raise RolledBackError

    seen = Seen()
    async with world.relay().running(), world.consumer(seen.handle).running():
        await asyncio.gather(*(decide(n) for n in range(60)))
        await world.drained()
        async with world.engine.connect() as connection:
            assert await connection.scalar(select(world.outbox.streams.c.assigned)) == 40
    assert sorted(seen.order) == [n for n in range(60) if n % 3]


async def test_transactions_that_write_to_several_streams_in_any_order_do_not_deadlock(world: World) -> None:
    names = [f"{world.stream}.{letter}" for letter in "abc"]

    async def decide(n: int, order: Sequence[str]) -> None:
        async with world.engine.begin() as connection:
            await messaging.add(connection, world.outbox, [Outgoing(f"{n}/{s}", s, body(n)) for s in order])

    await asyncio.gather(*(decide(n, names if n % 2 else names[::-1]) for n in range(40)))
    rows = world.outbox.rows
    async with world.engine.connect() as connection:
        for name in names:
            found = await connection.scalars(select(rows.c.number).where(rows.c.stream == name).order_by(rows.c.number))
            assert list(found) == list(range(1, 41))


async def test_an_event_carries_its_number_and_keeps_it_when_it_is_published_again(world: World) -> None:
    await world.emit(7, 8, 9)
    async with world.relay().running():
        await until(lambda: world.holds([7, 8, 9]), "published")
        first = await _published(world)
        await world.redis.flushall()
        await until(lambda: world.holds([7, 8, 9]), "published again")
        assert await _published(world) == first
    assert [(entry_id, found["n"], found["seq"]) for entry_id, found in first] == [
        (b"1-0", 7, 1),
        (b"2-0", 8, 2),
        (b"3-0", 9, 3),
    ]


async def _published(world: World) -> list[tuple[bytes, dict[str, Any]]]:
    entries: Any = await world.redis.xrange(world.stream)
    return [(entry_id, json.loads(fields[b"__data__"])) for entry_id, fields in entries]


BEFORE = """
CREATE TABLE intake.alembic_version (version_num VARCHAR(32) PRIMARY KEY);
INSERT INTO intake.alembic_version VALUES ('0001');
INSERT INTO intake.outbox_stream VALUES ('a', 5);
INSERT INTO intake.outbox (event_id, stream, body, number) VALUES ('a4', 'a', '', 4), ('a5', 'a', '', 5);
INSERT INTO intake.outbox (event_id, stream, body) VALUES ('a6', 'a', ''), ('b1', 'b', ''), ('a7', 'a', '')
"""


async def test_what_waits_without_a_number_gets_it_in_its_order_when_a_city_is_upgraded(servers: Servers) -> None:
    url = await new_database(servers)
    engine = connect(url)
    tables = import_module("services.intake.migrations.versions.0001_intake").TABLES
    try:
        async with engine.begin() as connection:
            for statement in f"CREATE SCHEMA intake;\n{tables};\n{BEFORE}".split(";\n"):
                if statement.strip():
                    await connection.execute(text(statement))
        await migrate(url, "intake")
        async with engine.begin() as connection:
            rows = await connection.execute(text("SELECT event_id, number FROM intake.outbox ORDER BY event_id"))
            assert [tuple(row) for row in rows] == [("a4", 4), ("a5", 5), ("a6", 6), ("a7", 7), ("b1", 1)]
            counters = await connection.execute(text("SELECT stream, assigned FROM intake.outbox_stream ORDER BY 1"))
            assert [tuple(row) for row in counters] == [("a", 7), ("b", 1)]
    finally:
        await engine.dispose()

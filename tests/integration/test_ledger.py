"""The log in PostgreSQL: gapless, each event once, unchangeable without notice."""

import asyncio
import random
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from services.cli.embedded import Servers
from services.ledger.application import Ledger
from services.ledger.domain.canonical import CanonicalError
from services.ledger.domain.checkpoint import Signer
from services.ledger.store.append import LogError
from services.ledger.store.tables import dead_letter, metadata
from shared import messaging
from shared.events import Event, encode, parse
from shared.messaging import is_transient
from tests.integration.ledger_support import as_intruder, exported, indexes_by_event, opened, verified
from tests.integration.messaging_support import append_signed, seals_of
from tests.integration.stored.arranging import erase_personal_values
from tests.integration.stored.looking import stored_in
from tests.integration.stored.neighbours import Private
from tests.servers import new_database, new_redis
from tests.unit.ledger.sample import ORIGIN, SALT, report

STREAM = messaging.stream_name(messaging.INTAKE, 0)
SEALS = seals_of(messaging.INTAKE)


@pytest.fixture(scope="module")
async def servers(servers: Servers) -> Servers:
    """With streams of its own."""
    return replace(servers, redis_url=await new_redis(servers))


@pytest.fixture
async def database_url(servers: Servers) -> str:
    return await new_database(servers)


@pytest.fixture
async def ledger(database_url: str) -> AsyncGenerator[Ledger]:
    async with opened(database_url) as found:
        yield found


async def test_migration_makes_the_tables_that_the_code_names(ledger: Ledger) -> None:
    """The written-out migration and the tables in code are one schema."""

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _: object) -> bool:
            return name == "ledger" if kind == "schema" else name != "alembic_version"

        options = {"include_schemas": True, "include_name": ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async with ledger.database.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_batch_becomes_entries_in_its_order(ledger: Ledger) -> None:
    """Indexes run from 0 without a gap in the order of arrival, and the export verifies."""
    events = [report(number) for number in (4, 0, 9, 7)]
    await ledger.record(events[:3])
    await ledger.record(events[3:])
    assert await indexes_by_event(ledger) == {event.id: place for place, event in enumerate(events)}
    found = await verified(ledger)
    assert found.is_verified, found.failures
    assert found.entries == 4


async def test_personal_text_is_deletable_and_not_in_the_body(ledger: Ledger) -> None:
    """Value and salt lie in the one deletable table; deleting them leaves every proof as it was."""
    await ledger.record([report(1, "nhà ông Mẫu\0")])
    kept = Private(0, "description", bytes.fromhex(SALT), "nhà ông Mẫu\0".encode())
    assert await stored_in(ledger.database, Private) == (kept,)
    await erase_personal_values(ledger.database)
    assert (await verified(ledger)).is_verified
    assert "Mẫu".encode() not in b"".join(await exported(ledger))


@pytest.mark.parametrize("seed", range(5))
async def test_each_event_once_however_often_it_comes(ledger: Ledger, seed: int) -> None:
    """Events delivered one to three times, in any order and any batches, become one entry each."""
    chance = random.Random(seed)
    deliveries = [number for number in range(40) for _ in range(chance.randint(1, 3))]
    chance.shuffle(deliveries)
    while deliveries:
        taken = [deliveries.pop() for _ in range(min(len(deliveries), chance.randint(1, 12)))]
        await ledger.record([report(number) for number in taken])
    found = await indexes_by_event(ledger)
    assert sorted(found) == [report(number).id for number in range(40)]
    assert list(found.values()) == list(range(40))
    assert (await verified(ledger)).is_verified


async def test_gapless_under_concurrent_appenders(ledger: Ledger, database_url: str) -> None:
    """Two processes that append at once, some events twice, leave one log without gap or double."""
    async with opened(database_url) as other:
        batches = [[report(start + step) for step in range(30)] for start in range(0, 400, 20)]
        writers = [ledger if place % 2 else other for place in range(len(batches))]
        await asyncio.gather(*(w.record(batch) for w, batch in zip(writers, batches, strict=True)))
    found = await indexes_by_event(ledger)
    assert sorted(found) == [report(number).id for number in range(410)]
    assert list(found.values()) == list(range(410))
    assert (await verified(ledger)).is_verified


async def test_failed_batch_leaves_nothing(ledger: Ledger) -> None:
    """An event that cannot be an entry takes its batch back; without it the rest goes in, and no index is lost."""
    impossible = report(2).model_copy(update={"subject": "\ud800"})
    with pytest.raises(CanonicalError):
        await ledger.record([report(1), impossible])
    await ledger.record([report(1), report(3)])
    assert list((await indexes_by_event(ledger)).values()) == [0, 1]
    assert (await verified(ledger)).is_verified


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.entry SET ward = '0' WHERE idx = 0",
        "DELETE FROM ledger.entry",
        "TRUNCATE ledger.entry",
        "DELETE FROM ledger.entry_official",
        "UPDATE ledger.node SET hash = hash",
        "DELETE FROM ledger.checkpoint",
        "UPDATE ledger.private SET value = ''",
    ],
)
async def test_database_refuses_to_change_what_is_written_once(ledger: Ledger, statement: str) -> None:
    """The service's own role cannot rewrite the log by mistake."""
    await ledger.record([report(1), report(2)])
    with pytest.raises(DBAPIError, match="is written once"):
        async with ledger.database.begin() as connection:
            await connection.execute(text(statement))
    assert (await verified(ledger)).is_verified


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE ledger.entry SET body = replace(convert_from(body, 'utf8'), 'r-5', 'r-6')::bytea WHERE idx = 5",
            "entry 5: the body does not have the recorded leaf hash: it was changed",
        ),
        (
            "DELETE FROM ledger.entry WHERE idx = 3",
            "entry 3: the line is missing, out of order or not in the form of an export",
        ),
        (
            "UPDATE ledger.entry SET idx = CASE idx WHEN 1 THEN 20 ELSE 1 END WHERE idx IN (1, 20)",
            "entry 1: the line is missing, out of order or not in the form of an export",
        ),
        (
            "UPDATE ledger.checkpoint SET note = replace(note, ledger.checkpoint.size || E'\\n', '8' || E'\\n')",
            "signature of trucban.local/ledger on the note is wrong",
        ),
        (
            "UPDATE ledger.entry SET body = decode('7b0a7d', 'hex') WHERE idx = 7",
            "entry 7: the line is missing, out of order or not in the form of an export",
        ),
    ],
)
async def test_tampering_is_named(ledger: Ledger, statement: str, told: str) -> None:
    """A superuser edits behind the service's back: the offline verifier says where."""
    await ledger.record([report(number) for number in range(9)])
    await as_intruder(ledger, statement)
    found = await verified(ledger)
    assert not found.is_verified
    assert str(found.failures[0]) == told


async def test_nothing_is_built_on_a_changed_tree(ledger: Ledger) -> None:
    """Where stored hashes do not lead to the signed root, the ledger stops, and its consumer keeps the events."""
    await ledger.record([report(number) for number in range(8)])
    await as_intruder(ledger, "UPDATE ledger.node SET hash = sha256('x') WHERE level = 3")
    with pytest.raises(LogError, match="has not the root of its checkpoint of 8") as caught:
        await ledger.record([report(9)])
    assert is_transient(caught.value), "an operator has to look; the events wait"
    assert len(await indexes_by_event(ledger)) == 8


async def test_log_of_another_key_is_not_continued(ledger: Ledger) -> None:
    """A lost key file that was made anew must not sign the old log."""
    stranger = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(LogError, match="restore its key file"):
        await Ledger(ledger.database, ledger.clock, stranger).open()


async def publish(redis_url: str, events: list[Event]) -> None:
    """As the relay publishes: numbered from 1."""
    redis = messaging.connect(redis_url)
    await redis.flushdb()
    for number, event in enumerate(events, 1):
        await append_signed(redis, SEALS, STREAM, number, encode(event))
    await redis.aclose()


KILLED_BEFORE_ACK = """
import asyncio, os, sys
from shared.events import parse
from shared.messaging import INTAKE, Consumer
from services.ledger.store.tables import dead_letter
from tests.integration.ledger_support import opened
from tests.integration.messaging_support import seals_of

async def main(redis_url, database_url, stream):
    async with opened(database_url) as ledger:
        async def record_and_die(events):
            await ledger.record(events)
            os._exit(9)
        database = ledger.database
        consumer = Consumer(
            redis_url, [stream], "ledger", "one", parse, record_and_die, database, dead_letter, seals_of(INTAKE)
        )
        async with consumer.running():
            await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_between_commit_and_acknowledgement(ledger: Ledger, database_url: str, servers: Servers) -> None:
    """What was appended but not acknowledged comes again and is dropped; what had not come yet goes in."""
    await publish(servers.redis_url, [report(number) for number in range(30)])
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED_BEFORE_ACK, servers.redis_url, database_url, STREAM
    )
    assert await killed.wait() == 9
    assert len(await indexes_by_event(ledger)) == 30
    redis = messaging.connect(servers.redis_url)
    assert (await redis.xpending(STREAM, "ledger"))["pending"] == 30
    await append_signed(redis, SEALS, STREAM, 31, encode(report(30)))
    consumer = messaging.Consumer(
        servers.redis_url, [STREAM], "ledger", "one", parse, ledger.record, ledger.database, dead_letter, SEALS
    )
    async with consumer.running():
        await messaging.wait_drained(redis, [], {STREAM: ("ledger",)}, timeout=20)
    await redis.aclose()
    assert list((await indexes_by_event(ledger)).values()) == list(range(31))
    assert (await verified(ledger)).is_verified

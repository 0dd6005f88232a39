"""A process may be killed at any statement: what it did is all there or not at all, and whoever does it again, because
nobody answered, comes to what an undisturbed run comes to.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from services.escalation.application import commands
from services.escalation.application.escalation import Escalation
from services.escalation.domain.notices.message import LEASE, Message
from services.escalation.sending.channels import DeliveryError, Sender, SendOutcome, WayOut
from services.escalation.sending.delivery_loop import DeliveryLoop
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.escalation_support import City, Template, reading_from, until
from tests.integration.killed_scenes import CHAIR_HERE, DESK, SCENES, WHY, reported
from tests.integration.killing import DIRECTORY, TABLES, Mortal, StoppedClock, differences, mortal_process, rows_of
from tests.support import NIGHT, received

AT_FULL_DEPTH = settings.get_current_profile_name() == "full"
DELIVERY_STRIDE = 1 if AT_FULL_DEPTH else 5
"""Deliveries are killed at every so many statements, beginning at another one in each scene."""


@pytest.fixture(autouse=True)
def ids_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one instant: what has no other order goes by its id, and is to go alike in both runs."""
    numbers = itertools.count(1)

    def next_bits(_: int) -> int:
        return next(numbers)

    monkeypatch.setattr("shared.ids.secrets", SimpleNamespace(randbits=next_bits))


@pytest.fixture(scope="module")
async def stopped_city(template: Template) -> AsyncGenerator[City]:
    url = await template.clone()
    clock = StoppedClock(NIGHT)
    async with mortal_process(url, clock) as (_, escalation), reading_from(url) as reading:
        yield City(escalation, clock, url, reading)


@pytest.fixture
async def city(stopped_city: City) -> City:
    await start(stopped_city)
    return stopped_city


@pytest.fixture(scope="module")
async def victim(stopped_city: City) -> AsyncGenerator[tuple[Mortal, Escalation]]:
    """Another process on the same database, which is killed."""
    async with mortal_process(stopped_city.database_url, stopped_city.clock) as made:
        yield made


async def start(city: City) -> None:
    await city.emptied()
    city.clock.set(NIGHT)


async def rows(city: City, name: str) -> Any:
    with_directory = name.startswith(("import", "adoption"))
    return await rows_of(city.escalation.database, TABLES + DIRECTORY if with_directory else TABLES)


async def nothing_is_open(city: City) -> bool:
    """Otherwise rows may still be locked, and whoever skips locked rows finds nothing to do."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return not await city.one(f"SELECT count(*) {others} AND xact_start IS NOT NULL")


@pytest.mark.parametrize("name", SCENES)
async def test_killed_at_any_statement_all_of_it_is_done_or_nothing(
    city: City, victim: tuple[Mortal, Escalation], name: str
) -> None:
    process, escalation = victim
    act = await SCENES[name](city)
    process.arm(0)
    await act(escalation)
    statements, expected = process.count, await rows(city, name)
    tried = places(statements, process.commits)

    await start(city)
    act = await SCENES[name](city)
    before = await rows(city, name)
    assert differences(before, expected), "the scene changes something"
    for statement in tried:
        process.arm(statement)
        await until(lambda: nothing_is_open(city), "PostgreSQL has rolled back what the killed process began")
        assert not await process.does(act, escalation)
        now = await rows(city, name)
        if statement < statements:
            assert now == before, f"killed at statement {statement} of {statements}"
        else:
            assert not differences(now, expected), "it was done, and nobody was told so"
    process.arm(0)
    await act(escalation)
    assert not differences(await rows(city, name), expected), "done again"


def places(statements: int, commits: Sequence[int]) -> Sequence[int]:
    """At which statements to be killed: at full depth at each.

    Otherwise, of each transaction: in its middle, before its COMMIT, and after it, when nobody was told yet. What it
    did before makes no difference: PostgreSQL takes all of it back.
    """
    if AT_FULL_DEPTH:
        return range(1, statements + 1)
    begins = [0, *(commit + 1 for commit in commits)]
    middles = [(begin + commit) // 2 for begin, commit in zip(begins, commits, strict=False)]
    return sorted({place for place in (*middles, *commits, *(commit + 1 for commit in commits)) if place})


def first(scene: int, stride: int) -> int:
    """Where the scene of this number is killed first."""
    return 1 + scene % stride


# --- deliveries: in two transactions, with the sending in between ---

PASSES = 3
"""Turns of the delivery loop, each past the lease of the one before."""
OTHERWISE = {
    "attempts",
    "next_at",
    "set_at",
    "ready_at",
    "finished_at",
    "allowed_at",
    "issued_at",
    "at",
    "time",
    "bundle_id",
    "error",
    "sequence",
}
"""What a second attempt does not leave as the first would; and which of two messages comes first is chance."""
OF_A_LOSS = {"due_at", "since"}
"""What is asked of the desk when a message is given up runs from then."""


class Reluctant(Sender):
    """Refuses each message the first time."""

    def __init__(self, outbox: Path, way_out: WayOut) -> None:
        super().__init__(outbox, way_out)
        self._refused: set[str] = set()

    async def send(self, message: Message) -> SendOutcome:
        if message.message_id in self._refused:
            return await super().send(message)
        self._refused.add(message.message_id)
        raise DeliveryError("outbox: the channel did not take the notice")


async def two_notices(city: City) -> None:
    await reported(city)


async def a_bundle(city: City) -> None:
    """Of what is more than a contact gets at once."""
    await reported(city, *(received(point=(19.7 + n / 100, 105.7)) for n in range(5)))
    await commands.dismiss(city.escalation, await _any_incident(city), DESK, WHY)


async def _any_incident(city: City) -> str:
    return await city.one("SELECT min(incident_id) FROM escalation.incident")


async def a_notice_that_nothing_takes(city: City) -> None:
    """The desk is told."""
    await reported(city)
    holder = CHAIR_HERE.subject
    await city.run(
        "UPDATE escalation.delivery SET channel = 'khong-co://x' FROM escalation.notice n"
        " WHERE delivery.notice_id = n.notice_id AND n.recipient = :holder",
        holder=holder,
    )


@pytest.mark.parametrize(
    ("scene", "prepare", "sender"),
    [
        (0, two_notices, Sender),
        (1, two_notices, Reluctant),
        (2, a_bundle, Sender),
        (3, a_notice_that_nothing_takes, Sender),
    ],
    ids=["sent", "sent at the second attempt", "bundled", "given up"],
)
async def test_killed_at_any_statement_a_delivery_comes_to_its_end_and_is_recorded_once(
    city: City,
    victim: tuple[Mortal, Escalation],
    tmp_path: Path,
    scene: int,
    prepare: Callable[[City], Awaitable[None]],
    sender: type[Sender],
) -> None:
    process, escalation = victim

    async def run(statement: int) -> tuple[Path, bool]:
        await start(city)
        await prepare(city)
        outbox = tmp_path / f"{statement}.ndjson"
        channels = sender(outbox, TO_THIS_MACHINE)
        process.arm(statement)
        lived = await process.does(lambda process: sent(process, channels), escalation)
        process.arm(0)
        for turn in range(PASSES):
            city.clock.set(NIGHT + (turn + 1) * 2 * LEASE)
            await sent(escalation, channels)
        return outbox, lived

    await run(0)
    expected = await rows(city, "")
    otherwise = OTHERWISE | OF_A_LOSS if prepare is a_notice_that_nothing_takes else OTHERWISE
    for statement in itertools.count(first(scene, DELIVERY_STRIDE), DELIVERY_STRIDE):
        outbox, lived = await run(statement)
        assert not differences(await rows(city, ""), expected, otherwise), f"killed at statement {statement}"
        await has_gone_out(city, outbox)
        if lived:
            break


async def sent(escalation: Escalation, channels: Sender) -> None:
    """All that may go now, by a process that has just started."""
    loop = DeliveryLoop(escalation, channels)
    while await loop.step() | await loop.drain():
        pass


async def has_gone_out(city: City, outbox: Path) -> None:
    """What counts as sent was sent, and no more often than it was tried; its events are numbered without a gap."""
    lines = await lines_of(outbox)
    for row in await city.rows("SELECT delivery_id, state, attempts FROM escalation.delivery"):
        assert lines[row.delivery_id] <= row.attempts
        assert (lines[row.delivery_id] > 0) == (row.state == "sent")
    for row in await city.rows("SELECT incident_id, sequence FROM escalation.incident"):
        numbers = [event.data.sequence for event in await city.events(row.incident_id)]
        assert sorted(map(int, filter(None, numbers))) == list(range(1, row.sequence + 1))


async def test_a_connection_that_is_lost_at_any_statement_makes_nobody_be_told_twice(
    city: City, victim: tuple[Mortal, Escalation], tmp_path: Path
) -> None:
    """What was sent is recorded as soon as the database is back: that is long before the lease runs out."""
    process, escalation = victim

    async def run(statement: int) -> tuple[Path, bool]:
        await start(city)
        await two_notices(city)
        outbox = tmp_path / f"{statement}.ndjson"
        channels = Sender(outbox, TO_THIS_MACHINE)
        process.arm(statement, survives=True)
        lived = await process.does(lambda process: sent(process, channels), escalation)
        process.arm(0)
        city.clock.set(NIGHT + 2 * LEASE)
        await sent(escalation, channels)
        return outbox, lived

    for statement in itertools.count(first(4, DELIVERY_STRIDE), DELIVERY_STRIDE):
        outbox, lived = await run(statement)
        assert sorted((await lines_of(outbox)).values()) == [1, 1], f"lost at statement {statement}"
        await has_gone_out(city, outbox)
        if lived:
            break


async def lines_of(outbox: Path) -> Counter[str]:
    """How often each delivery came out of the channel."""
    text = await asyncio.to_thread(outbox.read_text, encoding="utf-8")
    return Counter(json.loads(line)["delivery_id"] for line in text.splitlines())

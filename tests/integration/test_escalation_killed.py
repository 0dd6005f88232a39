"""A process may be killed at any statement: what it did is all there or not at all, and whoever does it again, because
nobody answered, comes to what an undisturbed run comes to.

Each scene is killed before its first statement, then before its second, and so on until it gets through, and is then
done once more.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from services.escalation import commands
from services.escalation.adopting import adopt_rulebooks
from services.escalation.channels import DeliveryError, Outcome, Sender
from services.escalation.deadlines import pass_deadlines
from services.escalation.delivery import DeliveryLoop
from services.escalation.handlers import Escalation, acknowledge, acknowledge_notice, on_reports
from services.escalation.importing import import_directory, import_wards
from services.escalation.store.deliveries import LEASE, Message
from shared.events import Harm, ReportReceived, UnitRef
from shared.identity import Principal
from tests.integration.directory_changes import appoint, end_unit, leave, on_duty
from tests.integration.escalation_support import City, Template
from tests.integration.killing import DIRECTORY, TABLES, Act, Mortal, StoppedClock, differences, mortal_process, rows_of
from tests.support import CHAIR, DONG_THO, NIGHT, SECRETARY, received, rulebook

MINUTE = timedelta(minutes=1)
DESK = Principal("mau-truc-ban", "desk")
LEADER = Principal("mau-lanh-dao", "leader")
SECRETARY_HERE = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
WHY = "Đã kiểm tra tại chỗ"
HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,capacity,sample\n"
LATE = "14776,2021-02-01,chair,mau-moi,(mẫu),2023-01-20,,QĐ mẫu số 9,,true\n"
WARDS = "code,valid_from,name,type,valid_to,successors\n"
REFORM = "14758,2021-02-01,Đông Thọ,phường,2023-02-01,14758/2023-02-01\n14758,2023-02-01,Hàm Rồng,phường,,\n"
PARTS = (
    UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Phần một (mẫu)"),
    UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"),
)

STRIDE = 1 if settings.get_current_profile_name() == "full" else 3
"""Every so many statements of a delivery, each of which takes a city of its own."""

Scene = Callable[[City], Awaitable[Act]]
"""Brings a city to where something is to be done, and returns what."""
SCENES: dict[str, Scene] = {}


def scene(prepare: Scene) -> Scene:
    SCENES[prepare.__name__.replace("_", " ")] = prepare
    return prepare


async def reported(city: City, *events: ReportReceived) -> str:
    """Id of the incident of the first of these, or of one set-off."""
    given = list(events) or [received()]
    await on_reports(city.escalation, given)
    id_ = given[0].data.report_id
    return await city.one("SELECT incident_id FROM escalation.report WHERE report_id = :id", id=id_)


async def go(city: City, minutes: int) -> None:
    """Each due time until then is acted on when it falls due."""
    until = NIGHT + minutes * MINUTE
    while True:
        due = await city.one("SELECT min(due_at) FROM escalation.deadline WHERE state = 'pending'")
        if due is None or due >= until:
            break
        city.clock.set(max(due, city.clock.now()))
        await pass_deadlines(city.escalation)
    city.clock.set(until)


async def answered(city: City, incident: str) -> None:
    for holder in (SECRETARY_HERE, CHAIR_HERE):
        await acknowledge(city.escalation, incident, holder)


async def verified(city: City) -> str:
    incident = await reported(city)
    await commands.verify(city.escalation, incident, DESK, WHY)
    await answered(city, incident)
    return incident


# --- reports ---


@scene
async def reports_that_open_join_and_decide(city: City) -> Act:
    await reported(city)
    batch = [
        received(kind="officer", subject="cb-1", harm=Harm(deaths=1)),
        received(subject="cam-bien-1"),
        received("FIRE", unit=DONG_THO),
        received(unit=DONG_THO, exercise=True),
        received("FIRECRACKER_POSSESSION", kind="officer", subject="cb-1"),
    ]
    return lambda process: on_reports(process, batch)


# --- acknowledgements ---


@scene
async def the_first_acknowledgement(city: City) -> Act:
    incident = await reported(city)
    return lambda process: acknowledge(process, incident, CHAIR_HERE)


@scene
async def the_last_acknowledgement(city: City) -> Act:
    incident = await reported(city)
    await go(city, 20)
    await acknowledge(city.escalation, incident, CHAIR_HERE)
    return lambda process: acknowledge(process, incident, SECRETARY_HERE)


@scene
async def an_acknowledgement_by_link(city: City) -> Act:
    await reported(city)
    notice = await city.one("SELECT notice_id FROM escalation.notice WHERE recipient = :id", id=CHAIR_HERE.subject)
    return lambda process: acknowledge_notice(process, notice, CHAIR_HERE.subject)


@scene
async def an_acknowledgement_by_the_desk(city: City) -> Act:
    incident = await reported(city)
    await go(city, 20)
    return lambda process: acknowledge(process, incident, DESK)


# --- what falls due ---


@scene
async def the_reminders(city: City) -> Act:
    await reported(city)
    await go(city, 9)
    return pass_deadlines


@scene
async def the_step_to_the_desk(city: City) -> Act:
    await reported(city)
    await reported(city, received(unit=DONG_THO))
    await go(city, 15)
    return pass_deadlines


@scene
async def the_step_to_the_leadership(city: City) -> Act:
    await reported(city)
    await go(city, 30)
    return pass_deadlines


@scene
async def the_end_of_the_chain(city: City) -> Act:
    await reported(city)
    await go(city, 45)
    return pass_deadlines


@scene
async def an_overdue_review(city: City) -> Act:
    await reported(city, received("FIRE"))
    await go(city, 30)
    return pass_deadlines


@scene
async def an_acknowledgement_that_lapses(city: City) -> Act:
    await verified(city)
    await go(city, 360)
    return pass_deadlines


@scene
async def an_incident_that_ends_by_itself(city: City) -> Act:
    await reported(city, received("FIRECRACKER_POSSESSION", kind="officer", subject="cb-1"))
    await go(city, 4320)
    return pass_deadlines


@scene
async def a_change_of_hands(city: City) -> Act:
    await reported(city)
    await leave(city, CHAIR_HERE.subject, NIGHT + 5 * MINUTE)
    await appoint(city, "mau-moi", NIGHT + 5 * MINUTE)
    await pass_deadlines(city.escalation)
    await go(city, 5)
    return pass_deadlines


@scene
async def all_that_fell_due_in_an_outage(city: City) -> Act:
    await reported(city)
    await reported(city, received("FIRE", unit=DONG_THO))
    await on_duty(city, "mau-truc-dem", "desk")
    city.clock.set(NIGHT + 400 * MINUTE)
    return pass_deadlines


# --- commands ---


@scene
async def verify(city: City) -> Act:
    incident = await reported(city, received("FIRE"))
    return lambda process: commands.verify(process, incident, DESK, WHY, firecrackers_exploded=True)


@scene
async def dismiss(city: City) -> Act:
    incident = await reported(city)
    return lambda process: commands.dismiss(process, incident, DESK, WHY)


@scene
async def designate(city: City) -> Act:
    incident = await reported(city, received("CONGESTION", kind="officer", subject="cb-1"))
    return lambda process: commands.designate(process, incident, DESK, WHY, prominent=True)


@scene
async def revise(city: City) -> Act:
    incident = await reported(city)
    return lambda process: commands.revise(process, incident, DESK, WHY, Harm(deaths=2))


@scene
async def merge(city: City) -> Act:
    into = await reported(city)
    middle = await reported(city, received(occurred_at=NIGHT - 100 * MINUTE))
    first = await reported(city, received(occurred_at=NIGHT - 200 * MINUTE))
    await commands.merge(city.escalation, first, DESK, WHY, middle)
    return lambda process: commands.merge(process, middle, DESK, WHY, into)


@scene
async def split(city: City) -> Act:
    events = [received(subject=f"cam-bien-{n}") for n in range(3)]
    incident = await reported(city, *events)
    moved = [e.data.report_id for e in events[1:]]
    return lambda process: commands.split(process, incident, DESK, WHY, moved)


@scene
async def hand_off(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.hand_off(process, incident, DESK, WHY)


@scene
async def reassign(city: City) -> Act:
    incident = await reported(city)
    await end_unit(city, PARTS)
    city.clock.set(NIGHT + 20 * MINUTE)
    await pass_deadlines(city.escalation)
    part = PARTS[1]
    return lambda process: commands.reassign(process, incident, DESK, WHY, (part.code, part.valid_from))


@scene
async def respond(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.respond(process, incident, CHAIR_HERE, WHY)


@scene
async def propose_closure(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.propose_closure(process, incident, CHAIR_HERE, WHY)


@scene
async def close(city: City) -> Act:
    incident = await verified(city)
    return lambda process: commands.close(process, incident, DESK, WHY)


@scene
async def reopen(city: City) -> Act:
    incident = await verified(city)
    await commands.close(city.escalation, incident, DESK, WHY)
    return lambda process: commands.reopen(process, incident, DESK, WHY)


# --- the directory ---


@scene
async def import_of_a_late_tenure(city: City) -> Act:
    await reported(city)
    return lambda process: import_directory(process, (HEAD + LATE).encode())


@scene
async def import_of_a_reform(city: City) -> Act:
    await reported(city, received(unit=DONG_THO))
    return lambda process: import_wards(process, (WARDS + REFORM).encode())


@scene
async def import_of_contacts(city: City) -> Act:
    lines = f"holder_id,channel\n{CHAIR_HERE.subject},outbox://khac\n"
    return lambda process: import_directory(process, lines.encode())


@scene
async def adoption_of_a_rulebook(city: City) -> Act:
    book = rulebook(('version: "2023-01-06.1"', 'version: "2023-01-06.2"'))
    return lambda process: adopt_rulebooks(process, [book])


# --- killed ---


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
    async with mortal_process(url, clock) as (_, escalation):
        yield City(escalation, clock, url)


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
    return await rows_of(city.escalation.engine, TABLES + DIRECTORY if with_directory else TABLES)


@pytest.mark.parametrize("name", SCENES)
async def test_killed_at_any_statement_all_of_it_is_done_or_nothing(
    city: City, victim: tuple[Mortal, Escalation], name: str
) -> None:
    process, escalation = victim
    process.arm(0)
    act = await SCENES[name](city)
    await act(city.escalation)
    expected = await rows(city, name)

    await start(city)
    act = await SCENES[name](city)
    before = await rows(city, name)
    assert differences(before, expected), "the scene changes something"
    committed = 0
    for statement in itertools.count(1):
        process.arm(statement)
        if await process.does(act, escalation):
            break
        now = await rows(city, name)
        if now != before:
            committed += 1
            assert not differences(now, expected), f"killed at statement {statement}"
            before = now
    assert committed == 1, "once, and nobody was told so"
    process.arm(0)
    await act(escalation)
    assert not differences(await rows(city, name), expected), "done again"


# --- deliveries: in two transactions, with the sending in between ---

PASSES = 3
"""Turns of the delivery loop, each past the lease of the one before."""
OTHERWISE = {
    "attempts",
    "next_at",
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


class Reluctant(Sender):
    """Refuses each message the first time."""

    def __init__(self, outbox: Path) -> None:
        super().__init__(outbox)
        self._refused: set[str] = set()

    async def send(self, message: Message) -> Outcome:
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
    ("prepare", "sender"),
    [(two_notices, Sender), (two_notices, Reluctant), (a_bundle, Sender), (a_notice_that_nothing_takes, Sender)],
    ids=["sent", "sent at the second attempt", "bundled", "given up"],
)
async def test_killed_at_any_statement_a_delivery_comes_to_its_end_and_is_recorded_once(
    city: City,
    victim: tuple[Mortal, Escalation],
    tmp_path: Path,
    prepare: Callable[[City], Awaitable[None]],
    sender: type[Sender],
) -> None:
    process, escalation = victim

    async def run(statement: int) -> tuple[Path, bool]:
        await start(city)
        await prepare(city)
        outbox = tmp_path / f"{statement}.ndjson"
        channels = sender(outbox)
        process.arm(statement)
        lived = await process.does(lambda process: sent(process, channels), escalation)
        process.arm(0)
        for turn in range(PASSES):
            city.clock.set(NIGHT + (turn + 1) * 2 * LEASE)
            await sent(escalation, channels)
        return outbox, lived

    await run(0)
    expected = await rows(city, "")
    for statement in itertools.count(1, STRIDE):
        outbox, lived = await run(statement)
        assert not differences(await rows(city, ""), expected, OTHERWISE), f"killed at statement {statement}"
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
    for statement in itertools.count(1, STRIDE):
        await start(city)
        await two_notices(city)
        outbox = tmp_path / f"{statement}.ndjson"
        channels = Sender(outbox)
        process.arm(statement, survives=True)
        lived = await process.does(lambda process: sent(process, channels), escalation)
        process.arm(0)
        city.clock.set(NIGHT + 2 * LEASE)
        await sent(escalation, channels)
        assert sorted((await lines_of(outbox)).values()) == [1, 1], f"lost at statement {statement}"
        await has_gone_out(city, outbox)
        if lived:
            break


async def lines_of(outbox: Path) -> Counter[str]:
    """How often each delivery came out of the channel."""
    text = await asyncio.to_thread(outbox.read_text, encoding="utf-8")
    return Counter(json.loads(line)["delivery_id"] for line in text.splitlines())

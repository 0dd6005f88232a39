"""The clock is set back, or forward and back again: nothing waits longer than it would have, nothing is doubled."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.escalation.application import commands
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.follow_clock import follow_clock
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.message import LEASE, Message
from services.escalation.sending.channels import DeliveryError, Sender, SendOutcome
from services.escalation.sending.delivery_loop import DeliveryLoop
from services.escalation.store import watch
from services.escalation.store.watch import POSTPONED_LATE
from shared.events import Harm
from shared.http.identity import Principal
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.directory_changes import leave, reachable
from tests.integration.escalation_support import City, WholeCity, until
from tests.integration.stored.arranging import deliveries_are
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery, DueTime
from tests.support import CHAIR, NIGHT, at, received

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DESK = Principal("mau-truc-ban", "desk")
JUMPS = [(-HOUR,), (HOUR, -HOUR), (-10 * MINUTE,), (-2 * HOUR, HOUR), (timedelta(days=-3),)]
"""The last one is the last jump back that matters, or ends before where it began."""


class Recorder(Sender):
    """Takes every message, and counts each delivery."""

    def __init__(self) -> None:
        super().__init__(Path("unused"), TO_THIS_MACHINE)
        self.taken = Counter[str]()
        self.refuses = False

    async def send(self, message: Message) -> SendOutcome:
        if self.refuses:
            raise DeliveryError("outbox: the channel did not take the notice")
        self.taken.update(d.delivery_id for d in message.deliveries)
        return "sent"


class Process:
    """One process of escalation, whose loops turn as a test says."""

    def __init__(self, city: City) -> None:
        self.city, self.sender = city, Recorder()
        self.loop = DeliveryLoop(city.escalation, self.sender)

    async def turn(self) -> None:
        await follow_clock(self.city.escalation)
        while await fire_due_timers(self.city.escalation):
            pass
        while await self.loop.step() | await self.loop.drain():
            pass

    async def jump(self, *jumps: timedelta) -> None:
        """The clock is set, and the process turns after each time."""
        for jump in jumps:
            self.city.clock.set(self.city.clock.now() + jump)
            await self.turn()

    async def passes(self, time: timedelta, step: timedelta = SECOND) -> None:
        """So much time passes. As the clock seems to be set forward, nothing but what it shows is looked at."""
        until = self.city.clock.now() + time
        while self.city.clock.now() < until:
            self.city.clock.set(self.city.clock.now() + step)
            await self.turn()


@pytest.fixture
async def process(city: City) -> AsyncGenerator[Process]:
    async with city.another() as other:
        made = Process(other)
        await made.turn()
        yield made


async def waiting(city: City) -> int:
    return sum(d.state in ("queued", "failed", "sending") for d in await stored(city, Delivery))


# --- deliveries ---


@pytest.mark.parametrize("jumps", JUMPS)
async def test_what_waited_for_its_turn_goes_in_the_time_that_a_turn_takes(
    process: Process, jumps: tuple[timedelta, ...]
) -> None:
    city = process.city
    await route_reports(city.escalation, [received(point=(19.70 + n / 100, 105.77)) for n in range(30)])
    await process.turn()
    assert await waiting(city) == 2 * 27
    await process.jump(*jumps)
    await process.passes(32 * SECOND, 4 * SECOND)
    assert await waiting(city) == 0
    of_first_round = {d.delivery_id for d in await stored(city, Delivery, purpose="accountable")}
    assert len(of_first_round) == 60
    assert {process.sender.taken[delivery_id] for delivery_id in of_first_round} == {1}


@pytest.mark.parametrize("jumps", JUMPS)
async def test_what_failed_is_tried_again_in_the_time_of_its_wait(
    process: Process, jumps: tuple[timedelta, ...]
) -> None:
    await route_reports(process.city.escalation, [received()])
    process.sender.refuses = True
    for _ in range(4):
        await process.turn()
        await process.passes(2 * SECOND)
    assert await waiting(process.city) == 2
    process.sender.refuses = False
    await process.jump(*jumps)
    await process.passes(30 * SECOND, 5 * SECOND)
    assert await waiting(process.city) == 0


@pytest.mark.parametrize("back", [10 * MINUTE, HOUR])
async def test_the_lease_of_a_killed_sender_runs_out_all_the_same(
    city: City, process: Process, back: timedelta
) -> None:
    await route_reports(city.escalation, [received()])
    loop = DeliveryLoop(city.escalation, Hanging())
    await loop.step()
    await process.jump(-back)
    assert process.sender.taken == Counter()
    await process.passes(LEASE + SECOND, 3 * SECOND)
    assert sorted(process.sender.taken.values()) == [1, 1]
    await loop_ends(loop)


class Hanging(Sender):
    """Sends until the test ends it."""

    def __init__(self) -> None:
        super().__init__(Path("unused"), TO_THIS_MACHINE)
        self.sending = Counter[str]()
        self.ended = asyncio.Event()

    async def send(self, message: Message) -> SendOutcome:
        self.sending.update(d.delivery_id for d in message.deliveries)
        await self.ended.wait()
        return "sent"


async def loop_ends(loop: DeliveryLoop) -> None:
    sender = loop._sender  # pyright: ignore[reportPrivateUsage]
    assert isinstance(sender, Hanging)
    sender.ended.set()
    await loop.drain()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_what_is_being_sent_is_not_sent_beside_itself(city: City, jump: timedelta) -> None:
    await route_reports(city.escalation, [received()])
    sender = Hanging()
    loop = DeliveryLoop(city.escalation, sender)
    await loop.step()
    await asyncio.sleep(0)
    city.clock.set(NIGHT + jump)
    await follow_clock(city.escalation, always=True)
    await loop.step()
    await asyncio.sleep(0)
    assert sorted(sender.sending.values()) == [1, 1]
    await loop_ends(loop)
    assert {d.state for d in await stored(city, Delivery)} == {"sent"}


async def test_where_nobody_saw_it_each_wait_begins_anew_at_the_start(city: City) -> None:
    await route_reports(city.escalation, [received(point=(19.70 + n / 100, 105.77)) for n in range(30)])
    async with city.another() as before:
        await Process(before).turn()
    city.clock.set(NIGHT - HOUR)
    async with city.another() as started:
        process = Process(started)
        await follow_clock(started.escalation, always=True)
        await process.passes(32 * SECOND, 4 * SECOND)
        assert await waiting(city) == 0
        await process.passes(15 * MINUTE, MINUTE)
    assert "desk:not_acknowledged" in await city.told()


async def test_the_end_of_quiet_hours_stays_a_time_of_the_day(process: Process) -> None:
    city = process.city
    for holder in ("mau-14776-bi-thu", "mau-14776-chu-tich"):
        await reachable(city, holder, ("22:00", "06:00"))
    slight = Harm(deaths=0, injured=0, property_vnd=0)
    await route_reports(city.escalation, [received("FIRE", kind="officer", harm=slight)])
    incident = await city.incident()
    await commands.verify(city.escalation, incident, DESK, "Đã xem")
    await commands.designate(city.escalation, incident, DESK, "Nổi cộm", prominent=True)
    assert await rings(city) == {at("2023-01-22 06:00")}
    due = await asked_until(city)
    await process.jump(-HOUR)
    assert await rings(city) == {at("2023-01-22 06:00")}
    assert await asked_until(city) == due, "counted from when it rings"
    await process.jump(timedelta(days=-3))
    assert await rings(city) == {at("2023-01-19 06:00")}


async def rings(city: City) -> set[datetime]:
    return {d.next_at for d in await stored(city, Delivery, purpose="accountable")}


async def asked_until(city: City) -> list[datetime]:
    return [d.due_at for d in await stored(city, DueTime, kind="acknowledge", state="pending")]


# --- due times ---


@pytest.mark.parametrize("jumps", [(-HOUR,), (timedelta(days=-3),), (-HOUR, 10 * MINUTE, -HOUR)])
async def test_a_due_time_passes_when_its_minutes_have_passed_and_not_before(
    process: Process, jumps: tuple[timedelta, ...]
) -> None:
    city = process.city
    await route_reports(city.escalation, [received()])
    forward = sum((jump for jump in jumps if jump > timedelta(0)), timedelta(0))
    await process.passes(13 * MINUTE - forward, MINUTE)
    await process.jump(*jumps)
    assert "desk:not_acknowledged" not in await city.told()
    await process.passes(MINUTE, 30 * SECOND)
    assert "desk:not_acknowledged" not in await city.told()
    await process.passes(MINUTE + 2 * SECOND, 31 * SECOND)
    assert (await city.told()).count("desk:not_acknowledged") == 1


async def test_what_fell_due_by_a_clock_that_was_ahead_is_done_once_and_goes_on_by_the_right_one(
    process: Process,
) -> None:
    city = process.city
    await route_reports(city.escalation, [received()])
    await process.jump(HOUR)
    assert (await city.told()).count("desk:not_acknowledged") == 1
    await process.jump(-HOUR)
    await process.passes(13 * MINUTE, MINUTE)
    assert not [told for told in await city.told() if told.startswith("leadership")]
    await process.passes(3 * MINUTE, MINUTE)
    told = await city.told()
    assert told.count("desk:not_acknowledged") == 1
    assert told.count("leadership:not_acknowledged") == 1


async def test_a_change_of_hands_stays_where_it_is_in_the_calendar(process: Process) -> None:
    city = process.city
    changes = NIGHT + 2 * HOUR
    await leave(city, "mau-14776-chu-tich", changes)
    await route_reports(city.escalation, [received()])
    await process.jump(-HOUR)
    assert [d.due_at for d in await stored(city, DueTime, kind="directory", state="pending")] == [changes]


async def test_two_processes_that_both_see_it_move_each_time_once(process: Process, city: City) -> None:
    async with city.another() as other:
        beside = Process(other)
        await beside.turn()
        await route_reports(city.escalation, [received()])
        before = await asked_until(city)
        city.clock.set(NIGHT - HOUR)
        await asyncio.gather(*(follow_clock(p.city.escalation) for p in (process, beside, process, beside)))
        moved = [old - new for old, new in zip(before, await asked_until(city), strict=True)]
    assert all(timedelta(0) <= by - HOUR < MINUTE for by in moved)


async def test_the_same_finding_is_known_again_whatever_the_clock_did_in_between(city: City) -> None:
    await route_reports(city.escalation, [received("FIRE")])
    incident = await city.incident()
    await commands.dismiss(city.escalation, incident, DESK, "Báo nhầm")
    await commands.reopen(city.escalation, incident, DESK, "Xem lại")
    city.clock.set(NIGHT - HOUR)
    assert (await commands.verify(city.escalation, incident, DESK, "Đã xem")).is_new
    assert not (await commands.verify(city.escalation, incident, DESK, "Đã xem")).is_new


# --- what is seen of it ---


async def test_the_running_service_follows_its_clock(house: WholeCity) -> None:
    await house.emptied()
    house.clock.set(NIGHT)
    await house.report(
        {
            "report_id": "tin-1",
            "category": "FIRECRACKER_SET_OFF",
            "ward": "Ba Đình",
            "occurred_at": "2023-01-21T23:50:00+07:00",
        }
    )
    house.clock.set(NIGHT - HOUR)

    async def is_moved() -> bool:
        return all(due < NIGHT for due in await asked_until(house))

    await until(is_moved, "the due times follow the clock")


async def test_a_notice_that_is_put_off_again_and_again_is_complained_of(city: City) -> None:
    await route_reports(city.escalation, [received()])
    await deliveries_are(city, "queued", next_at=NIGHT + HOUR)
    assert await postponed(city, NIGHT + POSTPONED_LATE - SECOND) == 0
    assert await postponed(city, NIGHT + POSTPONED_LATE + MINUTE) == 2


async def postponed(city: City, now: datetime) -> int:
    async with city.escalation.database.connect() as connection:
        return (await watch.look(connection, now)).postponed.count


async def test_a_change_that_was_recorded_by_a_clock_ahead_is_shown_at_once(house: WholeCity) -> None:
    await house.emptied()
    house.clock.set(NIGHT)
    await leave(house, "mau-14776-chu-tich", NIGHT - HOUR)
    house.clock.set(NIGHT - HOUR)
    page = (await house.get("/escalation/v1/directory", "admin", params={"ward": "14776"})).json()
    assert CHAIR not in [item["post"] for item in page["items"]]

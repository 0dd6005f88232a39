"""The watch over the watch: what was forgotten is found, cheaply, and said loudly; silence outside raises the alarm."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.monitoring.heartbeat import Heartbeat
from services.escalation.monitoring.watchman import Watchman, health_failures
from services.escalation.store import watch
from services.escalation.store.watch import DEADLINES_LATE, DELIVERIES_LATE, STANDSTILL_LATE, Forgotten, Watch
from shared.clock import monotonic
from shared.http.health import Check, checks_of
from shared.http.identity import Principal
from tests.integration.escalation_support import City, Template, city_in
from tests.integration.plans import plan_of
from tests.integration.stored.arranging import (
    deliveries_are,
    due_times_are,
    incidents_stand_at,
    multiply_incidents,
    notices_are_to,
    spoil_reports,
    was_tried,
)
from tests.integration.stored.looking import next_due, only, stored
from tests.integration.stored.records import Incident, Notice
from tests.support import NIGHT, received

SECOND = timedelta(seconds=1)
DESK = Principal("mau-truc-ban", "desk")


async def seen(city: City, later: timedelta = timedelta(0)) -> Watch:
    async with city.escalation.database.connect() as connection:
        return await watch.look(connection, NIGHT + later)


async def counts(city: City, later: timedelta = timedelta(0)) -> tuple[int, int, int]:
    found = await seen(city, later)
    return found.unwatched.count, found.deadlines.count, found.deliveries.count


@pytest.fixture
async def reported(city: City) -> City:
    """Firecrackers in Ba Đình: two notices on their way, and due times that wait."""
    await route_reports(city.escalation, [received()])
    return city


async def first_due(city: City) -> timedelta:
    due = await next_due(city)
    assert due is not None
    return due - NIGHT


async def test_where_nothing_was_reported_nothing_is_forgotten(city: City) -> None:
    assert await counts(city) == (0, 0, 0)


async def test_an_incident_that_is_looked_after_is_no_complaint(reported: City) -> None:
    found = await seen(reported)
    assert (found.unwatched.count, found.deadlines.count, found.deliveries.count) == (0, 0, 0)
    assert set(health_failures(found, NIGHT).values()) == {None}


async def test_an_open_incident_without_a_pending_due_time_is_found(reported: City) -> None:
    await due_times_are(reported, "passed")
    opened = (await only(reported, Incident)).opened_at
    found = await seen(reported)
    assert found.unwatched == Forgotten(1, opened)
    said = health_failures(found, opened + timedelta(minutes=7))["watch.unwatched"]
    assert said is not None
    assert said.startswith("1 open incidents wait for nobody, the oldest opened 7 min ago")


@pytest.mark.parametrize("state", ["closed", "dismissed", "merged", "handed_off"])
async def test_an_incident_that_has_ended_needs_none(reported: City, state: str) -> None:
    await due_times_are(reported, "cancelled")
    await incidents_stand_at(reported, state)
    assert await counts(reported) == (0, 0, 0)


async def test_a_due_time_that_passed_and_was_not_acted_on_is_found_after_its_grace(reported: City) -> None:
    await deliveries_are(reported, "sent")
    due = await first_due(reported)
    assert await counts(reported, due + DEADLINES_LATE) == (0, 0, 0)
    unwatched, deadlines, deliveries = await counts(reported, due + DEADLINES_LATE + SECOND)
    assert (unwatched, deliveries) == (0, 0)
    assert deadlines > 0
    await due_times_are(reported, "passed", until=NIGHT + due)
    assert (await counts(reported, due + DEADLINES_LATE + SECOND))[1] == 0


async def test_where_nothing_is_being_done_what_is_late_is_found_sooner(reported: City) -> None:
    """Another process may hold the locks of what is due, and fail again and again. This one finds nothing to do."""
    due = await first_due(reported)
    reported.clock.set(NIGHT + due + STANDSTILL_LATE + SECOND)
    watchman = Watchman(reported.escalation)
    reported.escalation.worked.clear()
    said = await watchman.health_failures()
    assert said["watch.deadlines"] is not None
    assert said["watch.deliveries"] is not None
    reported.escalation.worked.update(deadlines=monotonic(), deliveries=monotonic())
    said = await watchman.health_failures()
    assert said["watch.deadlines"] is None
    assert await fire_due_timers(reported.escalation) > 0
    assert (await watchman.health_failures())["watch.deadlines"] is None


async def test_the_due_times_of_an_incident_that_cannot_be_handled_are_complained_of(reported: City) -> None:
    await spoil_reports(reported)
    due = await first_due(reported)
    reported.clock.set(NIGHT + due + DEADLINES_LATE + SECOND)
    assert await fire_due_timers(reported.escalation) == 0
    said = (await Watchman(reported.escalation).health_failures())["watch.deadlines"]
    assert said is not None
    assert "see the log for 'incident cannot be handled'" in said
    assert shown("trucban_forgotten", "deadlines") > 0


@pytest.mark.parametrize("state", ["queued", "failed", "sending"])
async def test_a_delivery_that_should_long_have_gone_out_is_found(reported: City, state: str) -> None:
    await deliveries_are(reported, state, next_at=NIGHT)
    assert (await counts(reported, DELIVERIES_LATE))[2] == 0
    found = await seen(reported, DELIVERIES_LATE + SECOND)
    assert found.deliveries == Forgotten(2, NIGHT)
    said = health_failures(found, NIGHT + DELIVERIES_LATE + SECOND)["watch.deliveries"]
    assert said is not None
    assert said.startswith("2 deliveries are overdue, the oldest by 21 s")


async def desk_told(city: City, *states: str) -> None:
    """A fire, which the desk is to verify, and what became of telling it by so many channels."""
    await route_reports(city.escalation, [received("FIRE")])
    await was_tried(city, (await only(city, Notice)).notice_id, states, NIGHT)


async def test_a_notice_that_no_channel_of_an_office_took_is_a_complaint(city: City) -> None:
    await desk_told(city, "given_up", "given_up")
    found = await seen(city, timedelta(minutes=5))
    assert found.offices == Forgotten(1, NIGHT), "one notice, whatever it was tried by"
    said = health_failures(found, NIGHT + timedelta(minutes=5))["watch.offices"]
    assert said is not None
    assert said.startswith("1 notices to the desk or the leadership reached nobody, the oldest given up 5 min ago")


@pytest.mark.parametrize("other", ["sent", "delivered"])
async def test_an_office_that_was_reached_by_another_channel_is_none(city: City, other: str) -> None:
    await desk_told(city, "given_up", other)
    assert (await seen(city)).offices.count == 0


async def desk_acknowledges(city: City) -> None:
    await acknowledge(city.escalation, await city.incident(), DESK)


async def desk_dismisses(city: City) -> None:
    await commands.dismiss(city.escalation, await city.incident(), DESK, "Báo nhầm")


async def it_was_to_a_person(city: City) -> None:
    await notices_are_to(city, "mau-14776-chu-tich")


async def a_day_passes(city: City) -> None:
    city.clock.set(NIGHT + timedelta(days=1))


@pytest.mark.parametrize(
    "settle",
    [desk_acknowledges, desk_dismisses, a_day_passes, it_was_to_a_person],
    ids=["acknowledged", "ended", "a day ago", "a person, of whom the desk is told"],
)
async def test_what_an_office_need_not_be_told_any_more_is_none(
    city: City, settle: Callable[[City], Awaitable[None]]
) -> None:
    await desk_told(city, "given_up")
    assert (await seen(city, SECOND)).offices.count == 1
    await settle(city)
    assert (await seen(city, city.clock.now() - NIGHT + SECOND)).offices.count == 0


@pytest.mark.parametrize("state", ["sent", "delivered", "given_up", "cancelled"])
async def test_a_delivery_that_is_over_is_not_waited_for(reported: City, state: str) -> None:
    await deliveries_are(reported, state)
    assert (await counts(reported, timedelta(hours=1)))[2] == 0


async def test_the_metrics_say_what_was_found_and_that_it_is_over(reported: City) -> None:
    watchman = Watchman(reported.escalation)
    await due_times_are(reported, "passed")
    reported.clock.set(NIGHT + timedelta(minutes=1))
    assert await watchman.step() is False
    assert shown("trucban_forgotten") == 1
    assert shown("trucban_forgotten_seconds") == pytest.approx(60, abs=5)
    await due_times_are(reported, "pending")
    await watchman.step()
    assert (shown("trucban_forgotten"), shown("trucban_forgotten_seconds")) == (0, 0)


def shown(metric: str, kind: str = "unwatched") -> float:
    return REGISTRY.get_sample_value(metric, {"kind": kind}) or 0.0


async def test_among_twenty_thousand_incidents_it_looks_at_those_that_are_open(template: Template) -> None:
    """By indexes alone: the plan is asserted, since a clock says nothing on a busy machine."""
    async with city_in(await template.clone()) as city:
        await route_reports(city.escalation, [received()])
        await multiply_incidents(city, 20_000, of_which_open=200)
        assert len(await stored(city, Incident)) == 20_001
        plan = await plan_of(city.escalation.database, lambda c: watch.look(c, NIGHT))
        assert plan.read_whole == set()
        assert {"incident_open", "deadline_due", "delivery_due", "delivery_given_up"} <= plan.indexes
        assert plan.buffers < 800, "about 20,000 incidents with their deadlines fill many times that"
        assert await counts(city) == (0, 0, 0)


# --- the sign of life ---


@dataclass
class Outside:
    """The watcher outside: counts who called, and answers what it is told to."""

    url: str = ""
    status: int = 200
    calls: list[str] = field(default_factory=list[str])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.calls.append(head.split(b"\r\n")[0].decode())
        writer.write(f"HTTP/1.1 {self.status} .\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def outside() -> AsyncGenerator[Outside]:
    made = Outside()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ping/bi-mat"
    yield made
    server.close()
    await server.wait_closed()


def always(*checks: Check) -> Callable[[], Awaitable[Sequence[Check]]]:
    async def asked() -> Sequence[Check]:
        return checks

    return asked


WELL, ILL = Check("delivery", True), Check("watch.deadlines", False, "3 due times passed")


async def test_while_all_is_well_the_watcher_outside_is_called(outside: Outside) -> None:
    beat = Heartbeat(outside.url, always(WELL, WELL))
    assert await beat.step() is False
    assert outside.calls == ["POST /ping/bi-mat HTTP/1.1"]


async def test_when_anything_is_wrong_it_is_not_called_so_that_its_silence_raises_the_alarm(outside: Outside) -> None:
    await Heartbeat(outside.url, always(WELL, ILL)).step()
    assert outside.calls == []


async def test_when_readiness_cannot_be_known_it_is_not_called(outside: Outside) -> None:
    async def away() -> Sequence[Check]:
        raise ConnectionRefusedError

    await Heartbeat(outside.url, away).step()
    assert outside.calls == []


async def test_a_due_time_that_is_forgotten_silences_the_heartbeat(reported: City, outside: Outside) -> None:
    watchman = Watchman(reported.escalation)

    async def checks() -> Sequence[Check]:
        return checks_of(await watchman.health_failures())

    beat = Heartbeat(outside.url, checks)
    await beat.step()
    await due_times_are(reported, "passed")
    await beat.step()
    assert len(outside.calls) == 1


@pytest.mark.parametrize("status", [301, 404, 500])
async def test_a_watcher_that_cannot_be_reached_stops_nothing_and_its_address_is_in_no_log(
    outside: Outside, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    outside.status = status
    failed = heartbeats("failed")
    await Heartbeat(outside.url, always(WELL)).step()
    await Heartbeat("http://127.0.0.1:1/ping/bi-mat", always(WELL)).step()
    assert heartbeats("failed") == failed + 2
    written = capsys.readouterr()
    assert "heartbeat not delivered" in written.out + written.err
    assert "bi-mat" not in written.out + written.err


def heartbeats(outcome: str) -> float:
    return REGISTRY.get_sample_value("trucban_heartbeats_total", {"outcome": outcome}) or 0.0

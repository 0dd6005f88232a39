"""The watch over the watch: what was forgotten is found, cheaply, and said loudly; silence outside raises the alarm."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.monitoring.heartbeat import Heartbeat
from services.escalation.monitoring.watchman import Watchman, health_failures
from services.escalation.store import tables, watch
from services.escalation.store.watch import DEADLINES_LATE, DELIVERIES_LATE, Forgotten, Watch
from shared.http.web import Check, checks_of
from tests.integration.escalation_support import City, Template, city_in
from tests.integration.plans import plan_of
from tests.support import NIGHT, received

SECOND = timedelta(seconds=1)


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
    return await city.one("SELECT min(due_at) FROM escalation.deadline WHERE state = 'pending'") - NIGHT


async def test_where_nothing_was_reported_nothing_is_forgotten(city: City) -> None:
    assert await counts(city) == (0, 0, 0)


async def test_an_incident_that_is_looked_after_is_no_complaint(reported: City) -> None:
    found = await seen(reported)
    assert (found.unwatched.count, found.deadlines.count, found.deliveries.count) == (0, 0, 0)
    assert set(health_failures(found, NIGHT).values()) == {None}


async def test_an_open_incident_without_a_pending_due_time_is_found(reported: City) -> None:
    await reported.run("UPDATE escalation.deadline SET state = 'passed'")
    opened = await reported.one("SELECT opened_at FROM escalation.incident")
    found = await seen(reported)
    assert found.unwatched == Forgotten(1, opened)
    said = health_failures(found, opened + timedelta(minutes=7))["watch.unwatched"]
    assert said is not None
    assert said.startswith("1 open incidents have nothing that falls due, the oldest opened 7 min ago")


@pytest.mark.parametrize("state", ["closed", "dismissed", "merged", "handed_off"])
async def test_an_incident_that_has_ended_needs_none(reported: City, state: str) -> None:
    await reported.run("UPDATE escalation.deadline SET state = 'cancelled'")
    await reported.run("UPDATE escalation.incident SET state = :state", state=state)
    assert await counts(reported) == (0, 0, 0)


async def test_a_due_time_that_passed_and_was_not_acted_on_is_found_after_its_grace(reported: City) -> None:
    await reported.run("UPDATE escalation.delivery SET state = 'sent'")
    due = await first_due(reported)
    assert await counts(reported, due + DEADLINES_LATE) == (0, 0, 0)
    unwatched, deadlines, deliveries = await counts(reported, due + DEADLINES_LATE + SECOND)
    assert (unwatched, deliveries) == (0, 0)
    assert deadlines > 0
    await reported.run("UPDATE escalation.deadline SET state = 'passed' WHERE due_at <= :at", at=NIGHT + due)
    assert (await counts(reported, due + DEADLINES_LATE + SECOND))[1] == 0


async def test_the_due_times_of_an_incident_that_cannot_be_handled_are_complained_of(reported: City) -> None:
    await reported.run("UPDATE escalation.report SET facts = '{\"bad\": 1}'")
    due = await first_due(reported)
    reported.clock.set(NIGHT + due + DEADLINES_LATE + SECOND)
    assert await fire_due_timers(reported.escalation) == 0
    said = (await Watchman(reported.escalation).health_failures())["watch.deadlines"]
    assert said is not None
    assert "see the log for 'incident cannot be handled'" in said
    assert shown("trucban_forgotten", "deadlines") > 0


@pytest.mark.parametrize("state", ["queued", "failed", "sending"])
async def test_a_delivery_that_should_long_have_gone_out_is_found(reported: City, state: str) -> None:
    await reported.run("UPDATE escalation.delivery SET state = :state, next_at = :at", state=state, at=NIGHT)
    assert (await counts(reported, DELIVERIES_LATE))[2] == 0
    found = await seen(reported, DELIVERIES_LATE + SECOND)
    assert found.deliveries == Forgotten(2, NIGHT)
    said = health_failures(found, NIGHT + DELIVERIES_LATE + SECOND)["watch.deliveries"]
    assert said is not None
    assert said.startswith("2 deliveries are overdue, the oldest by 21 s")


async def desk_told(city: City, *states: str) -> None:
    """A fire, which the desk is to verify, and what became of telling it by so many channels."""
    await route_reports(city.escalation, [received("FIRE")])
    await city.run("DELETE FROM escalation.delivery")
    for number, state in enumerate(states):
        await city.run(
            "INSERT INTO escalation.delivery (delivery_id, notice_id, channel, state, next_at, finished_at)"
            " SELECT :id, notice_id, 'outbox://' || :id, :state, :at, :at FROM escalation.notice",
            id=f"so-{number}",
            state=state,
            at=NIGHT,
        )


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


@pytest.mark.parametrize(
    "settled",
    [
        "UPDATE escalation.notice SET acknowledged_at = issued_at",
        "UPDATE escalation.incident SET state = 'closed'",
        "UPDATE escalation.delivery SET finished_at = finished_at - INTERVAL '1 day'",
        "UPDATE escalation.notice SET recipient = 'mau-14776-chu-tich'",
    ],
    ids=["acknowledged", "ended", "a day ago", "a person, of whom the desk is told"],
)
async def test_what_an_office_need_not_be_told_any_more_is_none(city: City, settled: str) -> None:
    await desk_told(city, "given_up")
    await city.run(settled)
    assert (await seen(city, SECOND)).offices.count == 0


@pytest.mark.parametrize("state", ["sent", "delivered", "given_up", "cancelled"])
async def test_a_delivery_that_is_over_is_not_waited_for(reported: City, state: str) -> None:
    await reported.run("UPDATE escalation.delivery SET state = :state", state=state)
    assert (await counts(reported, timedelta(hours=1)))[2] == 0


async def test_the_metrics_say_what_was_found_and_that_it_is_over(reported: City) -> None:
    watchman = Watchman(reported.escalation)
    await reported.run("UPDATE escalation.deadline SET state = 'passed'")
    reported.clock.set(NIGHT + timedelta(minutes=1))
    assert await watchman.step() is False
    assert shown("trucban_forgotten") == 1
    assert shown("trucban_forgotten_seconds") == pytest.approx(60, abs=5)
    await reported.run("UPDATE escalation.deadline SET state = 'pending'")
    await watchman.step()
    assert (shown("trucban_forgotten"), shown("trucban_forgotten_seconds")) == (0, 0)


def shown(metric: str, kind: str = "unwatched") -> float:
    return REGISTRY.get_sample_value(metric, {"kind": kind}) or 0.0


async def test_among_twenty_thousand_incidents_it_looks_at_those_that_are_open(template: Template) -> None:
    """By indexes alone: the plan is asserted, since a clock says nothing on a busy machine."""
    async with city_in(await template.clone()) as city:
        await route_reports(city.escalation, [received()])
        await multiply(city, incidents=20_000, of_which_open=200)
        assert await city.one("SELECT count(*) FROM escalation.incident") == 20_001
        plan = await plan_of(city.escalation.database, lambda c: watch.look(c, NIGHT))
        assert plan.read_whole == set()
        assert {"incident_open", "deadline_due", "delivery_due", "delivery_given_up"} <= plan.indexes
        assert plan.buffers < 800, "about 20,000 incidents with their deadlines fill many times that"
        assert await counts(city) == (0, 0, 0)


async def multiply(city: City, *, incidents: int, of_which_open: int) -> None:
    """The one incident again and again, with its deadlines and deliveries; most of them long closed."""
    numbered = {name: f"t.{name} || '-' || n" for name in ("notice_id", "deadline_id", "delivery_id")}
    for table, fields, ended in (
        (tables.incident, {}, "closed"),
        (tables.notice, numbered | {"decision_id": "NULL"}, None),
        (tables.deadline, numbered | {"notice_id": "NULL"}, "cancelled"),
        (tables.delivery, numbered, "sent"),
    ):
        fields |= {"incident_id": "'vu-' || n"}
        if ended:
            fields |= {"state": f"CASE WHEN n % {incidents // of_which_open} = 0 THEN t.state ELSE '{ended}' END"}
        columns = ", ".join(f"{fields.get(c.name, f't.{c.name}')} AS {c.name}" for c in table.columns)
        async with city.escalation.database.begin() as connection:
            await connection.execute(text("SET LOCAL session_replication_role = replica"))  # no foreign keys: faster
            await connection.execute(
                text(
                    f"INSERT INTO {table} SELECT {columns}"
                    f" FROM (SELECT * FROM {table} LIMIT 2) t, generate_series(1, {incidents}) n"
                )
            )
        await city.run(f"ANALYZE {table}")


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
    await reported.run("UPDATE escalation.deadline SET state = 'passed'")
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

"""The stream: what the caller may see, each event once and in order, through every reconnection."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.api import stream as routes
from services.escalation.api.rights import RIGHTS
from services.escalation.application.route_reports import route_reports
from services.escalation.monitoring import broadcast as broadcasting
from services.escalation.monitoring.broadcast import Broadcast
from services.escalation.store import timeline
from services.escalation.store.timeline import Place
from shared.http.identity import Principal, Role, issuer, verifier
from shared.http.web import service_app
from tests.integration.escalation_support import City, Template, city_in, migrated_template, until
from tests.integration.plans import plan_of
from tests.integration.stored.arranging import acted_for_by
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Event
from tests.integration.stream_support import SECONDS, URL, Heard, House, a_line, serving, write
from tests.servers import quick_servers
from tests.support import BA_DINH, DONG_THO, NGOC_TRAO, passable_folder, received


@pytest.fixture(scope="module")
async def template() -> AsyncGenerator[Template]:
    """On servers of its own: an event waits for every older transaction, of whatever database."""
    with passable_folder("stream") as folder:
        async with quick_servers(folder) as servers:
            yield await migrated_template(servers)


@pytest.fixture(scope="module")
async def shared_city(template: Template) -> AsyncGenerator[City]:
    async with city_in(await template.clone()) as made:
        yield made


@pytest.fixture
async def house(city: City, tmp_path: Path) -> AsyncGenerator[House]:
    broadcast = Broadcast(city.escalation.database)
    app = service_app("escalation", verifier(tmp_path), routes.router, RIGHTS)
    app.state.broadcast, app.state.escalation = broadcast, city.escalation
    root = FastAPI()
    root.mount("/escalation", app)
    city.escalation.wakes.append(broadcast.wake)
    try:
        async with (
            serving(root, broadcast.close) as (server, url),
            broadcast.running(),
            AsyncClient(base_url=url, timeout=SECONDS) as client,
        ):
            yield House(city, broadcast, client, issuer(tmp_path), server)
    finally:
        city.escalation.wakes.remove(broadcast.wake)


# --- who sees what ---


async def test_each_sees_the_events_of_what_they_may_see_and_of_nothing_else(house: House) -> None:
    for unit in (BA_DINH, NGOC_TRAO):
        await route_reports(house.city.escalation, [received(unit=unit)])
    everything = await house.order()
    of_ba_dinh = [e.event_id for e in await stored(house.city, Event, unit_code=BA_DINH.code) if e.incident_id]
    assert 0 < len(of_ba_dinh) < len(everything)
    for role in ("desk", "leader"):
        assert await house.heard_by(role, len(everything)) == everything
    for caller in (Principal("mau-14776-chu-tich", "official"), Principal("mau", "officer", BA_DINH.code)):
        assert await house.heard_by(caller, len(of_ba_dinh)) == of_ba_dinh


@pytest.mark.parametrize("role", ["auditor", "admin", "device"])
async def test_the_stream_is_not_for(house: House, role: Role) -> None:
    async with house.answering(role) as answer:
        assert answer.status_code == 403


async def test_ward_people_hear_the_live_events_of_their_ward_alone(house: House) -> None:
    heard = Heard()
    official = Principal("mau-14776-chu-tich", "official")
    listening = asyncio.create_task(house.hear(heard, official, lambda h: len(h.events) == 2))
    await until(lambda: _are_live(house, 1), "the official listens")
    mine = [a_line(ward=BA_DINH.code, incident="a"), a_line(ward=BA_DINH.code, incident="b")]
    of_the_directory = a_line(ward=BA_DINH.code)
    await house.write(mine[0], a_line(ward=DONG_THO.code, incident="c"), of_the_directory, a_line(), mine[1])
    house.broadcast.wake()
    await listening
    assert heard.numbers == [line.event_id for line in mine]


async def test_the_people_of_the_successor_unit_hear_what_happens_to_an_incident_that_became_theirs(
    house: House,
) -> None:
    await route_reports(house.city.escalation, [received(unit=BA_DINH)])
    await acted_for_by(house.city, NGOC_TRAO)
    events = await house.order()
    assert await house.heard_by(Principal("mau-14779-bi-thu", "official"), len(events)) == events


async def test_a_token_without_a_ward_hears_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "KEEP_ALIVE_SECONDS", 0.1)
    await route_reports(house.city.escalation, [received()])
    heard = Heard(last="0-0")
    await house.hear(heard, Principal("mau", "officer"), lambda h: h.beats == 4)
    assert heard.events == []


async def test_personal_values_are_not_on_the_stream_nor_kept_in_the_timeline(house: House) -> None:
    event = received(description={"salt": "5a" * 32, "value": "ông A ở số 5"})
    body = event.model_dump_json(exclude_none=True).encode()
    assert "ông A".encode() in body
    await house.write(timeline.line(event, body))
    kept = (await only(house.city, Event)).body.decode()
    for forbidden in ("ông A", "salt", "5a5a"):
        assert forbidden not in kept
    heard = Heard(last="0-0")
    await house.hear(heard, "desk", lambda h: len(h.events) == 1)
    assert heard.events[0]["data"]["report_id"] == event.data.report_id
    assert "description" not in heard.events[0]["data"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"reason": {"salt": "a", "value": "b"}, "state": 1}, {"state": 1}),
        ({"reason": "not_acknowledged"}, {"reason": "not_acknowledged"}),
        ({"a": [{"salt": "a", "value": "b"}, {"b": {"salt": "a", "value": "b"}}]}, {"a": [{}]}),
        ({"salt": "sea", "value": 1, "more": 2}, {"salt": "sea", "value": 1, "more": 2}),
    ],
)
def test_what_counts_as_personal(value: Any, shown: Any) -> None:
    assert timeline.impersonal(value) == shown


# --- order, without a gap ---


async def test_without_an_id_it_begins_now(house: House) -> None:
    await house.write(a_line())
    heard = Heard()
    listening = asyncio.create_task(house.hear(heard, "desk", lambda h: len(h.events) == 1))
    await until(lambda: _are_live(house, 1), "the desk listens")
    new = a_line()
    await house.write(new)
    await listening
    assert heard.numbers == [new.event_id]


async def test_an_event_that_commits_later_than_one_with_a_higher_number_is_not_skipped(house: House) -> None:
    """Its place is before the other's, so the other waits for it; a reader by number alone would never see it."""
    heard = Heard(last="0-0")
    slow, fast = a_line("slow"), a_line("fast")
    first = asyncio.create_task(house.hear(heard, "desk", lambda h: len(h.events) == 2))
    await until(lambda: _are_live(house, 1), "the desk listens")
    async with house.city.escalation.database.begin() as connection:
        await write(connection, slow)
        await house.write(fast)
        house.broadcast.wake()
        await asyncio.sleep(0.2)
        assert heard.events == [], "what comes before it may still come"
    house.broadcast.wake()
    await first
    assert heard.numbers == ["slow", "fast"]


async def test_a_client_that_comes_again_between_two_commits_out_of_order_misses_neither(house: House) -> None:
    heard = Heard(last="0-0")
    await house.write(a_line("before"))
    async with house.city.escalation.database.begin() as connection:
        await connection.execute(text("SELECT pg_current_xact_id()"))
        await house.write(a_line("fast"))
        await house.hear(heard, "desk", lambda h: len(h.events) == 1)
        assert heard.numbers == ["before"]
        await timeline.add(connection, [a_line("slow")])  # the higher number, the older transaction
    await house.hear(heard, "desk", lambda h: len(h.events) == 3)
    assert heard.numbers == ["before", "slow", "fast"]


async def test_through_many_writers_and_many_reconnections_each_event_comes_once_and_in_order(house: House) -> None:
    drawn = random.Random(20230121)
    heards = [Heard(last="0-0") for _ in range(4)]
    writers, rounds = 8, 12

    async def writer(number: int) -> None:
        for turn in range(rounds):
            async with house.city.escalation.database.begin() as connection:
                await write(connection, a_line(f"{number}-{turn}-a"))
                await asyncio.sleep(drawn.random() * 0.02)
                await timeline.add(connection, [a_line(f"{number}-{turn}-b")])
                await asyncio.sleep(drawn.random() * 0.02)
            house.broadcast.wake()

    total = 2 * writers * rounds

    async def reader(heard: Heard) -> None:
        while len(heard.events) < total:
            more = min(len(heard.events) + drawn.randint(1, 30), total)
            await house.hear(heard, "desk", lambda h, enough=more: len(h.events) >= enough)

    await asyncio.gather(*(writer(n) for n in range(writers)), *(reader(h) for h in heards))
    order = await house.order()
    assert len(order) == total
    for heard in heards:
        assert heard.numbers == order


async def test_what_another_process_writes_comes_without_being_woken(house: House) -> None:
    heard = Heard()
    listening = asyncio.create_task(house.hear(heard, "leader", lambda h: len(h.events) == 1))
    await until(lambda: _are_live(house, 1), "the leader listens")
    async with house.city.another() as other, other.escalation.database.begin() as connection:
        await write(connection, a_line("theirs"))
    await listening
    assert heard.numbers == ["theirs"]


async def test_a_long_absence_is_caught_up_in_pages(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "PAGE", 7)
    lines = [a_line(ward=ward, incident="x") for ward in (BA_DINH.code, DONG_THO.code) * 25]
    for start in range(0, 50, 10):
        await house.write(*lines[start : start + 10])
    assert await house.heard_by("desk", 50) == [line.event_id for line in lines]
    official = Principal("mau-14758-chu-tich", "official")
    assert await house.heard_by(official, 25) == [line.event_id for line in lines[1::2]]


async def test_going_on_costs_the_same_however_long_the_timeline_has_become(template: Template) -> None:
    async with city_in(await template.clone()) as city:
        async with city.escalation.database.begin() as connection:
            await timeline.add(connection, [a_line(ward="14776", incident=f"vu-{n}", size=300) for n in range(20_000)])
        await city.run("ANALYZE")
        async with city.escalation.database.connect() as connection:
            newest = await timeline.newest(connection)
        seen = newest._replace(position=newest.position - 100)
        plans = [
            await plan_of(city.escalation.database, timeline.newest),
            await plan_of(city.escalation.database, lambda c: timeline.after(c, seen, 50)),
            await plan_of(
                city.escalation.database, lambda c: timeline.after(c, seen, 50, until=newest, codes=["14776"])
            ),
        ]
        for plan in plans:
            assert "timeline" not in plan.read_whole
            assert "timeline_in_order" in plan.indexes
            assert plan.buffers < 200


@pytest.mark.parametrize("last", ["x", "1", "1-", "1-2-3", "-1-2", "9" * 18 + "-1", "9" * 30 + "-1", "1٣-4", "ế"])
async def test_an_id_that_is_not_of_this_stream_is_refused_rather_than_followed(house: House, last: str) -> None:
    """Among them one from before the database was restored, whose transactions are yet to come here."""
    headers = {**house.headers("desk"), "last-event-id": last.encode("utf-8")}
    answer = await house.client.get(URL, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/Last-Event-ID"


# --- connections ---


async def test_while_nothing_happens_it_says_that_it_is_there_and_moves_the_client_s_place(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever is shown little need not be read through everybody's events when they come again."""
    monkeypatch.setattr(routes, "KEEP_ALIVE_SECONDS", 0.1)
    heard = Heard()
    official = Principal("mau-14776-chu-tich", "official")
    listening = asyncio.create_task(house.hear(heard, official, lambda h: h.beats >= 8))
    await until(lambda: _are_live(house, 1), "the official listens")
    first = heard.last
    await house.write(a_line(ward=DONG_THO.code, incident="x"))
    house.broadcast.wake()
    await listening
    assert heard.events == []
    assert heard.last != first
    written = await only(house.city, Event)
    assert heard.last == f"{written.transaction}-{written.position}"


async def test_all_clients_of_a_process_share_one_reader(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Place] = []
    read = timeline.after

    async def counted(
        connection: AsyncConnection, seen: Place, limit: int, **more: Any
    ) -> Sequence[timeline.TimelineEntry]:
        asked.append(seen)
        return await read(connection, seen, limit, **more)

    monkeypatch.setattr(broadcasting.timeline, "after", counted)
    heards = [Heard() for _ in range(20)]
    listening = [asyncio.create_task(house.hear(h, "desk", lambda h: len(h.events) == 3)) for h in heards]
    await until(lambda: _are_live(house, 20), "twenty listen")
    asked.clear()
    for _ in range(3):
        await house.write(a_line())
    house.broadcast.wake()
    await asyncio.gather(*listening)
    assert len(asked) < 10
    assert len({tuple(h.numbers) for h in heards}) == 1


async def test_nothing_is_read_while_nobody_listens(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AssertionError("the timeline was read")

    monkeypatch.setattr(broadcasting.timeline, "after", never)
    await house.write(a_line())
    house.broadcast.wake()
    await asyncio.sleep(0.7)
    assert house.broadcast.health_failure() is None


async def test_a_client_that_goes_away_leaves_nothing_behind(house: House) -> None:
    tasks = len(asyncio.all_tasks())
    for _ in range(3):
        heards = [Heard() for _ in range(5)]
        await asyncio.gather(*(house.hear(h, "desk", lambda h: h.beats == 1) for h in heards))
        await house.quiet()
    await house.client.aclose()
    await until(lambda: _tasks_at_most(tasks), "no task is left")
    assert house.city.escalation.database.pool.status().find("Current Checked out connections: 0") >= 0


async def test_a_client_that_is_too_slow_is_sent_away_and_the_others_stay(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "BACKLOG", 20)
    heard = Heard()
    async with house.answering("desk") as slow:
        assert slow.status_code == 200  # and never reads on
        listening = asyncio.create_task(house.hear(heard, "desk", lambda h: len(h.events) == 200))
        await until(lambda: _are_live(house, 2), "both listen")
        for _ in range(100):
            await house.write(a_line(size=100_000), a_line(size=100_000))
            await house.until_read()
        await listening
        await until(lambda: _are_live(house, 0), "the slow one was sent away too")
    assert heard.numbers == await house.order()


async def test_a_connection_ends_by_itself_so_that_the_token_is_looked_at_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "LONGEST_SECONDS", 0.2)
    heard = Heard()
    await house.hear(heard, "desk", lambda _: False)  # returns when the server ends it
    await house.quiet()
    await house.write(a_line("meanwhile"))
    await house.hear(heard, "desk", lambda h: len(h.events) == 1)
    assert heard.numbers == ["meanwhile"]


async def test_when_the_service_stops_it_does_not_wait_for_those_who_listen(house: House) -> None:
    listening = asyncio.create_task(house.hear(Heard(), "desk", lambda _: False))
    await until(lambda: _are_live(house, 1), "the desk listens")
    house.server.should_exit = True
    await listening
    async with house.broadcast.listening(None, "truc-ban") as late:
        assert late.ended.is_set()


async def test_a_process_takes_no_more_listeners_than_it_can_serve(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MOST_LISTENERS", 1)
    monkeypatch.setattr(routes, "KEPT_LISTENERS", 0)
    async with house.answering("desk") as first:
        assert first.status_code == 200
        second = await house.client.get(URL, headers=house.headers("desk"))
        assert second.status_code == 503


async def test_one_credential_follows_so_often_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all of its requests come at the same moment, and each before the others have begun to follow."""
    monkeypatch.setattr(routes, "MOST_OF_ONE", 2)
    officer = Principal("cb-07", "officer", ward=BA_DINH.code)

    async def status(stack: AsyncExitStack) -> int:
        return (await stack.enter_async_context(house.answering(officer))).status_code

    async with AsyncExitStack() as stack:
        found = await asyncio.gather(*(status(stack) for _ in range(6)))
        assert sorted(found) == [200, 200, 429, 429, 429, 429]
        async with house.answering("desk") as other:
            assert other.status_code == 200
    await until(lambda: _follows(house, officer, 0), "the officer follows no more")
    async with house.answering(officer) as again:
        assert again.status_code == 200


async def _follows(house: House, caller: Principal, count: int) -> bool:
    return house.broadcast.listeners_of(caller.subject) == count


@pytest.mark.parametrize("role", ["desk", "leader"])
async def test_places_are_kept_for_the_desk_and_the_leadership(
    house: House, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    monkeypatch.setattr(routes, "MOST_LISTENERS", 2)
    monkeypatch.setattr(routes, "KEPT_LISTENERS", 1)
    officers = [Principal(f"cb-{n}", "officer", ward=BA_DINH.code) for n in range(2)]
    async with house.answering(officers[0]) as first:
        assert first.status_code == 200
        refused = await house.client.get(URL, headers=house.headers(officers[1]))
        assert refused.status_code == 503
        async with house.answering(role) as kept:
            assert kept.status_code == 200


async def _are_live(house: House, count: int) -> bool:
    return house.broadcast.live == count


async def _tasks_at_most(count: int) -> bool:
    return len(asyncio.all_tasks()) <= count

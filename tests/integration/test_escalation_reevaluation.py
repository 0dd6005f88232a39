"""A change of the directory makes each incident that it concerns due, open or closed, now and when its day comes."""

import asyncio
from datetime import datetime, timedelta

import orjson
import pytest

from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.follow_clock import follow_clock
from services.escalation.application.import_directory import import_directory, import_wards
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.diff import Change
from services.escalation.domain.directory.model import key_of
from services.escalation.store import correlation, incident_loading
from services.escalation.store.reevaluation import schedule_reevaluation
from shared.events import UnitRef
from tests.integration.escalation_support import City, route_all, until
from tests.integration.stored.arranging import acted_for_by, due_times_are, due_times_become, incidents_stand_at
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Decision, DueTime, Report
from tests.support import BA_DINH, DONG_THO, NGOC_TRAO, NIGHT, at, received

HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,capacity,sample\n"
LATE = "14776,2021-02-01,chair,mau-moi,(mẫu),2023-01-20,,QĐ mẫu số 9,,true\n"
"""A chair of Ba Đình since the day before the night, entered late."""
DEPUTY = LATE.replace(",,true", ",deputy,true")
WARDS = "code,valid_from,name,type,valid_to,successors\n"
REFORM = "14758,2021-02-01,Đông Thọ,phường,2023-02-01,14758/2023-02-01\n14758,2023-02-01,Hàm Rồng,phường,,\n"


async def incident_of(city: City, unit: UnitRef, occurred: datetime = NIGHT, state: str | None = None) -> str:
    event = received(unit=unit, occurred_at=occurred)
    await route_reports(city.escalation, [event])
    incident = (await only(city, Report, report_id=event.data.report_id)).incident_id
    await due_times_are(city, "cancelled", kind="directory")
    if state is not None:
        await incidents_stand_at(city, state, only=incident)
    return incident


async def marked(city: City) -> list[tuple[str, datetime]]:
    """Incidents with the times at which they are to be evaluated again."""
    return sorted((d.incident_id, d.due_at) for d in await stored(city, DueTime, kind="directory", state="pending"))


async def due_now(city: City) -> list[str]:
    return [incident for incident, due_at in await marked(city) if due_at <= city.clock.now()]


async def imported(city: City, *lines: str) -> None:
    assert not (await import_directory(city.escalation, (HEAD + "".join(lines)).encode())).errors


async def test_a_late_entry_makes_the_open_incidents_of_the_ward_due_and_no_others(city: City) -> None:
    incident = await incident_of(city, BA_DINH)
    await incident_of(city, NGOC_TRAO)
    await imported(city, LATE)
    assert await due_now(city) == [incident]


@pytest.mark.parametrize("state", ["closed", "dismissed", "handed_off"])
async def test_an_incident_that_ended_is_due_if_another_answered_when_it_occurred(city: City, state: str) -> None:
    within = await incident_of(city, BA_DINH, at("2023-01-20 12:00"), state)
    await incident_of(city, BA_DINH, at("2023-01-19 12:00"), state)
    await incident_of(city, BA_DINH, at("2023-01-20 20:00"), "merged")
    await imported(city, LATE)
    assert await due_now(city) == [within]


async def test_the_same_row_again_makes_nothing_due(city: City) -> None:
    await imported(city, LATE)
    await incident_of(city, BA_DINH)
    await imported(city, LATE)
    assert await marked(city) == []


async def test_what_is_due_already_is_not_made_due_twice(city: City) -> None:
    incident = await incident_of(city, BA_DINH)
    await imported(city, LATE)
    await imported(city, LATE.replace("số 9", "số 10"))
    assert await due_now(city) == [incident]


async def test_a_change_of_hands_to_come_makes_open_incidents_due_on_that_day(city: City) -> None:
    incident = await incident_of(city, BA_DINH)
    await incident_of(city, BA_DINH, NIGHT - timedelta(hours=5), "closed")
    await imported(city, LATE.replace("2023-01-20", "2023-02-01"))
    assert await due_now(city) == [incident]
    later = [(i, when) for i, when in await marked(city) if when > city.clock.now()]
    assert later == [(incident, at("2023-02-01 00:00"))]


async def test_what_is_due_now_stays_due_now_when_the_clock_is_set_back(city: City) -> None:
    await follow_clock(city.escalation)
    incident = await incident_of(city, BA_DINH)
    await imported(city, LATE)
    city.clock.set(NIGHT - timedelta(hours=2))
    await follow_clock(city.escalation)
    assert await due_now(city) == [incident]


async def test_a_change_after_the_clock_was_set_back_is_due_by_that_clock(city: City) -> None:
    """It is recorded after the change before it, by a time that the clock does not show yet."""
    await imported(city, LATE.replace("14776", "14770"))
    city.clock.set(NIGHT - timedelta(hours=2))
    incident = await incident_of(city, BA_DINH, city.clock.now())
    await imported(city, LATE)
    assert await due_now(city) == [incident]


async def test_a_deputy_makes_open_incidents_due_when_they_come_and_when_they_go(city: City) -> None:
    incident = await incident_of(city, BA_DINH)
    await incident_of(city, BA_DINH, at("2023-01-20 12:00"), "closed")
    await imported(city, DEPUTY.replace("2023-01-20,,", "2023-01-24,2023-01-30,"))
    later = [(i, when) for i, when in await marked(city) if when > city.clock.now()]
    assert later == [(incident, at("2023-01-24 00:00")), (incident, at("2023-01-30 00:00"))]
    assert await due_now(city) == [incident]


async def test_contacts_and_turns_of_duty_make_nothing_due(city: City) -> None:
    await incident_of(city, BA_DINH)
    turns = "level,holder_id,holder_name,valid_from,valid_to,document\n"
    await import_directory(
        city.escalation, f"{turns}desk,mau-1,(mẫu),2023-01-21 18:00,2023-01-22 06:00,Lịch\n".encode()
    )
    await import_directory(city.escalation, b"holder_id,channel\nmau-14776-chu-tich,json://a\n")
    assert await marked(city) == []


async def test_a_ward_that_ends_makes_its_incidents_due_now_and_on_that_day(city: City) -> None:
    incident = await incident_of(city, DONG_THO)
    assert not (await import_wards(city.escalation, (WARDS + REFORM).encode())).errors
    assert await due_now(city) == [incident]
    assert (await marked(city))[1:] == [(incident, at("2023-02-01 00:00"))]


MERGED = (
    "14779,2021-02-01,Ngọc Trạo,phường,2023-02-01,14776/2021-02-01\n"
    "14776,2021-02-01,Ba Đình,phường,2023-03-01,14797/2023-03-01\n"
    "14797,2021-02-01,Đông Hải,phường,2023-03-01,14797/2023-03-01\n"
    "14797,2023-03-01,Hạc Thành,phường,,\n"
)
"""A ward goes into one that goes on, which ends a month later."""


async def test_a_ward_merged_into_one_that_goes_on_hands_its_incidents_over_and_that_one_to_what_follows(
    city: City,
) -> None:
    incident = await incident_of(city, NGOC_TRAO)
    assert not (await import_wards(city.escalation, (WARDS + MERGED).encode())).errors
    assert [when for _, when in (await marked(city))[1:]] == [at("2023-02-01 00:00"), at("2023-03-01 00:00")]
    city.clock.set(at("2023-02-01 00:00"))
    await fire_due_timers(city.escalation)
    record = orjson.loads((await newest_decision(city, incident)).record)
    assert [p["accountable"]["holder_id"] for p in record["parties"]] == ["mau-14779-bi-thu", "mau-14779-chu-tich"]
    assert [p["present"]["holder_id"] for p in record["parties"]] == ["mau-14776-bi-thu", "mau-14776-chu-tich"]
    city.clock.set(at("2023-03-01 00:00"))
    await fire_due_timers(city.escalation)
    record = orjson.loads((await newest_decision(city, incident)).record)
    assert [p.get("present") for p in record["parties"]] == [None, None], "nobody is recorded for Hạc Thành"
    assert record["successor"]["name"] == "Hạc Thành"


async def newest_decision(city: City, incident: str) -> Decision:
    return max(await stored(city, Decision, incident_id=incident), key=lambda d: d.number)


async def test_who_will_hold_a_post_of_the_successor_makes_incidents_of_the_ward_that_ends_due(city: City) -> None:
    incident = await incident_of(city, DONG_THO)
    assert not (await import_wards(city.escalation, (WARDS + REFORM).encode())).errors
    await due_times_are(city, "passed", kind="directory")
    await imported(city, LATE.replace("14776,2021-02-01", "14758,2023-02-01").replace("2023-01-20", "2023-02-01"))
    assert await due_now(city) == [incident]
    assert (await marked(city))[1:] == [(incident, at("2023-02-01 00:00"))]


async def test_an_incident_for_which_a_successor_acts_is_due_when_that_ones_people_change(city: City) -> None:
    incident = await incident_of(city, DONG_THO)
    successor = UnitRef(code="14758", valid_from=at("2023-02-01 00:00").date(), name="Hàm Rồng")
    await acted_for_by(city, successor)
    async with city.escalation.database.begin() as connection:
        assert await schedule_reevaluation(connection, [Change(key_of(successor))], city.clock.now()) == 1
    assert await due_now(city) == [incident]


async def test_a_report_that_is_being_routed_while_the_directory_changes_is_not_missed(city: City) -> None:
    event = received()
    async with city.another() as other:
        async with other.escalation.database.begin() as routing:
            await correlation.lock_units(
                routing, [BA_DINH.code]
            )  # as `route_reports` does before it looks at the directory
            change = asyncio.create_task(imported(city, LATE))
            await until(lambda: waits_for_a_ward(other), "the change waits for who routes reports of the ward")
            assert await route_reports(other.escalation, [event]), "left while the ward is locked"
        await asyncio.gather(change, route_all(other.escalation, [event]))
    decision = await only(city, Decision)
    assert await due_now(city) or b"mau-moi" in decision.record, "routed before and marked, or routed after"


async def waits_for_a_ward(city: City) -> bool:
    here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    return bool(await city.rows(f"SELECT 1 FROM pg_locks WHERE {here} AND locktype = 'advisory' AND NOT granted"))


async def test_a_due_time_that_passes_while_the_directory_changes_is_due_again(city: City) -> None:
    incident = await incident_of(city, BA_DINH)
    await imported(city, LATE)
    async with city.another() as other:
        async with other.escalation.database.begin() as passing:
            await incident_loading.locked(
                passing, [incident]
            )  # as `fire_due_timers` does, which saw the directory before
            await due_times_become(passing, "passed", kind="directory")
            change = asyncio.create_task(imported(city, LATE.replace("số 9", "số 10")))
            await asyncio.sleep(0.2)
            assert not change.done()
        await change
    assert await due_now(city) == [incident]

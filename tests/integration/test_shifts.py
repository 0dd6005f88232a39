"""Coming on duty: one message with what is open and waits, once a turn, and the same at GET /handover."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.escalation.application.begin_shifts import begin_shifts
from services.escalation.application.record_directory import record
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.schemas import RequestedChanges, RosterRow, Tables
from services.escalation.domain.notices.incident_number import number_of
from shared.clock import local
from shared.events import Harm, NoticeIssued
from shared.http.identity import Principal
from tests.integration.command_support import HERE, SECRETARY_HERE
from tests.integration.escalation_support import City, Template, WholeCity, whole_city_in
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery, Incident, Notice
from tests.support import BA_DINH, CHAIR, DONG_THO, NGOC_TRAO, NIGHT, received

EVENING = NIGHT - timedelta(hours=2)
HOUR = timedelta(hours=1)
HANDOVER = "/escalation/v1/handover"
WARD = {"unit_code": BA_DINH.code, "unit_valid_from": str(BA_DINH.valid_from)}


async def turn(
    city: City, level: str, holder: str, begins: datetime = NIGHT, hours: int = 8, channel: str | None = "", **more: Any
) -> None:
    """On the roster. `channel`: None for a person without one."""
    row = {
        "level": level,
        "holder_id": holder,
        "holder_name": "(mẫu)",
        "valid_from": local(begins).isoformat(),
        "valid_to": local(begins + hours * HOUR).isoformat(),
        "document": "Lịch mẫu",
        "sample": True,
    }
    row |= {"channel": f"outbox://{holder}" if channel == "" else channel} | (WARD if level == "ward" else {}) | more
    wanted = RequestedChanges(Tables(rosters=[(1, RosterRow.model_validate(row))]), 1)
    assert not (await record(city.escalation, wanted)).errors


async def told(city: City) -> list[Notice]:
    return list(await stored(city, Notice, purpose="shift"))


async def two_that_wait_for_the_desk(city: City) -> None:
    """Unverified, in two wards; a third is verified, and waits for its post-holders alone."""
    unverified = [received("FIRE", unit=unit, occurred_at=city.clock.now()) for unit in (BA_DINH, DONG_THO)]
    await route_reports(
        city.escalation,
        [*unverified, received(unit=NGOC_TRAO, kind="officer", harm=Harm(deaths=1), occurred_at=city.clock.now())],
    )


@pytest.fixture
async def evening(city: City) -> City:
    city.clock.set(EVENING)
    return city


async def test_whoever_comes_on_duty_at_the_desk_is_told_once_in_one_message(evening: City) -> None:
    await turn(evening, "desk", "mau-truc")
    await two_that_wait_for_the_desk(evening)
    assert await begin_shifts(evening.escalation) == 0, "their turn has not begun"
    evening.clock.set(NIGHT + timedelta(seconds=1))
    assert [await begin_shifts(evening.escalation) for _ in range(3)] == [1, 0, 0]
    (notice,) = await told(evening)
    assert (notice.recipient, notice.incident_id) == ("mau-truc", None)
    assert notice.title == "Giao ca trực: 2 vụ việc đang chờ trực ban thành phố"
    vi, *lines, en = notice.body.splitlines()
    assert "Lúc 23:50 21/01/2023 có 3 vụ việc đang mở, 2 vụ việc chờ trực ban thành phố" in vi
    assert en.startswith("Your shift begins: 3 open, 2 for the city duty desk")
    assert len(lines) == 2
    assert all("xác minh, hạn " in line for line in lines)
    waiting = {number_of(i.incident_id) for i in await stored(evening, Incident)}
    assert len({line.rpartition(", số ")[2] for line in lines} & waiting) == 2
    assert {"phường Ba Đình" in line for line in lines} == {True, False}
    (delivery,) = await stored(evening, Delivery, purpose="shift")
    assert (delivery.channel, delivery.next_at) == ("outbox://mau-truc", notice.issued_at)
    issued = [e for e in await evening.events() if isinstance(e, NoticeIssued) and e.data.purpose == "shift"]
    assert [(e.data.recipient, e.data.incident, e.data.officials) for e in issued] == [
        ("mau-truc", None, ("mau-truc",))
    ]


async def test_nothing_is_sent_when_nothing_waits_and_nothing_later_in_the_turn(evening: City) -> None:
    await turn(evening, "desk", "mau-truc")
    evening.clock.set(NIGHT)
    assert await begin_shifts(evening.escalation) == 0
    await two_that_wait_for_the_desk(evening)
    evening.clock.set(NIGHT + HOUR)
    assert await begin_shifts(evening.escalation) == 0
    assert await told(evening) == []


async def test_replicas_and_restarts_tell_once(evening: City) -> None:
    await two_that_wait_for_the_desk(evening)
    await turn(evening, "desk", "mau-truc")
    await turn(evening, "desk", "mau-truc-2")
    evening.clock.set(NIGHT + timedelta(seconds=1))
    async with evening.another() as replica:
        done = await asyncio.gather(*(begin_shifts(c.escalation) for c in (evening, replica)))
    async with evening.another() as restarted:
        assert await begin_shifts(restarted.escalation) == 0
    assert sum(done) == 2
    assert sorted(n.recipient for n in await told(evening)) == ["mau-truc", "mau-truc-2"]


async def test_who_is_put_on_the_roster_during_their_turn_is_told_then_and_not_after_its_end(evening: City) -> None:
    await two_that_wait_for_the_desk(evening)
    assert await begin_shifts(evening.escalation) == 0
    await turn(evening, "desk", "mau-vua-vao", EVENING - HOUR)
    await turn(evening, "desk", "mau-da-xong", EVENING - 9 * HOUR, 8)
    assert await begin_shifts(evening.escalation) == 1
    assert [n.recipient for n in await told(evening)] == ["mau-vua-vao"]


async def test_a_turn_whose_end_is_corrected_does_not_begin_again(evening: City) -> None:
    await two_that_wait_for_the_desk(evening)
    await turn(evening, "desk", "mau-truc", EVENING)
    assert await begin_shifts(evening.escalation) == 1
    await turn(evening, "desk", "mau-truc", EVENING, 12)
    assert await begin_shifts(evening.escalation) == 0


async def test_in_a_ward_they_are_told_what_waits_for_its_people_there(evening: City) -> None:
    await route_reports(
        evening.escalation,
        [
            received(kind="officer", harm=Harm(deaths=1), occurred_at=EVENING),
            received("FIRE", occurred_at=EVENING),
            received(unit=NGOC_TRAO, kind="officer", occurred_at=EVENING),
        ],
    )
    await turn(evening, "ward", "mau-truc-phuong", EVENING)
    assert await begin_shifts(evening.escalation) == 1
    (notice,) = await told(evening)
    assert notice.title == "Giao ca trực: 1 vụ việc đang chờ phường Ba Đình"
    assert "có 2 vụ việc đang mở, 1 vụ việc chờ phường Ba Đình" in notice.body
    assert "mức độ 2: xác nhận, hạn 22:05" in notice.body
    assert "Ngọc Trạo" not in notice.body


async def test_the_leadership_is_told_what_was_put_to_it(evening: City) -> None:
    await two_that_wait_for_the_desk(evening)
    await turn(evening, "leadership", "mau-lanh-dao-truc")
    evening.clock.set(NIGHT + timedelta(seconds=1))
    assert await begin_shifts(evening.escalation) == 0, "nothing has climbed to it"


async def test_an_exercise_is_no_part_of_it(evening: City) -> None:
    await route_reports(evening.escalation, [received("FIRE", exercise=True, occurred_at=EVENING)])
    await turn(evening, "desk", "mau-truc", EVENING)
    assert await begin_shifts(evening.escalation) == 0


async def test_without_a_channel_it_goes_to_the_office(evening: City) -> None:
    await two_that_wait_for_the_desk(evening)
    await turn(evening, "desk", "mau-truc", EVENING, channel=None)
    await begin_shifts(evening.escalation)
    (delivery,) = await stored(evening, Delivery, purpose="shift")
    assert delivery.channel == evening.escalation.channels.desk


async def test_forty_incidents_are_one_message_of_bounded_length_that_counts_the_rest(evening: City) -> None:
    await turn(evening, "desk", "mau-truc", EVENING)
    reports = [received("FIRE", occurred_at=EVENING - n * HOUR, received_at=EVENING) for n in range(40)]
    await route_reports(evening.escalation, reports)
    await begin_shifts(evening.escalation)
    (notice,) = await told(evening)
    assert len(notice.body) <= 700
    listed = [line for line in notice.body.splitlines() if "hạn" in line and line[0].isdigit()]
    assert f"… và {40 - len(listed)} vụ việc khác." in notice.body


# --- as a service ---


@pytest.fixture
async def house_at_night(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template, EVENING) as made:
        yield made


async def test_the_service_tells_them_and_the_handover_says_the_same(house_at_night: WholeCity) -> None:
    city = house_at_night
    await two_that_wait_for_the_desk(city)
    await turn(city, "desk", "mau-truc")
    await turn(city, "ward", "mau-truc-phuong")
    city.clock.set(NIGHT - timedelta(seconds=30))
    await city.settle()
    city.clock.set(NIGHT + timedelta(seconds=1))
    await city.settle()
    sent = {line["recipient"]: line for line in city.sent if line["purpose"] == "shift"}
    assert set(sent) == {"mau-truc"}, "in Ba Đình nobody of the ward is waited for"
    desk = (await city.get(HANDOVER, "desk")).json()
    assert f"Giao ca trực: {desk['waiting']} vụ việc" in sent["mau-truc"]["title"]
    assert f"có {desk['open']} vụ việc đang mở" in sent["mau-truc"]["body"]
    listed = sent["mau-truc"]["body"].splitlines()[1:-1]
    for line, item in zip(listed, desk["items"], strict=True):
        assert f"{item['ward']['kind']} {item['ward']['name']}" in line
    ready = (await city.client.get("/escalation/readyz")).json()
    assert {"name": "shifts", "ok": True} in [{k: c[k] for k in ("name", "ok")} for c in ready["checks"]]


async def test_on_duty_in_a_ward_an_officer_sees_what_waits_for_its_people_and_no_other(
    house_at_night: WholeCity,
) -> None:
    city = house_at_night
    await route_reports(city.escalation, [received(kind="officer", harm=Harm(deaths=1), occurred_at=EVENING)])
    await turn(city, "ward", "mau-truc-phuong", EVENING)
    on_duty = Principal("mau-truc-phuong", "officer", BA_DINH.code)
    (item,) = (await city.get(HANDOVER, on_duty)).json()["items"]
    assert {o["who"] for o in item["waits_for"]} == {HERE.subject, SECRETARY_HERE.subject}
    for other in (
        Principal("cb-khac", "officer", BA_DINH.code),
        Principal("mau-truc-phuong", "officer", DONG_THO.code),
    ):
        assert (await city.get(HANDOVER, other)).json()["items"] == []
    chair = (await city.get(HANDOVER, Principal(HERE.subject, "official", BA_DINH.code, CHAIR))).json()
    assert (chair["open"], chair["waiting"]) == (1, 1)

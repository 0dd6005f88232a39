"""Both post-holders say that they have seen it, each for their own post, once."""

import asyncio
from datetime import timedelta

import pytest

from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.events import AcknowledgementRecorded, UnitRef
from shared.http.identity import Principal, Role
from shared.http.problem import Problem
from tests.integration.escalation_support import City
from tests.integration.stored.looking import notices_as_stored, only, stored
from tests.integration.stored.records import Delivery, DueTime, Incident, Notice
from tests.support import CHAIR, NIGHT, SECRETARY, SINCE, at, received

LAM_SON = UnitRef(code="14773", valid_from=SINCE, name="Lam Sơn")
"""Its chair changes on 25 January 2023."""
THIEU_KHANH = UnitRef(code="15856", valid_from=SINCE, name="Thiệu Khánh")
"""One person holds both posts."""
MINUTE = timedelta(minutes=1)
BA_DINH_SECRETARY = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
BA_DINH_CHAIR = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)


async def reported(city: City) -> str:
    await route_reports(city.escalation, [received(kind="officer")])
    return await city.incident()


async def refused(city: City, incident: str, caller: Principal) -> int:
    with pytest.raises(Problem) as raised:
        await acknowledge(city.escalation, incident, caller)
    return raised.value.status


async def test_the_incident_is_acknowledged_once_both_have_said_so(city: City) -> None:
    incident = await reported(city)
    first = await acknowledge(city.escalation, incident, BA_DINH_SECRETARY)
    assert (first.is_new, first.state) == (True, "notified")
    second = await acknowledge(city.escalation, incident, BA_DINH_CHAIR)
    assert (second.is_new, second.state) == (True, "acknowledged")
    assert (await only(city, Incident)).state == "acknowledged"


async def test_saying_it_again_changes_nothing(city: City) -> None:
    incident = await reported(city)
    await acknowledge(city.escalation, incident, BA_DINH_CHAIR)
    before = await notices_as_stored(city)
    events = await city.events()
    again = await acknowledge(city.escalation, incident, BA_DINH_CHAIR)
    assert (again.is_new, again.state) == (False, "notified")
    assert await notices_as_stored(city) == before
    assert await city.events() == events


async def test_one_person_in_both_posts_says_it_once(city: City) -> None:
    await route_reports(city.escalation, [received(unit=THIEU_KHANH)])
    assert await city.told() == ["mau-15856-bi-thu:accountable"]
    both = Principal("mau-15856-bi-thu", "official", "15856", CHAIR)
    done = await acknowledge(city.escalation, await city.incident(), both)
    assert done.state == "acknowledged"


async def test_acknowledging_ends_the_deadline_and_what_is_still_to_be_sent(city: City) -> None:
    incident = await reported(city)
    await acknowledge(city.escalation, incident, BA_DINH_CHAIR)
    deliveries = sorted((d.recipient, d.state) for d in await stored(city, Delivery))
    assert deliveries == [("mau-14776-bi-thu", "queued"), ("mau-14776-chu-tich", "cancelled")]
    theirs = sorted((d.recipient, d.kind, d.state) for d in await stored(city, DueTime) if d.recipient)
    assert theirs == [
        ("mau-14776-bi-thu", "acknowledge", "pending"),
        ("mau-14776-bi-thu", "remind", "pending"),
        ("mau-14776-chu-tich", "acknowledge", "cancelled"),
        ("mau-14776-chu-tich", "remind", "cancelled"),
    ]
    await acknowledge(city.escalation, incident, BA_DINH_SECRETARY)
    city.clock.set(NIGHT + 60 * MINUTE)
    assert await fire_due_timers(city.escalation) == 0
    assert "desk:not_acknowledged" not in await city.told()


@pytest.mark.parametrize(("minutes", "in_time"), [(14, True), (16, False)])
async def test_the_record_says_whether_it_was_in_time(city: City, minutes: int, in_time: bool) -> None:
    incident = await reported(city)
    city.clock.set(NIGHT + minutes * MINUTE)
    await acknowledge(city.escalation, incident, BA_DINH_CHAIR)
    (recorded,) = (e for e in await city.events(incident) if isinstance(e, AcknowledgementRecorded))
    assert recorded.data.in_time is in_time
    assert (recorded.data.holder, recorded.data.posts) == ("mau-14776-chu-tich", (CHAIR,))


# --- who may ---


async def test_who_left_the_post_and_was_not_told_may_not_acknowledge_and_the_successor_may(city: City) -> None:
    city.clock.set(at("2023-01-26 09:00"))
    late = received(unit=LAM_SON, occurred_at=at("2023-01-24 20:00"), received_at=at("2023-01-26 09:00"))
    await route_reports(city.escalation, [late])
    assert await city.told() == ["mau-14773-bi-thu:accountable", "mau-14773-chu-tich-2:accountable"]
    incident = await city.incident()
    assert await refused(city, incident, Principal("mau-14773-chu-tich", "official", "14773", CHAIR)) == 403
    successor = Principal("mau-14773-chu-tich-2", "official", "14773", CHAIR)
    assert (await acknowledge(city.escalation, incident, successor)).is_new


async def test_who_left_the_post_does_not_silence_what_the_successor_was_told(city: City) -> None:
    then = at("2023-01-24 20:00")
    city.clock.set(then)
    await route_reports(city.escalation, [received(unit=LAM_SON, occurred_at=then)])
    city.clock.set(at("2023-01-26 09:00"))
    await route_reports(city.escalation, [received(unit=LAM_SON, occurred_at=then, received_at=at("2023-01-26 09:00"))])
    incident = await city.incident()
    predecessor = Principal("mau-14773-chu-tich", "official", "14773", CHAIR)
    await acknowledge(city.escalation, incident, predecessor)
    open_still = await stored(city, Notice, acknowledged_at=None)
    assert sorted(n.recipient for n in open_still) == ["desk", "mau-14773-bi-thu", "mau-14773-chu-tich-2"]


async def test_who_took_the_post_over_since_may_acknowledge_what_the_predecessor_was_told(city: City) -> None:
    city.clock.set(at("2023-01-24 20:00"))
    await route_reports(city.escalation, [received(unit=LAM_SON, occurred_at=at("2023-01-24 20:00"))])
    assert "mau-14773-chu-tich:accountable" in await city.told()
    city.clock.set(at("2023-01-25 08:00"))
    successor = Principal("mau-14773-chu-tich-2", "official", "14773", CHAIR)
    assert (await acknowledge(city.escalation, await city.incident(), successor)).is_new
    assert (await only(city, Notice, posts=[CHAIR])).acknowledged_by == "mau-14773-chu-tich-2"


@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (Principal("mau-14779-chu-tich", "official", "14779", CHAIR), 403),
        (Principal("mau-14776-chu-tich", "official", "14776", "deputy"), 404),
        (Principal("mau-14776-chu-tich", "official", "14776", SECRETARY), 403),
        (Principal("mau-ai-do", "official", "14776", CHAIR), 403),
    ],
    ids=str,
)
async def test_nobody_acknowledges_for_another_ward_post_or_person(city: City, caller: Principal, status: int) -> None:
    incident = await reported(city)
    assert await refused(city, incident, caller) == status
    assert {n.acknowledged_at for n in await stored(city, Notice)} == {None}


@pytest.mark.parametrize("ward", ["14776", "14779", None])
@pytest.mark.parametrize("post", [CHAIR, None])
async def test_the_directory_says_where_an_official_answers_and_not_the_token(
    city: City, ward: str | None, post: str | None
) -> None:
    incident = await reported(city)
    done = await acknowledge(city.escalation, incident, Principal(BA_DINH_CHAIR.subject, "official", ward, post))
    assert done.is_new


async def test_an_incident_that_does_not_exist_is_told_to_whoever_may_see_all(city: City) -> None:
    assert await refused(city, "khong-co", BA_DINH_CHAIR) == 403, "as is one of another ward"
    assert await refused(city, "khong-co", Principal("mau-truc-ban", "desk")) == 404


# --- at once ---


async def test_both_at_once_come_to_the_same_end(city: City) -> None:
    incident = await reported(city)
    async with city.another() as other:
        done = await asyncio.gather(
            acknowledge(city.escalation, incident, BA_DINH_SECRETARY),
            acknowledge(other.escalation, incident, BA_DINH_CHAIR),
        )
    assert all(d.is_new for d in done)
    assert sorted(d.state for d in done) == ["acknowledged", "notified"]
    assert (await only(city, Incident)).state == "acknowledged"
    sequences = [e.data.sequence for e in await city.events(incident)]
    assert sequences == list(range(1, len(sequences) + 1)), "events of one incident are numbered without a gap"


async def test_one_holder_saying_it_ten_times_at_once_says_it_once(city: City) -> None:
    incident = await reported(city)
    done = await asyncio.gather(*(acknowledge(city.escalation, incident, BA_DINH_CHAIR) for _ in range(10)))
    assert sorted(d.is_new for d in done) == [False] * 9 + [True]
    assert len([e for e in await city.events(incident) if isinstance(e, AcknowledgementRecorded)]) == 1


async def test_a_new_report_with_new_notices_opens_the_incident_again(city: City) -> None:
    city.clock.set(at("2023-01-24 23:50"))
    await route_reports(city.escalation, [received(unit=LAM_SON, occurred_at=at("2023-01-24 23:50"))])
    incident = await city.incident()
    for post, holder in ((SECRETARY, "mau-14773-bi-thu"), (CHAIR, "mau-14773-chu-tich")):
        await acknowledge(city.escalation, incident, Principal(holder, "official", "14773", post))
    assert (await only(city, Incident)).state == "acknowledged"
    city.clock.set(at("2023-01-25 00:05"))
    await route_reports(city.escalation, [received(unit=LAM_SON, occurred_at=at("2023-01-25 00:05"))])
    assert "mau-14773-chu-tich-2:accountable" in await city.told(incident)
    assert (await only(city, Incident)).state == "notified"


@pytest.mark.parametrize("role", ["desk", "leader"])
async def test_whoever_the_decision_names_ends_no_climb_from_an_office(city: City, role: Role) -> None:
    incident = await reported(city)
    for minutes in (16, 32):
        city.clock.set(NIGHT + timedelta(minutes=minutes))
        await fire_due_timers(city.escalation)
    assert {"desk:not_acknowledged", "leadership:not_acknowledged"} <= set(await city.told())
    assert await refused(city, incident, Principal("mau-14776-chu-tich", role)) == 403
    assert (await acknowledge(city.escalation, incident, Principal("mau-khac", role))).is_new

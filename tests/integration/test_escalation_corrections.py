"""The desk corrects time, ward, place, or that it was an exercise: who was told in error hears so, others are asked."""

import asyncio
from datetime import date, timedelta
from typing import Any

import orjson
import pytest
from httpx import Response

from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.claim_deliveries import UnderWay, claim_deliveries
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.incidents.correlation import Point
from services.escalation.domain.notices.pacing import Limits, Rate
from shared.events import DecisionMade, Harm, IncidentCorrected
from shared.http.identity import Principal, Role
from tests.integration.command_support import (
    ASKED,
    ELSEWHERE,
    HERE,
    HOUR,
    MINUTE,
    NO_LONGER,
    PARTS,
    SECRETARY_HERE,
    WHY,
    accountable,
    acknowledged,
    answered,
    close,
    correct,
    designate,
    dismiss,
    in_order,
    latest,
    merge,
    new_chair_at,
    of,
    pending,
    propose,
    refused,
    reopen,
    reported,
    state,
    two_fires,
    verified,
    verify,
    written,
)
from tests.integration.directory_changes import appoint, end_unit, leave, on_duty, reachable
from tests.integration.escalation_support import City, WholeCity
from tests.integration.stored.arranging import deliveries_are
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Delivery, Incident, Link, Notice
from tests.support import BA_DINH, NGOC_TRAO, NIGHT, SINCE, received

NGOC_TRAO_KEY = (NGOC_TRAO.code, NGOC_TRAO.valid_from)
BA_DINH_KEY = (BA_DINH.code, BA_DINH.valid_from)
ASKED_THERE = ["mau-14779-bi-thu:accountable", "mau-14779-chu-tich:accountable"]
ON_DUTY = "mau-truc-phuong"


# --- when ---


async def test_another_time_names_who_held_the_post_then_and_asks_everybody_anew(city: City) -> None:
    await new_chair_at(city, NIGHT - 10 * MINUTE)
    incident = await reported(city)
    assert (await accountable(city, incident))["chair"] == "mau-chu-tich-moi"
    told = await city.told()
    city.clock.set(NIGHT + 2 * MINUTE)
    done = await correct(city, incident, occurred_at=NIGHT - 20 * MINUTE)
    record = await latest(city, incident)
    assert (await accountable(city, incident))["chair"] == HERE.subject
    assert record["time_of_occurrence"] == "2023-01-21T16:30:00Z"
    assert await city.told() == told * 2, "who answers now is asked about the right time"
    assert (await only(city, Incident)).occurred_at == NIGHT - 20 * MINUTE
    first, second = await of(city, DecisionMade)
    assert (second.previous, second.decision_id) == (first.decision_id, done.case.decision_id)
    (event,) = await of(city, IncidentCorrected)
    assert (event.occurred_at, event.to.occurred_at) == (NIGHT, NIGHT - 20 * MINUTE)
    titles = [n.title for n in await stored(city, Notice)]
    assert ["đính chính" in title for title in titles] == [False, False, True, True]
    assert await pending(city, incident) == ["acknowledge", "acknowledge", "lapse", "remind", "remind", "review"]
    await in_order(city)


async def test_who_had_acknowledged_the_wrong_time_is_asked_about_the_right_one(city: City) -> None:
    incident = await acknowledged(city)
    await correct(city, incident)
    assert await state(city, incident) == "notified"
    problem = await refused(close(city, incident))
    assert problem.status == 409
    await answered(city, incident)
    assert await state(city, incident) == "acknowledged"
    await in_order(city)


async def test_a_proposal_to_close_was_made_about_what_is_corrected(city: City) -> None:
    incident = await verified(city)
    await propose(city, incident)
    await correct(city, incident)
    assert await state(city, incident) == "notified"
    assert "closure" not in await pending(city, incident)
    await in_order(city)


async def test_a_time_before_the_rule_leaves_it_open_and_says_so_to_those_told(city: City) -> None:
    incident = await verified(city)
    await correct(city, incident, occurred_at=NIGHT - timedelta(days=30))
    record = await latest(city, incident)
    assert (record["outcome"], record.get("rulebook")) == ("undetermined", None)
    assert await city.told() == [*ASKED, "desk:review", *NO_LONGER]
    assert await pending(city, incident) == ["review"]
    await in_order(city)


async def test_a_time_before_anybody_was_recorded_shows_vacant_posts_to_the_desk(city: City) -> None:
    for holder in (HERE, SECRETARY_HERE):
        await leave(city, holder.subject, NIGHT - 3 * HOUR, post=str(holder.post))
        await appoint(city, f"{holder.subject}-moi", NIGHT - HOUR, post=str(holder.post))
    incident = await reported(city)
    assert "desk:vacancy" not in await city.told()
    await correct(city, incident, occurred_at=NIGHT - 2 * HOUR)
    assert await accountable(city, incident) == {"party_secretary": None, "chair": None}
    assert "desk:vacancy" in await city.told()
    await in_order(city)


@pytest.mark.parametrize(
    ("holds", "pointer", "says"),
    [
        ({"occurred_at": NIGHT + MINUTE}, "#/occurred_at", "later than the first report"),
        ({"occurred_at": NIGHT + timedelta(days=300)}, "#/occurred_at", "later than the first report"),
        ({"occurred_at": NIGHT - timedelta(days=365 * 5)}, "#/occurred_at", "did not exist"),
        ({"unit": ("14776", date(2019, 1, 1))}, "#/unit", "there is no unit"),
    ],
    ids=["in the future", "next year", "before the ward was", "a ward that is not"],
)
async def test_what_cannot_be_is_refused_and_leaves_no_trace(
    city: City, holds: dict[str, Any], pointer: str, says: str
) -> None:
    incident = await reported(city)
    kept = await written(city)
    problem = await refused(correct(city, incident, **holds))
    assert (problem.status, [e["pointer"] for e in problem.errors]) == (422, [pointer])
    assert says in problem.detail
    assert await written(city) == kept


async def test_a_ward_that_had_ended_then_is_refused_with_what_followed_it(city: City) -> None:
    incident = await reported(city, received(unit=NGOC_TRAO))
    await end_unit(city, PARTS)
    await reachable(city, "mau-14779-chu-tich")
    later = received(unit=NGOC_TRAO, occurred_at=NIGHT + 24 * HOUR)
    city.clock.set(NIGHT + 24 * HOUR)
    there = await reported(city, later)
    problem = await refused(correct(city, there, unit=BA_DINH_KEY))
    assert (problem.status, [e["pointer"] for e in problem.errors]) == (422, ["#/unit"])
    assert all(part.name in problem.detail for part in PARTS)
    await correct(city, incident, unit=BA_DINH_KEY)
    assert "desk:unit_split" in await city.told(incident), "it was there at that time, and was divided since"


# --- where ---


async def test_the_wrong_ward_is_told_so_and_the_right_one_is_asked(city: City) -> None:
    await on_duty(city, ON_DUTY, "ward", unit=BA_DINH)
    incident = await reported(city)
    assert await city.told() == [*ASKED, f"{ON_DUTY}:duty"]
    await deliveries_are(city, "sent")
    await correct(city, incident, unit=NGOC_TRAO_KEY)
    new = (await city.told())[3:]
    assert sorted(new) == sorted([*NO_LONGER, f"{ON_DUTY}:stand_down", *ASKED_THERE])
    stand_downs = [n for n in await stored(city, Notice) if n.purpose == "stand_down"]
    assert all("phường Ba Đình" in n.body and "Không xảy ra tại đây" in n.body for n in stand_downs)
    asked = [n for n in await stored(city, Notice) if n.recipient == ELSEWHERE.subject]
    assert all("phường Ngọc Trạo" in n.body for n in asked)
    assert await only(city, Incident, unit_code=NGOC_TRAO.code)
    assert await accountable(city, incident) == {"party_secretary": "mau-14779-bi-thu", "chair": "mau-14779-chu-tich"}
    await acknowledge(city.escalation, incident, ELSEWHERE)
    problem = await refused(acknowledge(city.escalation, incident, HERE))
    assert problem.status == 403
    await in_order(city)


async def test_where_several_notices_share_a_message_each_is_of_the_ward_that_it_was_about(city: City) -> None:
    incident = await reported(city)
    await deliveries_are(city, "sent")
    await correct(city, incident, unit=NGOC_TRAO_KEY, occurred_at=NIGHT - 5 * MINUTE)
    often = Rate(50, timedelta(seconds=1))
    claimed = await claim_deliveries(city.escalation, Limits(often, often, messages=50, per_host=50), UnderWay())
    listed = [due.listed for message in claimed.messages for due in message.deliveries]
    places = sorted({(line.purpose, line.place, line.occurred_at) for line in listed if line})
    assert places == [
        ("accountable", "phường Ngọc Trạo", NIGHT - 5 * MINUTE),
        ("stand_down", "phường Ba Đình", NIGHT),
    ]


async def test_the_wrong_ward_hears_no_more_of_it_whatever_follows(city: City) -> None:
    await on_duty(city, ON_DUTY, "ward", unit=BA_DINH)
    incident = await reported(city)
    await deliveries_are(city, "sent")
    await correct(city, incident, unit=NGOC_TRAO_KEY)
    known = len(await city.told())
    city.clock.set(NIGHT + 3 * HOUR)
    await fire_due_timers(city.escalation)
    await route_reports(city.escalation, [received("FIRE", unit=NGOC_TRAO, harm=Harm(deaths=3))])
    await verify(city, incident)
    await dismiss(city, incident)
    assert not [t for t in (await city.told())[known:] if "14776" in t or ON_DUTY in t]


async def test_a_ward_to_which_it_is_given_back_is_asked_again(city: City) -> None:
    incident = await reported(city)
    await correct(city, incident, unit=NGOC_TRAO_KEY)
    await correct(city, incident, unit=BA_DINH_KEY)
    assert sorted((await city.told())[-4:]) == sorted(
        [*ASKED, *(t.replace("accountable", "stand_down") for t in ASKED_THERE)]
    )
    city.clock.set(NIGHT + 5 * MINUTE)
    await answered(city, incident)
    assert await state(city, incident) == "acknowledged"
    await in_order(city)


async def test_reports_of_the_wrong_ward_open_another_incident_and_those_of_the_right_one_join(city: City) -> None:
    incident = await reported(city)
    await correct(city, incident, unit=NGOC_TRAO_KEY)
    there, here = received(unit=NGOC_TRAO, subject="cam-bien-2"), received(subject="cam-bien-3")
    assert await reported(city, there) == incident
    assert await reported(city, here) != incident


async def test_an_incident_that_others_were_merged_into_takes_no_reports_of_the_ward_that_it_left(city: City) -> None:
    other = await two_fires(city)
    await merge(city, other)
    (target,) = await stored(city, Incident, state="received")
    await correct(city, target.incident_id, unit=NGOC_TRAO_KEY)
    assert await reported(city, received("FIRE", subject="cam-bien-2")) not in {other, target.incident_id}
    await in_order(city)


async def test_the_desk_sees_what_the_right_ward_had_reported_itself(city: City) -> None:
    theirs = await reported(city, received(unit=NGOC_TRAO))
    incident = await reported(city)
    assert not await stored(city, Link)
    await correct(city, incident, unit=NGOC_TRAO_KEY)
    (link,) = await stored(city, Link)
    assert (link.incident_id, link.other_id) == (incident, theirs)
    await merge(city, theirs)
    assert await state(city, theirs) == "merged"


async def test_a_point_is_corrected_without_telling_anybody(city: City) -> None:
    incident = await reported(city, received(point=(19.80, 105.77)))
    told = await city.told()
    await correct(city, incident, point=Point(19.81, 105.78))
    found = await only(city, Incident)
    assert ((found.latitude, found.longitude), found.round) == ((19.81, 105.78), 1)
    assert (await city.told(), len(await of(city, DecisionMade))) == (told, 1)
    near, far = received(subject="b", point=(19.81, 105.78)), received(subject="c", point=(19.80, 105.77))
    assert await reported(city, near) == incident
    assert await reported(city, far) != incident


# --- again, at once, and by whom ---


async def test_what_is_so_already_is_refused(city: City) -> None:
    incident = await reported(city)
    so: tuple[dict[str, Any], ...] = ({"occurred_at": NIGHT}, {"unit": BA_DINH_KEY}, {"exercise": False})
    for holds in so:
        problem = await refused(correct(city, incident, **holds))
        assert (problem.status, "already" in problem.detail) == (409, True)


async def test_what_has_ended_is_reopened_first(city: City) -> None:
    for end in (dismiss, merge):
        await city.emptied()
        incident = await two_fires(city)
        await end(city, incident)
        kept = await written(city)
        problem = await refused(correct(city, incident))
        assert (problem.status, "the incident is" in problem.detail) == (409, True)
        assert await written(city) == kept
    await city.emptied()
    incident = await reported(city)
    await dismiss(city, incident)
    await reopen(city, incident)
    assert (await correct(city, incident)).is_new


async def test_two_wards_named_at_once_leave_it_in_one_of_them(city: City) -> None:
    incident = await reported(city)
    units = [NGOC_TRAO_KEY, ("14758", SINCE)]
    done = await asyncio.gather(*(correct(city, incident, unit=unit) for unit in units))
    assert [d.is_new for d in done] == [True, True]
    found = await only(city, Incident)
    record = await latest(city, incident)
    assert record["unit"]["code"] == found.unit_code
    assert len(await of(city, DecisionMade)) == 3
    await in_order(city)


async def test_nobody_gives_an_incident_a_decision_that_names_them(city: City) -> None:
    """A chair of another ward who is also on the duty desk."""
    incident = await reported(city)
    kept = await written(city)
    for by in (Principal(HERE.subject, "desk"), Principal(ELSEWHERE.subject, "desk")):
        problem = await refused(correct(city, incident, by, unit=NGOC_TRAO_KEY))
        assert (problem.status, "somebody else at the desk" in problem.detail) == (403, True)
    assert await written(city) == kept


async def test_what_may_wait_for_the_morning_waits_with_the_corrected_words(city: City) -> None:
    for holder in (HERE, SECRETARY_HERE):
        await reachable(city, holder.subject, ("22:00", "06:00"))
    slight = Harm(deaths=0, injured=0, property_vnd=0)
    incident = await reported(city, received("FIRE", kind="officer", harm=slight))
    await designate(city, incident)
    waiting = [d for d in await stored(city, Delivery) if d.state == "queued"]
    assert {d.next_at for d in waiting} == {NIGHT + 6 * HOUR + 10 * MINUTE}
    await correct(city, incident, occurred_at=NIGHT - 5 * MINUTE)
    queued = [d for d in await stored(city, Delivery) if d.state == "queued"]
    assert not {d.notice_id for d in queued} & {d.notice_id for d in waiting}, "the wrong time is not told any more"
    bodies = {n.notice_id: n.body for n in await stored(city, Notice)}
    assert queued
    assert all("23:45 21/01/2023" in bodies[d.notice_id] for d in queued)


# --- over HTTP ---


async def posted(house: WholeCity, incident: str, body: dict[str, Any], by: Principal | Role = "desk") -> Response:
    return await house.post(f"/escalation/v1/incidents/{incident}/corrections", by, json={"reason": WHY} | body)


async def test_the_answer_and_the_incident_show_the_correction(house: WholeCity) -> None:
    incident = await reported(house, received(occurred_at=NIGHT))
    body: dict[str, Any] = {
        "occurred_at": "2023-01-21T23:45:00+07:00",
        "unit": {"code": NGOC_TRAO.code, "valid_from": str(SINCE)},
        "location": {"latitude": 19.8, "longitude": 105.7},
    }
    answers = [await posted(house, incident, body) for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 200]
    path = f"/escalation/v1/incidents/{incident}"
    shown = (await house.get(path, "desk")).json()
    assert (shown["occurred_at"], shown["ward"]["name"]) == ("2023-01-21T16:45:00Z", "Ngọc Trạo")
    (found,) = shown["findings"]
    assert (found["kind"], found["reason"], found["content"]["round"]) == ("correction", WHY, 2)
    assert found["content"]["location"] == body["location"]
    (event,) = (t for t in shown["timeline"] if t["type"].endswith("incident.corrected.v1"))
    assert event["data"]["to"]["unit"]["code"] == NGOC_TRAO.code
    assert "105.7" not in orjson.dumps(event).decode()
    leader = (await house.get(path, "leader")).json()
    assert "location" not in leader["findings"][0]["content"]
    assert (await house.get(path, HERE)).status_code == 200, "they were told of it, and may see what became of it"
    assert (await house.get(path, ELSEWHERE)).status_code == 200


async def test_the_ledger_has_who_corrected_what_and_proves_it(house: WholeCity) -> None:
    incident = await reported(house)
    assert (await posted(house, incident, {"exercise": True})).status_code == 201
    await house.settle()
    answer = await house.get(f"/ledger/v1/entries?incident={incident}", "auditor")
    kinds = [item["body"]["kind"].removeprefix("vn.trucban.") for item in answer.json()["items"]]
    assert "incident.corrected.v1" in kinds
    (entry,) = (i["body"] for i in answer.json()["items"] if i["body"]["kind"].endswith("incident.corrected.v1"))
    assert entry["data"]["to"] == {"exercise": True}
    assert WHY not in orjson.dumps(entry).decode()


@pytest.mark.parametrize("how", ["corrected", "dismissed"])
async def test_who_has_left_the_post_since_the_last_decision_is_told_nothing_more(city: City, how: str) -> None:
    """The change is recorded, and the incident not yet decided anew."""
    incident = await reported(city)
    await deliveries_are(city, "sent")
    city.clock.set(NIGHT + MINUTE)
    await leave(city, "mau-14776-chu-tich", NIGHT + MINUTE)
    if how == "corrected":
        await correct(city, incident, unit=NGOC_TRAO_KEY)
    else:
        await dismiss(city, incident)
    told = [n.recipient for n in await stored(city, Notice, purpose="stand_down")]
    assert told == ["mau-14776-bi-thu"]

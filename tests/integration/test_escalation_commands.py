"""What people do about an incident: who may, from which state, what follows, and that the same said twice is one.

Who is told is who is accountable: what verifies, lowers, joins, divides or ends an incident is the city's alone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import Response

from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.events import (
    DecisionMade,
    Event,
    Harm,
    IncidentVerified,
)
from shared.http.identity import Principal, Role
from tests.integration.command_support import (
    ASKED,
    COMMANDS,
    DESK,
    ELSEWHERE,
    HERE,
    HOUR,
    NO_LONGER,
    OFFICER,
    THERE,
    WHY,
    Act,
    acknowledged,
    dismiss,
    divided_unit,
    each_command,
    each_of_the_city,
    escalate,
    hand_off,
    in_order,
    latest,
    merge,
    of,
    one_fire,
    pending,
    propose,
    reassign,
    refused,
    reopen,
    reported,
    respond,
    revise,
    state,
    two_fires,
    verify,
    written,
)
from tests.integration.directory_changes import leave
from tests.integration.escalation_support import (
    City,
    WholeCity,
)
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Finding, Incident
from tests.support import BA_DINH, NGOC_TRAO, NIGHT, received


@each_command
async def test_what_is_said_is_a_finding_with_its_author_and_an_event(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    events = await city.events()
    done = await act(city, incident, by)
    assert done.is_new
    found = max(await stored(city, Finding), key=lambda f: f.made_at)
    assert (found.author, found.role) == (by.subject, by.role)
    assert found.reason
    new: list[Event] = (await city.events())[len(events) :]
    said = [e.data for e in new if getattr(e.data, "finding_id", None) == found.finding_id]
    who = by.who(city.escalation.pseudonym_key)
    assert [(d.author, d.role) for d in said] == [(who.subject, by.role)]  # type: ignore[union-attr]
    assert [e.data.who for e in new] == [who] * len(new)
    await in_order(city)


@each_command
async def test_the_same_said_twice_is_recorded_once(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    first = await act(city, incident, by)
    kept = await written(city)
    again = await act(city, incident, by)
    assert not again.is_new
    assert again.new_incident == first.new_incident
    assert await written(city) == kept


@each_command
async def test_the_same_said_by_many_at_once_is_recorded_once(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    known = await stored(city, Finding)
    done = await asyncio.gather(*(act(city, incident, by) for _ in range(4)))
    assert sorted(d.is_new for d in done) == [False, False, False, True]
    assert len(await stored(city, Finding)) == len(known) + 1
    await in_order(city)


# --- who may ---


@each_of_the_city
async def test_who_is_named_in_an_incident_decides_nothing_about_it_at_the_desk_either(
    city: City, before: Callable[[City], Awaitable[str]], act: Act
) -> None:
    """A chair who is also on the duty desk."""
    incident = await before(city)
    problem = await refused(act(city, incident, Principal(HERE.subject, "desk")))
    assert (problem.status, "somebody else at the desk" in problem.detail) == (403, True)


@pytest.mark.parametrize(
    "act", [respond, propose, revise, escalate], ids=["respond", "propose closure", "revise", "escalate"]
)
async def test_who_does_not_hold_the_post_any_more_does_nothing_for_it(city: City, act: Act) -> None:
    """A token may outlast a tenure."""
    incident = await acknowledged(city)
    await leave(city, HERE.subject, NIGHT)
    problem = await refused(act(city, incident, HERE))
    assert (problem.status, "does not hold" in problem.detail) == (403, True)


@each_of_the_city
@pytest.mark.parametrize("caller", [HERE, OFFICER], ids=["official", "officer"])
async def test_a_wards_own_do_nothing_that_is_the_citys_before_or_after_the_city_did_it(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, caller: Principal
) -> None:
    incident = await before(city)
    for _ in range(2):
        kept = await written(city)
        problem = await refused(act(city, incident, caller))
        assert problem.status == 403
        assert caller.role in problem.detail
        assert await written(city) == kept
        if _ == 0:
            await act(city, incident, DESK)


@each_command
async def test_nobody_does_anything_about_another_wards_incident(
    city: City, before: Callable[[City], Awaitable[str]], act: Act, by: Principal
) -> None:
    incident = await before(city)
    await act(city, incident, by)
    kept = await written(city)
    for caller in (ELSEWHERE, Principal("cb-14779", "officer", "14779"), Principal("mau", "official")):
        problem = await refused(act(city, incident, caller))
        assert problem.status == 403
        assert "not of a ward where you are posted now" in problem.detail or "may not" in problem.detail
    assert await written(city) == kept


async def test_a_ward_that_took_an_incident_over_may_respond_to_it(city: City) -> None:
    incident = await divided_unit(city)
    assert (await refused(respond(city, incident, THERE))).status == 403
    await reassign(city, incident)
    assert (await respond(city, incident, THERE)).is_new


# --- from which state ---


@pytest.mark.parametrize("end", [dismiss, hand_off], ids=["dismissed", "handed off"])
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"reopen", "reassign"}))
async def test_nothing_is_done_to_what_has_ended_but_reopening(city: City, end: Act, name: str) -> None:
    before, act, by = COMMANDS[name]
    incident = await before(city)
    await end(city, incident, DESK)
    kept = await written(city)
    if (act, end) in ((dismiss, dismiss), (hand_off, hand_off)):
        assert not (await act(city, incident, by)).is_new
    else:
        problem = await refused(act(city, incident, by))
        assert problem.status == 409
        assert "dismissed" in problem.detail or "handed_off" in problem.detail
    assert await written(city) == kept


async def test_what_was_merged_is_not_reopened(city: City) -> None:
    incident = await two_fires(city)
    await merge(city, incident)
    assert (await refused(reopen(city, incident))).status == 409


async def test_only_what_ended_is_reopened(city: City) -> None:
    assert (await refused(reopen(city, await reported(city)))).status == 409


# --- verifying ---


async def test_a_verified_incident_is_confirmed_and_the_review_is_over(city: City) -> None:
    incident = await reported(city, received("FIRE", harm=Harm(property_vnd=200_000_000)))
    assert await city.told() == ["desk:review"]
    done = await verify(city, incident)
    assert await city.told() == ["desk:review", *ASKED]
    assert (await latest(city, incident))["standing"] == "confirmed"
    assert "review" not in await pending(city, incident)
    first, second = await of(city, DecisionMade)
    assert (second.previous, second.decision_id) == (first.decision_id, done.case.decision_id)
    assert await state(city, incident) == "notified"


async def test_verifying_what_was_told_already_tells_nobody_again(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident)
    assert await city.told() == ASKED


@pytest.mark.parametrize(
    ("category", "exploded", "outcome"),
    [
        ("EXPLOSION", True, "applies"),
        ("FIRECRACKER_MANUFACTURE", True, "applies"),
        ("FIRECRACKER_MANUFACTURE", False, "does_not_apply"),
        ("FIRECRACKER_SET_OFF", False, "does_not_apply"),
        ("EXPLOSION", None, "undetermined"),
    ],
)
async def test_the_desk_answers_whether_firecrackers_exploded(
    city: City, category: str, exploded: bool | None, outcome: str
) -> None:
    incident = await reported(city, received(category))
    await verify(city, incident, firecrackers_exploded=exploded)
    assert (await latest(city, incident))["outcome"] == outcome
    assert [d.firecrackers_exploded for d in await of(city, IncidentVerified)] == [exploded]
    assert (outcome == "applies") == (set(ASKED) <= set(await city.told())) or category == "FIRECRACKER_SET_OFF"
    await in_order(city)


async def test_when_nothing_was_set_off_nobody_is_asked_any_more(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident, firecrackers_exploded=False)
    assert await pending(city, incident) == ["idle"]
    city.clock.set(NIGHT + HOUR)
    await fire_due_timers(city.escalation)
    assert await city.told() == [*ASKED, *NO_LONGER]


async def test_the_desk_calls_it_what_it_was(city: City) -> None:
    incident = await reported(city, received("EXPLOSION"))
    await verify(city, incident, reclassified="FIRECRACKER_SET_OFF")
    record = await latest(city, incident)
    assert (record["outcome"], record["limb"]) == ("applies", "firecracker")
    assert (await only(city, Incident)).category == "FIRECRACKER_SET_OFF"
    await route_reports(city.escalation, [received("EXPLOSION", subject="cam-bien-2")])
    assert (await latest(city, incident))["outcome"] == "applies", "a later report does not undo it"
    assert (await only(city, Incident)).category == "FIRECRACKER_SET_OFF"


async def test_what_is_of_another_kind_is_not_called_so(city: City) -> None:
    incident = await one_fire(city)
    problem = await refused(verify(city, incident, reclassified="FIRECRACKER_SET_OFF"))
    assert problem.status == 409
    assert "FIRE" in problem.detail


# --- over HTTP ---


REASON = {"reason": WHY}


async def posted(house: WholeCity, incident: str, path: str, body: dict[str, Any], by: Principal | Role) -> Response:
    return await house.post(f"/escalation/v1/incidents/{incident}/{path}", by, json=body)


async def test_a_command_answers_201_and_200_with_where_the_incident_stands(house: WholeCity) -> None:
    incident = await reported(house, received("EXPLOSION", unit=BA_DINH))
    body = REASON | {"verdict": "confirmed", "firecrackers_exploded": True}
    answers = [await posted(house, incident, "verifications", body, "desk") for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json() | {"decision_id": ""} == {
        "incident": incident,
        "state": "notified",
        "outcome": "applies",
        "standing": "confirmed",
        "severity": None,
        "decision_id": "",
        "new_incident": None,
    }


async def test_a_false_report_is_dismissed_by_a_verification(house: WholeCity) -> None:
    incident = await reported(house, received(unit=NGOC_TRAO))
    answer = await posted(house, incident, "verifications", REASON | {"verdict": "false"}, "desk")
    assert (answer.status_code, answer.json()["state"]) == (201, "dismissed")


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("verifications", {"verdict": "confirmed"}, "#/reason"),
        ("verifications", REASON | {"verdict": "maybe"}, "#/verdict"),
        ("verifications", REASON | {"verdict": "confirmed", "category": "PARADE"}, "#/category"),
        ("verifications", REASON | {"verdict": "confirmed", "so": 1}, "#/so"),
        ("closures", {"reason": "   "}, "#/reason"),
        ("severity", REASON | {"harm": {"deaths": -1}}, "#/harm/deaths"),
        ("splits", REASON | {"reports": []}, "#/reports"),
        ("handoffs", REASON | {"to": "unit"}, "#/unit"),
        ("handoffs", REASON | {"to": "court"}, "#/to"),
        ("corrections", {"exercise": True}, "#/reason"),
        ("corrections", REASON, "#"),
        ("corrections", REASON | {"occurred_at": 1674320000}, "#/occurred_at"),
        ("corrections", REASON | {"occurred_at": "2023-01-21T23:50:00"}, "#/occurred_at"),
        ("corrections", REASON | {"location": {"latitude": 91, "longitude": 105}}, "#/location/latitude"),
        ("corrections", REASON | {"unit": {"code": "14776"}}, "#/unit/valid_from"),
    ],
)
async def test_a_wrong_body_is_refused_with_what_is_wrong(
    house: WholeCity, path: str, body: dict[str, Any], pointer: str
) -> None:
    incident = await reported(house, received("FIRE"))
    answer = await posted(house, incident, path, body, "desk")
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]


async def test_a_refusal_over_http_gives_the_reason(house: WholeCity) -> None:
    incident = await reported(house, received("FIRE"))
    by_ward = await posted(house, incident, "closures", REASON, HERE)
    too_early = await posted(house, incident, "closures", REASON, "desk")
    assert (by_ward.status_code, too_early.status_code) == (403, 409)
    assert "the city confirms" in by_ward.json()["detail"]
    assert "not determined" in too_early.json()["detail"]


async def test_a_receipt_follows_its_report_into_the_incident_that_took_it(house: WholeCity) -> None:
    ids: list[str] = []
    receipts: list[str] = []
    for hour in ("20", "22"):
        body = {
            "report_id": f"tin-bao-hop-{hour}",
            "category": "FIRE",
            "ward": "Đông Thọ",
            "occurred_at": f"2023-01-21T{hour}:00:00+07:00",
        }
        answer = await house.post("/intake/v1/reports", "desk", json=body)
        receipts.append(answer.json()["receipt"])
        await house.settle()
        ids.append((await house.get(f"/intake/v1/receipts/{receipts[-1]}")).json()["incident"]["id"])
    answer = await posted(house, ids[1], "merges", REASON | {"into": ids[0]}, "desk")
    assert answer.json()["state"] == "merged"
    await house.settle()
    assert (await house.get(f"/intake/v1/receipts/{receipts[1]}")).json()["incident"]["id"] == ids[0]

"""Reports after an end, over HTTP and on real servers: what sender, desk, ward and auditor see of them."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response

from services.escalation.application import commands
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.events import Harm, ReportCorrelated
from shared.http.identity import Principal
from tests.integration.command_support import (
    DESK,
    HERE,
    MINUTE,
    close,
    dismiss,
    hand_off,
    in_order,
    latest,
    of,
    pending,
    refused,
    reopen,
    reported,
    reports_of,
    state,
)
from tests.integration.escalation_support import City, Template, WholeCity, whole_city_in
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Incident, Notice
from tests.support import CHAIR, NIGHT, body, received

API = "/escalation/v1/incidents"
SENSOR = Principal("cam-bien-1", "device", "14776")
OTHER_SENSOR = Principal("cam-bien-2", "device", "14776")


# --- over HTTP ---


@pytest.fixture
async def whole(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as city:
        yield city


async def said(city: WholeCity, incident: str, command: str, by: Any = "desk", **what: Any) -> Response:
    return await city.post(f"{API}/{incident}/{command}", by, json={"reason": "Đã kiểm tra (mẫu)", **what})


async def receipt_of(city: WholeCity, by: Principal, **changes: Any) -> dict[str, Any]:
    answer = await city.post("/intake/v1/reports", by, json=body(**changes))
    await city.settle()
    return (await city.get(f"/intake/v1/receipts/{answer.json()['receipt']}")).json()


async def test_what_everybody_sees_of_reports_after_a_dismissal(whole: WholeCity) -> None:
    city = whole
    incident = await city.report(body(), SENSOR)
    assert (await said(city, incident, "verifications", verdict="false")).status_code == 201
    await city.settle()
    before = len(city.sent)

    routed = await receipt_of(city, OTHER_SENSOR, harm={"deaths": 2})
    assert routed["incident"] == {"id": incident, "outcome": "late"}, "the sender"

    new = city.sent[before:]
    assert {n["recipient"] for n in new} == {"desk"}, "nobody of the ward is rung"
    assert "Tin báo sau kết thúc: 1, mức độ 3, đã xác minh." in new[0]["body"]

    found = (await city.get(f"{API}/{incident}", "desk")).json()
    assert found["state"] == "dismissed"
    assert found["late_reports"] == {"count": 1, "new": 1, "adds": ["severity", "confirmed"], "severity": 3}
    assert [r.get("late", False) for r in found["reports"]] == [False, True]
    assert [(w["who"], w["what"]) for w in found["waits_for"]] == [("desk", "review_late_reports")]
    assert found["decision"]["record"]["reports"]["count"] == 1
    assert [t["data"]["outcome"] for t in found["timeline"] if t["type"].endswith("correlated.v1")] == ["new", "late"]

    handover = (await city.get("/escalation/v1/handover", "desk")).json()
    assert [i["id"] for i in handover["items"]] == [incident]
    listed = (await city.get(API, "desk", params={"waits_for": "desk", "order": "due"})).json()
    assert [i["id"] for i in listed["items"]] == [incident]
    assert (await city.get(API, "desk", params={"state": "open"})).json()["items"] == []

    chair = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
    theirs = (await city.get(f"{API}/{incident}", chair)).json()
    assert [r["source"] for r in theirs["reports"]] == [{"kind": "device"}] * 2, "no sender's name for the ward"
    assert (await city.get("/escalation/v1/handover", chair)).json()["items"] == []

    entries = (await city.get("/ledger/v1/entries", "auditor", params={"incident": incident, "limit": 500})).json()
    kinds = [e["body"]["kind"].removeprefix("vn.trucban.") for e in entries["items"]]
    assert kinds.count("report.correlated.v1") == 2

    stands = await said(city, incident, "verifications", verdict="false")
    assert stands.status_code == 201
    again = await said(city, incident, "verifications", verdict="false")
    assert again.status_code == 200, "sent twice, said once"
    found = (await city.get(f"{API}/{incident}", "desk")).json()
    assert found["waits_for"] == []
    assert (found["late_reports"]["count"], found["late_reports"]["new"]) == (1, 0)
    assert (await city.get("/escalation/v1/handover", "desk")).json()["items"] == []


async def test_the_leadership_hears_of_a_desk_that_does_not_weigh_them(whole: WholeCity) -> None:
    city = whole
    incident = await city.report(body(), SENSOR)
    await said(city, incident, "verifications", verdict="false")
    await city.report(body(harm={"deaths": 3}), OTHER_SENSOR)
    city.clock.set(city.clock.now() + 6 * MINUTE)
    await city.settle()
    found = (await city.get("/escalation/v1/handover", "leader")).json()
    assert [w["what"] for i in found["items"] for w in i["waits_for"] if w["who"] == "leadership"] == [
        "review_late_reports"
    ]
    assert (await city.post(f"{API}/{incident}/acknowledgements", "leader")).status_code == 201
    found = (await city.get(f"{API}/{incident}", "desk")).json()
    assert [w["who"] for w in found["waits_for"]] == ["desk"], "who only acknowledged has not weighed it for the desk"
    assert (await said(city, incident, "reopenings")).status_code == 201
    found = (await city.get(f"{API}/{incident}", "desk")).json()
    assert found["late_reports"] is None
    assert found["severity"] == 4
    assert "review_late_reports" not in [w["what"] for w in found["waits_for"]]


# --- the use cases ---


async def test_the_accused_adds_a_report_and_does_not_end_what_it_asks_of_the_desk(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    await route_reports(city.escalation, [received(subject="cam-bien-2", harm=Harm(deaths=2))])
    told = await city.told()
    slight = Harm(deaths=0, injured=0, property_vnd=0)
    await route_reports(city.escalation, [received(subject=HERE.subject, kind="officer", harm=slight)])
    assert await city.told() == told
    assert await pending(city, incident) == ["late_reports"]
    at_the_desk = Principal(HERE.subject, "desk")
    for act in (dismiss, reopen):
        assert (await refused(act(city, incident, at_the_desk))).status == 403
    await in_order(city)


@pytest.mark.parametrize("end", [close, dismiss, hand_off], ids=["closed", "dismissed", "handed off"])
async def test_each_end_is_said_again_to_say_that_it_stands(city: City, end: Any) -> None:
    incident = await reported(city, received("FIRE", kind="officer", harm=Harm(deaths=0, injured=0, property_vnd=0)))
    await end(city, incident)
    ended = await state(city, incident)
    problem = await refused(commands.close(city.escalation, incident, DESK, "khác"))
    assert problem.status == 409
    await route_reports(city.escalation, [received("FIRE", subject="cam-bien-2", harm=Harm(deaths=1))])
    assert await pending(city, incident) == ["late_reports"]
    assert (await end(city, incident)).is_new, "the same reason, after new reports"
    assert (await state(city, incident), await pending(city, incident)) == (ended, [])
    assert (await latest(city, incident))["severity"] == 1
    assert not (await end(city, incident)).is_new
    await in_order(city)


async def test_two_thousand_late_reports_at_once_are_one_task(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    told = await city.told()
    storm = [received(subject=f"cam-bien-{n}", harm=Harm(property_vnd=n)) for n in range(2_000)]
    await route_reports(city.escalation, storm)
    assert await city.told() == [*told, "desk:late_reports"]
    assert len(await reports_of(city, incident)) == 2_001
    assert [d.outcome for d in await of(city, ReportCorrelated)].count("late") == 2_000
    await route_reports(city.escalation, [received(subject=f"cam-bien-{n}") for n in range(2_000)])
    assert await city.told() == [*told, "desk:late_reports"]
    await reopen(city, incident)
    assert (await latest(city, incident))["reports"]["count"] == 4_001
    await in_order(city)


async def test_what_comes_in_the_same_instant_as_the_end_joins_before_or_after_it_and_never_beside_it(
    city: City,
) -> None:
    incident = await reported(city)
    event = received(subject="cam-bien-2")
    left, _ = await asyncio.gather(route_reports(city.escalation, [event]), dismiss(city, incident))
    if left is not None:
        await route_reports(city.escalation, left.events)
    (said,) = [d for d in await of(city, ReportCorrelated) if d.report_id == event.data.report_id]
    assert (said.incident, said.outcome) in {(incident, "merged"), (incident, "late")}
    assert len(await stored(city, Incident)) == 1
    await in_order(city)


async def test_what_ends_by_itself_while_a_report_comes_gets_it(city: City) -> None:
    """The timer holds the incident alone, without its ward."""
    slight = Harm(deaths=0, injured=0, property_vnd=0)
    incident = await reported(city, received("FIRE", kind="officer", harm=slight))
    city.clock.set(NIGHT + timedelta(days=4))
    event = received("FIRE", subject="cam-bien-2", harm=slight)
    left, _ = await asyncio.gather(route_reports(city.escalation, [event]), fire_due_timers(city.escalation))
    if left is not None:
        await route_reports(city.escalation, left.events)
    assert len(await stored(city, Incident)) == 1
    assert len(await reports_of(city, incident)) == 2
    await in_order(city)


async def test_the_next_report_after_a_reopening_is_an_ordinary_one(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    await reported(city, received(subject="cam-bien-2", harm=Harm(deaths=1)))
    await reopen(city, incident)
    await reported(city, received(subject="cam-bien-3", harm=Harm(deaths=3)))
    assert [d.outcome for d in await of(city, ReportCorrelated)] == ["new", "late", "merged"]
    assert (await latest(city, incident))["severity"] == 4
    await dismiss(city, incident)
    await reported(city, received(subject="cam-bien-4"))
    assert len(await reports_of(city, incident)) == 4
    await in_order(city)


async def test_a_change_of_the_directory_decides_an_ended_incident_without_its_late_reports(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    await reported(city, received(subject="cam-bien-2", harm=Harm(deaths=3)))
    before = await latest(city, incident)
    city.clock.set(NIGHT + timedelta(days=2))
    while await fire_due_timers(city.escalation):
        pass
    assert (await latest(city, incident))["reports"] == before["reports"]
    assert {n.recipient for n in await stored(city, Notice, purpose="late_reports")} == {"desk", "leadership"}
    await in_order(city)

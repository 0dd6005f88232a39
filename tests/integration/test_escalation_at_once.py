"""Putting an incident to the leadership at once, over HTTP: who may, once a round, and what everybody then sees."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response

from services.escalation.application.route_reports import route_reports
from shared.http.identity import Principal, Role
from tests.integration.command_support import DESK, HERE, OFFICER, SECRETARY_HERE
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.integration.stored.looking import only
from tests.integration.stored.records import Incident
from tests.support import CHAIR, NIGHT, received

INCIDENTS = "/escalation/v1/incidents"
MINUTE = timedelta(minutes=1)
LEADER = Principal("mau-lanh-dao", "leader")


@pytest.fixture
async def city(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        await route_reports(made.escalation, [received(kind="officer")])
        yield made


async def escalated(city: WholeCity, by: Principal | Role, reason: str = "Vượt khả năng của phường") -> Response:
    incident = (await only(city, Incident)).incident_id
    return await city.post(f"{INCIDENTS}/{incident}/escalations", by, json={"reason": reason})


async def seen(city: WholeCity, by: Principal | Role = "desk") -> dict[str, Any]:
    incident = (await only(city, Incident)).incident_id
    return (await city.get(f"{INCIDENTS}/{incident}", by)).json()


async def test_a_post_holder_puts_it_to_the_leadership_with_a_reason_that_it_reads(city: WholeCity) -> None:
    done = await escalated(city, HERE)
    assert (done.status_code, done.json()["state"]) == (201, "notified"), "it is no acknowledgement"
    incident = await seen(city, LEADER)
    (found,) = incident["findings"]
    assert (found["kind"], found["author"], found["reason"]) == (
        "escalation",
        HERE.subject,
        "Vượt khả năng của phường",
    )
    (asked,) = (o for o in incident["waits_for"] if o["who"] == "leadership")
    assert (asked["what"], asked["posts"], asked["level"]) == ("answer_escalation", [CHAIR], 2)
    assert incident["level"] == 2
    events = {event["type"].removeprefix("vn.trucban."): event for event in incident["timeline"]}
    said = events["incident.escalated.v1"]
    assert (said["data"]["posts"], "reason" in said["data"]) == ([CHAIR], False)
    (told,) = (n for n in incident["notices"] if n["recipient"] == "leadership")
    assert told["purpose"] == "escalated"
    await city.settle()
    (sent,) = (line for line in city.sent if line["purpose"] == "escalated")
    assert "Xin lãnh đạo chỉ đạo ngay: Chủ tịch UBND" in sent["body"]
    assert "/escalation/v1/links/" in sent["body"], "the leadership acknowledges by its link"


async def test_the_leadership_finds_it_in_its_handover_until_it_has_answered(city: WholeCity) -> None:
    await escalated(city, "desk")
    (item,) = (await city.get("/escalation/v1/handover", LEADER)).json()["items"]
    assert ("leadership", "answer_escalation") in {(o["who"], o["what"]) for o in item["waits_for"]}
    answered = await city.post(f"{INCIDENTS}/{item['id']}/acknowledgements", LEADER)
    assert answered.status_code == 201
    assert (await city.get("/escalation/v1/handover", LEADER)).json()["items"] == []
    assert {o["who"] for o in (await seen(city))["waits_for"]} == {"mau-14776-bi-thu", "mau-14776-chu-tich"}


async def test_said_again_it_is_the_same_and_by_another_it_is_refused_with_since_when(city: WholeCity) -> None:
    assert [(await escalated(city, HERE)).status_code for _ in range(2)] == [201, 200]
    city.clock.set(NIGHT + 5 * MINUTE)
    for other in (DESK, SECRETARY_HERE):
        refused = await escalated(city, other)
        assert refused.status_code == 409
        assert "since 23:50 21/01/2023" in refused.json()["detail"]
    assert [line for line in await city.told() if line.startswith("leadership")] == ["leadership:escalated"]


async def test_what_the_chain_has_brought_there_is_not_put_there_again(city: WholeCity) -> None:
    for minutes in (16, 32):
        city.clock.set(NIGHT + minutes * MINUTE)
        await city.settle()
    assert "leadership:not_acknowledged" in await city.told()
    refused = await escalated(city, HERE)
    assert (refused.status_code, "since 00:2" in refused.json()["detail"]) == (409, True)


async def test_after_late_acknowledgements_it_can_be_put_there_since_nobody_there_has_it(city: WholeCity) -> None:
    for minutes in (16, 32):
        city.clock.set(NIGHT + minutes * MINUTE)
        await city.settle()
    incident = (await only(city, Incident)).incident_id
    for holder in (HERE, SECRETARY_HERE):
        await city.post(f"{INCIDENTS}/{incident}/acknowledgements", holder)
    assert (await escalated(city, HERE)).status_code == 201


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (OFFICER, "officer"),
        (LEADER, "leader"),
        (Principal(HERE.subject, "desk"), "somebody else at the desk"),
        (Principal("mau-14776-bi-thu", "official", "14776", CHAIR), "does not hold"),
    ],
    ids=["an officer", "the leadership itself", "the chair as the desk", "for a post of another"],
)
async def test_others_may_not(city: WholeCity, by: Principal, says: str) -> None:
    refused = await escalated(city, by)
    assert (refused.status_code, says in refused.json()["detail"]) == (403, True), refused.text
    assert not [line for line in await city.told() if line.startswith("leadership")]


async def test_a_reason_is_needed(city: WholeCity) -> None:
    assert (await escalated(city, HERE, reason=" ")).status_code == 422

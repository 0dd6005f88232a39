"""Whom an incident waits for, as the list and one incident show it: over HTTP, on PostgreSQL."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.escalation.application import commands
from services.escalation.application.route_reports import route_reports
from shared.events import Harm
from shared.http.identity import Principal
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.integration.stored.looking import only
from tests.integration.stored.records import Incident
from tests.support import BA_DINH, CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SECRETARY, received

INCIDENTS = "/escalation/v1/incidents"
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def city(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        yield made


async def listed(city: WholeCity, **params: Any) -> list[dict[str, Any]]:
    answer = await city.get(INCIDENTS, "desk", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def pass_time(city: WholeCity, until: datetime) -> None:
    """What falls due by then is done by the service's own loops."""
    city.clock.set(until)
    await city.settle()


def shown(incident: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["who"], one["what"]) for one in incident["waits_for"]}


async def test_an_open_incident_shows_whom_it_waits_for_and_an_ended_one_nobody(city: WholeCity) -> None:
    await route_reports(city.escalation, [received(harm=Harm(deaths=3))])
    (incident,) = await listed(city)
    here = {f"mau-14776-{who}": post for who, post in (("bi-thu", SECRETARY), ("chu-tich", CHAIR))}
    assert shown(incident) == {*((holder, "acknowledge") for holder in here), ("desk", "review")}
    for one in incident["waits_for"]:
        assert one["posts"] == ([here[one["who"]]] if one["who"] in here else [])
        assert (one["since"], one["level"]) == (incident["opened_at"], 0)
    same = (await city.get(f"{INCIDENTS}/{incident['id']}", "desk")).json()
    assert same["waits_for"] == incident["waits_for"]
    await commands.dismiss(city.escalation, incident["id"], Principal("truc-ban", "desk"), "không có")
    assert (await listed(city))[0]["waits_for"] == []


async def test_who_has_acknowledged_has_to_resolve_it_and_the_desk_to_decide_on_their_proposal(city: WholeCity) -> None:
    await route_reports(city.escalation, [received(kind="officer", harm=Harm(deaths=3))])
    incident = (await only(city, Incident)).incident_id
    chair = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
    for holder in (chair, Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)):
        await city.post(f"{INCIDENTS}/{incident}/acknowledgements", holder)
    (found,) = await listed(city)
    assert shown(found) == {("mau-14776-bi-thu", "resolve"), ("mau-14776-chu-tich", "resolve")}
    await commands.propose_closure(city.escalation, incident, chair, "đã xong")
    (found,) = await listed(city)
    assert shown(found) == {("desk", "decide_closure")}
    await pass_time(city, NIGHT + 31 * MINUTE)
    (found,) = await listed(city)
    assert shown(found) == {("desk", "decide_closure"), ("leadership", "decide_closure")}


async def test_the_list_is_filtered_by_whom_it_waits_for_and_ordered_by_when(city: WholeCity) -> None:
    slow = received(unit=DONG_THO, kind="officer", harm=Harm(deaths=1))
    fast = received(unit=BA_DINH, kind="officer", harm=Harm(deaths=3))
    unverified = received("FIRE", unit=NGOC_TRAO)
    await route_reports(city.escalation, [slow, fast, unverified])
    by_due = [i["ward"]["code"] for i in await listed(city, order="due")]
    assert by_due == [BA_DINH.code, DONG_THO.code, NGOC_TRAO.code]
    assert [i["ward"]["code"] for i in await listed(city, waits_for="desk")] == [NGOC_TRAO.code]
    assert [i["ward"]["code"] for i in await listed(city, waits_for="mau-14776-bi-thu")] == [BA_DINH.code]
    assert await listed(city, waits_for="leadership") == []
    pages: list[str] = []
    params: dict[str, Any] = {"order": "due", "limit": 1}
    while True:
        page = (await city.get(INCIDENTS, "desk", params=params)).json()
        pages += [i["ward"]["code"] for i in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert pages == by_due


async def test_the_list_takes_several_states_and_the_word_open(city: WholeCity) -> None:
    await route_reports(city.escalation, [received(), received(unit=DONG_THO)])
    first = (await listed(city))[0]["id"]
    await commands.dismiss(city.escalation, first, Principal("truc-ban", "desk"), "không có")
    assert len(await listed(city, state="open")) == 1
    assert len(await listed(city, state=["notified", "dismissed"])) == 2
    assert len(await listed(city, state="closed,dismissed")) == 1
    answer = await city.get(INCIDENTS, "desk", params={"state": "opne"})
    assert answer.status_code == 422
    assert "'open', 'received'" in answer.json()["errors"][0]["detail"]


async def test_a_vacancy_a_divided_unit_and_a_chain_that_ended_are_found(city: WholeCity) -> None:
    await route_reports(city.escalation, [received(harm=Harm(deaths=3)), received(unit=DONG_THO)])
    assert await listed(city, vacancy=True) == []
    assert len(await listed(city, vacancy=False, divided=False, chain_ended=False)) == 2
    for minutes in (6, 12, 18):
        await pass_time(city, NIGHT + minutes * MINUTE)
    assert [i["ward"]["code"] for i in await listed(city, chain_ended=True)] == [BA_DINH.code]


async def test_whoever_comes_on_duty_sees_what_waits_for_them(city: WholeCity) -> None:
    await route_reports(city.escalation, [received(harm=Harm(deaths=3)), received(unit=DONG_THO, kind="officer")])
    chair = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
    desk, leader = Principal("truc-ban", "desk"), Principal("lanh-dao", "leader")
    for caller, wards in ((desk, [BA_DINH.code]), (leader, []), (chair, [BA_DINH.code])):
        answer = await city.get("/escalation/v1/handover", caller)
        assert [i["ward"]["code"] for i in answer.json()["items"]] == wards

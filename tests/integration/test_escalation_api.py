"""Escalation over HTTP: who may ask what, that no question breaks it, and that answers tell no more than they must."""

import base64
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.application.route_reports import route_reports
from shared.commitment import Committed
from shared.events import Harm
from shared.http.identity import Principal, Role
from shared.pseudonym import pseudonym
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.integration.stored.arranging import alter_record
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Decision, Incident
from tests.support import CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SALT, SECRETARY, body, depth, received

HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
ELSEWHERE = Principal("mau-14779-chu-tich", "official", "14779", CHAIR)
INCIDENTS = "/escalation/v1/incidents"
WORDS = "Nghe ba tiếng nổ sau chợ"


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    """Three wards with an incident or two each: read only by the tests below."""
    async with whole_city_in(template) as made:
        said = Committed(salt=SALT, value=WORDS)
        events = [
            received(subject="cam-bien-bi-mat", description=said),
            received(kind="officer", subject="cb-bi-mat", harm=Harm(deaths=1)),
            received("FIRE", occurred_at=NIGHT - timedelta(hours=3)),
            received(unit=NGOC_TRAO),
            received(unit=DONG_THO, exercise=True),
        ]
        for event in events:
            await route_reports(made.escalation, [event])
        await made.settle()
        yield made


@pytest.fixture(scope="module")
async def incident(house: WholeCity) -> str:
    """The incident of setting off in Ba Đình."""
    return (await only(house, Incident, unit_code="14776", limb="firecracker")).incident_id


@pytest.fixture(scope="module")
async def decision(house: WholeCity, incident: str) -> str:
    """Its latest decision."""
    return (await stored(house, Decision, incident_id=incident))[-1].decision_id


def problem_of(answer: Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    return found


# --- who may ---


async def test_a_forged_token_is_none(house: WholeCity) -> None:
    problem_of(await house.client.get(INCIDENTS, headers={"authorization": "Bearer e30.e30.e30"}), 401)


@pytest.mark.parametrize("there", [Principal("mau", "officer", "14779"), ELSEWHERE], ids=lambda who: who.role)
async def test_ward_people_see_their_own_ward_only(
    house: WholeCity, incident: str, decision: str, there: Principal
) -> None:
    listed = (await house.get(INCIDENTS, there)).json()["items"]
    assert {i["ward"]["code"] for i in listed} == {"14779"}
    problem_of(await house.get(INCIDENTS, there, params={"ward": "14776"}), 403)
    problem_of(await house.get(f"{INCIDENTS}/{incident}", there), 403)
    problem_of(await house.get(f"/escalation/v1/decisions/{decision}", there), 403)
    problem_of(await house.get(f"/escalation/v1/decisions/{decision}/replay", there), 403)


@pytest.mark.parametrize("role", ["officer", "official"])
async def test_a_token_without_a_ward_sees_no_ward(house: WholeCity, incident: str, role: Role) -> None:
    assert (await house.get(INCIDENTS, Principal("mau", role))).json()["items"] == []
    problem_of(await house.get(f"{INCIDENTS}/{incident}", Principal("mau", role)), 403)


@pytest.mark.parametrize("caller", [HERE, Principal("cb", "officer", "14776"), "leader"], ids=str)
async def test_which_device_sent_a_report_is_seen_by_the_desk_alone(
    house: WholeCity, incident: str, caller: Principal | Role
) -> None:
    names = [pseudonym(house.escalation.pseudonym_key, name) for name in ("cam-bien-bi-mat", "cb-bi-mat")]
    shown = await house.get(f"{INCIDENTS}/{incident}", "desk")
    assert [report["source"] for report in shown.json()["reports"]] == [
        {"kind": "device", "subject": names[0]},
        {"kind": "officer"},
    ]
    seen = await house.get(f"{INCIDENTS}/{incident}", caller)
    assert seen.status_code == 200
    assert not [name for name in (*names, "bi-mat") if name in seen.text]
    assert (WORDS in seen.text) == (caller != "leader"), "who must act reads what was said, an overview does not"


# --- what an incident tells ---


async def test_an_incident_tells_its_reports_decisions_parties_notices_deliveries_and_deadlines(
    house: WholeCity, incident: str
) -> None:
    found = (await house.get(f"{INCIDENTS}/{incident}", "desk")).json()
    assert (found["ward"]["name"], found["outcome"], found["limb"]) == ("Ba Đình", "applies", "firecracker")
    assert (found["standing"], found["severity"], found["state"]) == ("confirmed", 2, "notified")
    assert len(found["reports"]) == 2
    assert [d["number"] for d in found["decisions"]] == [1, 2]
    assert found["decisions"][1]["previous"] == found["decisions"][0]["decision_id"]
    assert found["decision"] == found["decisions"][1]
    assert [p["accountable"]["holder_id"] for p in found["parties"]] == ["mau-14776-bi-thu", "mau-14776-chu-tich"]
    assert sorted(n["posts"] for n in found["notices"]) == [[CHAIR], [SECRETARY]]
    assert [(d["channel"], d["state"]) for d in found["deliveries"]] == [("outbox", "sent")] * 2
    assert [(d["kind"], d["state"]) for d in found["deadlines"]] == [
        *[("remind", "pending")] * 2,
        *[("acknowledge", "pending")] * 2,
        ("review", "cancelled"),  # the officer's report verified it
        ("lapse", "pending"),
    ]


async def test_acknowledging_over_http_is_201_once_and_then_200(house: WholeCity) -> None:
    incident = await only(house, Incident, unit_code="14779")
    path = f"{INCIDENTS}/{incident.incident_id}/acknowledgements"
    answers = [await house.post(path, ELSEWHERE) for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 200]
    assert {a.json()["state"] for a in answers} == {"notified"}
    assert answers[0].json()["acknowledged"] == answers[1].json()["acknowledged"]
    problem_of(await house.post(path, HERE), 403)
    problem_of(await house.post(path, Principal("mau-ai-do", "official", "14779", CHAIR)), 403)


async def test_every_decision_is_the_same_when_it_is_computed_again(house: WholeCity) -> None:
    for decision in await stored(house, Decision):
        path = f"/escalation/v1/decisions/{decision.decision_id}"
        replay = (await house.get(f"{path}/replay", "auditor")).json()
        assert replay["equal"] is True
        record = (await house.get(path, "auditor")).json()["record"]
        assert replay["computed"] == record


async def test_a_decision_that_was_changed_behind_our_back_is_not_equal(template: Template) -> None:
    async with whole_city_in(template) as city:
        await city.report(body(), "desk")
        decision = (await only(city, Decision)).decision_id
        await alter_record(city, decision, "mau-14776-bi-thu", "mau-ai-do")
        replay = (await city.get(f"/escalation/v1/decisions/{decision}/replay", "auditor")).json()
        assert replay["equal"] is False
        assert replay["computed"]["parties"][0]["accountable"]["holder_id"] == "mau-14776-bi-thu"


# --- lists ---


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
async def test_pages_of_incidents_give_each_once_the_newest_first(house: WholeCity, limit: int) -> None:
    seen: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": limit}
    while True:
        page = (await house.get(INCIDENTS, "desk", params=params)).json()
        assert len(page["items"]) <= limit
        seen += page["items"]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert len({i["id"] for i in seen}) == len(seen) == 4
    assert [i["opened_at"] for i in seen] == sorted((i["opened_at"] for i in seen), reverse=True)


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"ward": "14776"}, 2),
        ({"ward": "14776", "category": "FIRE"}, 1),
        ({"state": "notified"}, 3),
        ({"severity": 2}, 1),
        ({"severity": 1}, 0),
        ({"ward": "14755"}, 0),
        ({"occurred_from": "2023-01-21T23:50:00+07:00"}, 3),
        ({"occurred_to": "2023-01-21T16:50:00Z"}, 1),
        ({"occurred_from": "2023-01-21T20:50:00+07:00", "occurred_to": "2023-01-21T20:50:01+07:00"}, 1),
    ],
    ids=str,
)
async def test_incidents_are_found_by_ward_category_state_severity_and_time(
    house: WholeCity, params: dict[str, Any], count: int
) -> None:
    assert len((await house.get(INCIDENTS, "leader", params=params)).json()["items"]) == count


async def test_an_incident_is_found_by_the_number_that_somebody_says_and_writes_down(
    house: WholeCity, incident: str
) -> None:
    async def found(number: str, caller: Principal | Role = "desk") -> list[str]:
        answer = await house.client.get(INCIDENTS, params={"number": number}, headers=house.bearer(caller))
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    one = (await house.client.get(f"{INCIDENTS}/{incident}", headers=house.bearer("desk"))).json()
    number = one["number"]
    assert number.startswith("2101-")
    for written in (number, number.lower(), f"#{number.replace('-', ' ')}"):
        assert await found(written) == [incident]
    assert await found(number, HERE) == [incident]
    assert await found(number, ELSEWHERE) == [], "of another ward"
    assert await found("2001" + number[4:]) == []


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        (f"{INCIDENTS}?limit=0", "#/limit"),
        (f"{INCIDENTS}?limit=501", "#/limit"),
        (f"{INCIDENTS}?limit=x", "#/limit"),
        (f"{INCIDENTS}?severity=5", "#/severity"),
        (f"{INCIDENTS}?severity=99999999999999999999", "#/severity"),
        (f"{INCIDENTS}?occurred_from=2023-01-21T23:50:00", "#/occurred_from"),
        (f"{INCIDENTS}?occurred_from=hôm qua", "#/occurred_from"),
        (f"{INCIDENTS}?occurred_from=0001-01-01T00:00:00%2B14:00", "#/occurred_from"),
        (f"{INCIDENTS}?occurred_to=9999-12-31T23:59:59-14:00", "#/occurred_to"),
        (f"{INCIDENTS}?cursor=x", "#/cursor"),
        ("/escalation/v1/directory?as_of=2023-01-21", "#/as_of"),
        ("/escalation/v1/directory?known_at=0001-01-01T00:00:00%2B14:00", "#/known_at"),
        ("/escalation/v1/directory?cursor=%E1%BA%BF", "#/cursor"),
        ("/escalation/v1/rulebooks?cursor=WzFd", "#/cursor"),
    ],
)
async def test_a_wrong_parameter_is_named(house: WholeCity, path: str, pointer: str) -> None:
    problem = problem_of(await house.get(path, "desk"), 422)
    assert [e["pointer"] for e in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    "path",
    [
        f"{INCIDENTS}/khong-co",
        f"{INCIDENTS}/%ff",
        "/escalation/v1/decisions/khong-co",
        "/escalation/v1/decisions/khong-co/replay",
        "/escalation/v1/rulebooks/2099",
        "/escalation/v1/khong-co",
    ],
)
async def test_what_is_not_there_is_a_problem_of_404(house: WholeCity, path: str) -> None:
    problem_of(await house.get(path, "desk"), 404)


async def test_a_nul_in_an_address_is_refused(house: WholeCity) -> None:
    for path in (f"{INCIDENTS}/%00", f"{INCIDENTS}?ward=%00", f"{INCIDENTS}?category=x%00"):
        problem_of(await house.get(path, "desk"), 400)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3),
    max_leaves=6,
)
_moments = ("2023-01-21T16:50:00+00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "x", "")
_cursors = st.text(max_size=12) | st.tuples(st.sampled_from(_moments), st.text(max_size=5)) | _json


def _cursor(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")
    except TypeError:
        return "x"


@depth(ci=150, full=3_000)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "ward": st.text(max_size=6),
            "category": st.text(max_size=6),
            "state": st.text(max_size=6),
            "severity": st.integers() | st.text(max_size=3),
            "occurred_from": st.datetimes().map(lambda t: t.isoformat() + "+07:00") | st.text(max_size=8),
            "limit": st.integers() | st.text(max_size=3),
            "cursor": _cursors.map(_cursor),
        },
    ),
    st.sampled_from((INCIDENTS, "/escalation/v1/directory", "/escalation/v1/rulebooks")),
)
async def test_no_question_is_an_error_of_ours(house: WholeCity, params: dict[str, Any], path: str) -> None:
    answer = await house.get(path, "desk", params=params)
    assert answer.status_code in {200, 400, 422}
    if answer.status_code != 200:
        problem_of(answer, answer.status_code)

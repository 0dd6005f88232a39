"""The directory over HTTP: any past state of it, and changes by the administrator, all rows or none."""

import json
from datetime import date, timedelta
from typing import Any

import pytest
from httpx import Response

from services.escalation.application.import_directory import import_wards
from services.escalation.application.route_reports import route_reports
from shared.http.identity import ROLES, Principal, Role
from tests.integration.escalation_support import WholeCity
from tests.integration.stored.arranging import sample_directory_again
from tests.support import CHAIR, NIGHT, at, received

DIRECTORY = "/escalation/v1/directory"
SECRET = "mailto://ten:mat-khau@may-chu.example.vn?from=a@example.vn&to=b@example.vn"
LATE = {
    "unit_code": "14776",
    "unit_valid_from": "2021-02-01",
    "post": CHAIR,
    "holder_id": "mau-moi",
    "holder_name": "Chủ tịch UBND phường Ba Đình (mẫu 2)",
    "valid_from": "2023-01-20",
    "document": "QĐ mẫu số 9",
    "sample": True,
}
TURN = {
    "level": "desk",
    "holder_id": "mau-truc",
    "holder_name": "Trực ban (mẫu)",
    "valid_from": "2023-01-21T18:00:00+07:00",
    "valid_to": "2023-01-22T06:00:00+07:00",
    "document": "Lịch trực mẫu",
    "sample": True,
}
WARD_TURN = TURN | {"level": "ward", "unit_code": "14776", "unit_valid_from": "2021-02-01", "holder_id": "mau-truc-2"}
BODIES: dict[str, dict[str, Any]] = {"tenures": LATE, "rosters": TURN, "contacts": {"holder_id": "mau-1"}}


@pytest.fixture
async def city(house: WholeCity) -> WholeCity:
    """Ten minutes before giao thừa, with the sample directory again."""
    await sample_directory_again(house)
    house.clock.set(NIGHT)
    return house


async def put(
    city: WholeCity, what: str, *rows: dict[str, Any], caller: Principal | Role = "admin", query: str = ""
) -> Response:
    headers = city.bearer(caller) | {"content-type": "application/json"}
    return await city.client.put(f"{DIRECTORY}/{what}{query}", headers=headers, content=json.dumps({"rows": rows}))


async def items(city: WholeCity, query: str, caller: Principal | Role = "desk") -> list[dict[str, Any]]:
    answer = await city.get(f"{DIRECTORY}?{query}", caller)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def chair(city: WholeCity, as_of: str, known_at: str) -> str:
    times = {"as_of": at(as_of).isoformat(), "known_at": at(known_at).isoformat()}
    found = await city.get(DIRECTORY, "desk", params={"ward": "14776"} | times)
    (holder,) = (i["holder_id"] for i in found.json()["items"] if i["post"] == CHAIR)
    return holder


async def errors_of(city: WholeCity, what: str, *rows: dict[str, Any]) -> list[tuple[str, str]]:
    answer = await put(city, what, *rows)
    assert answer.status_code == 422, answer.text
    assert "mat-khau" not in answer.text
    return [(e["pointer"], e["detail"]) for e in answer.json()["errors"]]


# --- changes ---


@pytest.mark.parametrize("what", BODIES)
async def test_the_administrator_and_nobody_else_changes_the_directory(city: WholeCity, what: str) -> None:
    for role in ROLES:
        answer = await put(city, what, BODIES[what], caller=Principal(f"mau-{role}", role, "14776", CHAIR))
        assert answer.status_code == (200 if role == "admin" else 403), role
    answer = await city.client.put(f"{DIRECTORY}/{what}", json={"rows": [BODIES[what]]})
    assert answer.status_code == 401


async def test_a_change_is_answered_with_what_it_adds_and_what_it_supersedes(city: WholeCity) -> None:
    answer = await put(city, "tenures", LATE)
    body = answer.json()
    assert (body["dry_run"], body["rows"], body["recorded"], body["unchanged"], body["notes"]) == (False, 1, 1, 0, [])
    (added,) = body["added"]
    assert (added["kind"], added["row"], added["record"]["holder_id"]) == ("tenure", 0, "mau-moi")
    (superseded,) = body["superseded"]
    assert superseded["record"]["holder_id"] == "mau-14776-chu-tich"
    assert superseded["became"] == [{"valid_to": [None, "2023-01-20"]}]
    again = (await put(city, "tenures", LATE)).json()
    assert (again["recorded"], again["unchanged"], again["added"], again["superseded"]) == (0, 1, [], [])


async def test_a_dry_run_answers_the_same_and_changes_nothing(city: WholeCity) -> None:
    told = (await put(city, "tenures", LATE, query="?dry_run=true")).json()
    assert told["dry_run"]
    assert [i["holder_id"] for i in await items(city, "ward=14776") if i["post"] == CHAIR] == ["mau-14776-chu-tich"]
    done = (await put(city, "tenures", LATE)).json()
    assert told | {"dry_run": False} == done
    assert [i["holder_id"] for i in await items(city, "ward=14776") if i["post"] == CHAIR] == ["mau-moi"]


async def test_all_rows_or_none_with_a_pointer_to_each_that_is_wrong(city: WholeCity) -> None:
    rows = [LATE, LATE | {"unit_code": "99999"}, LATE | {"post": "mayor"}, LATE | {"holder_id": "mau-khac"}]
    found = await errors_of(city, "tenures", *rows)
    assert [pointer for pointer, _ in found] == ["#/rows/1/unit_code", "#/rows/2/post", "#/rows/3/valid_from"]
    assert await chair(city, "2023-01-21 12:00", "2023-01-21 23:50") == "mau-14776-chu-tich"


@pytest.mark.parametrize(
    ("what", "change", "pointer"),
    [
        ("tenures", {"unit_code": "1477"}, "#/rows/0/unit_code"),
        ("tenures", {"unit_code": 14776}, "#/rows/0/unit_code"),
        ("tenures", {"valid_from": "20/01/2023"}, "#/rows/0/valid_from"),
        ("tenures", {"valid_from": 1674147600}, "#/rows/0/valid_from"),
        ("tenures", {"valid_from": "0001-01-01"}, "#/rows/0/valid_from"),
        ("tenures", {"valid_to": "2023-01-20"}, "#/rows/0/valid_to"),
        ("tenures", {"holder_id": "desk"}, "#/rows/0/holder_id"),
        ("tenures", {"holder_name": "m\0u"}, "#/rows/0/holder_name"),
        ("tenures", {"holder_name": "m\ud800u"}, "#/rows/0/holder_name"),
        ("tenures", {"channel": f"x{SECRET}"}, "#/rows/0/channel"),
        ("tenures", {"phone": "0912000000"}, "#/rows/0/phone"),
        ("tenures", {"document": None}, "#/rows/0/document"),
        ("rosters", {"unit_code": "14776", "unit_valid_from": "2021-02-01"}, "#/rows/0"),
        ("rosters", {"level": "ward"}, "#/rows/0"),
        ("rosters", {"valid_to": "2023-01-21T18:00:00+07:00"}, "#/rows/0/valid_to"),
        ("rosters", {"valid_to": "9999-12-31T23:59:59-14:00"}, "#/rows/0/valid_to"),
        ("contacts", {"channel": SECRET + " b"}, "#/rows/0/channel"),
        ("contacts", {"channel": SECRET, "quiet_from": "22:00"}, "#/rows/0"),
        ("contacts", {"channel": SECRET, "quiet_from": "22:60", "quiet_to": "06:00"}, "#/rows/0/quiet_from"),
    ],
)
async def test_a_value_that_cannot_be_is_refused_at_its_place(
    city: WholeCity, what: str, change: dict[str, Any], pointer: str
) -> None:
    assert [p for p, _ in await errors_of(city, what, BODIES[what] | change)] == [pointer]


@pytest.mark.parametrize("body", ["[]", "{}", '{"rows": []}', '{"rows": [1]}', '{"rows": {}}', "", "{"])
async def test_a_body_of_another_shape_is_refused(city: WholeCity, body: str) -> None:
    headers = city.bearer("admin") | {"content-type": "application/json"}
    answer = await city.client.put(f"{DIRECTORY}/tenures", headers=headers, content=body)
    assert answer.status_code == 422


async def test_a_change_makes_the_incidents_that_it_concerns_be_decided_anew(city: WholeCity) -> None:
    await route_reports(city.escalation, [received()])
    await city.settle()
    incident = await city.incident()
    await put(city, "tenures", LATE)
    await city.settle()
    assert "mau-moi:accountable" in await city.told(incident)


# --- any past state ---


async def test_who_held_a_post_is_asked_of_any_day_as_it_was_known_on_any_other(city: WholeCity) -> None:
    city.clock.set(at("2023-01-25 09:00"))
    await put(city, "tenures", LATE)
    before, after = "2023-01-25 08:59", "2023-01-25 09:01"
    city.clock.set(at("2023-01-26 09:00"))
    assert await chair(city, "2023-01-22 12:00", before) == "mau-14776-chu-tich"
    assert await chair(city, "2023-01-22 12:00", after) == "mau-moi"
    assert await chair(city, "2023-01-19 12:00", after) == "mau-14776-chu-tich"


async def test_what_is_not_known_yet_is_answered_as_it_is_known_now(city: WholeCity) -> None:
    assert await chair(city, "2023-01-22 12:00", "2030-01-01 00:00") == "mau-14776-chu-tich"


async def test_holders_and_deputies_are_shown_with_their_capacity(city: WholeCity) -> None:
    deputy = LATE | {"capacity": "deputy", "reason": "nghỉ phép", "valid_to": "2023-01-30"}
    assert (await put(city, "tenures", deputy)).status_code == 200
    found = [i for i in await items(city, "ward=14776") if i["post"] == CHAIR]
    assert {(i["kind"], i["capacity"], i["holder_id"]) for i in found} == {
        ("tenure", "holder", "mau-14776-chu-tich"),
        ("tenure", "deputy", "mau-moi"),
    }


async def test_who_is_on_duty_is_asked_of_a_time(city: WholeCity) -> None:
    assert (await put(city, "rosters", TURN, WARD_TURN)).json()["recorded"] == 2
    assert [i["holder_id"] for i in await items(city, "kind=rosters")] == ["mau-truc", "mau-truc-2"]
    assert [i["holder_id"] for i in await items(city, "kind=rosters&ward=14776")] == ["mau-truc-2"]
    assert await items(city, "kind=rosters&as_of=2023-01-22T06:00:00%2B07:00") == []
    city.clock.set(NIGHT + timedelta(minutes=5))
    await put(city, "rosters", TURN | {"withdrawn": True})
    assert [i["holder_id"] for i in await items(city, "kind=rosters")] == ["mau-truc-2"]
    assert len(await items(city, "kind=rosters&known_at=2023-01-21T23:52:00%2B07:00")) == 2


async def test_channels_are_shown_by_their_scheme_to_those_who_work_with_them(city: WholeCity) -> None:
    row = {"holder_id": "mau-14776-chu-tich", "channel": SECRET, "quiet_from": "22:00", "quiet_to": "06:00"}
    answer = await put(city, "contacts", row)
    assert "mat-khau" not in answer.text
    assert [s["record"]["channel"] for s in answer.json()["superseded"]] == ["outbox"]
    for role in ("desk", "admin"):
        found = await items(city, "kind=contacts&ward=14776&limit=100", role)
        (mine,) = (i for i in found if i["holder_id"] == "mau-14776-chu-tich")
        assert (mine["kind"], mine["channel"], mine["quiet_from"], mine["quiet_to"]) == (
            "contact",
            "mailto",
            "22:00",
            "06:00",
        )
        assert {i["holder_id"] for i in found} == {"mau-14776-chu-tich", "mau-14776-bi-thu"}
    for role in ("official", "leader", "auditor"):
        answer = await city.get(f"{DIRECTORY}?kind=contacts", Principal("mau-1", role, "14776", CHAIR))
        assert answer.status_code == 403


async def test_units_are_those_in_force_on_the_day_with_what_took_their_place(city: WholeCity) -> None:
    wards = (
        "code,valid_from,name,type,valid_to,successors,legal_act\n"
        "14758,2021-02-01,Đông Thọ,phường,2025-07-01,14758/2025-07-01,Nghị quyết mẫu\n"
        "14758,2025-07-01,Hàm Rồng,phường,,,\n"
    )
    assert not (await import_wards(city.escalation, wards.encode())).errors
    (old,) = await items(city, "kind=units&ward=14758")
    assert (old["kind"], old["type"], old["name"], old["legal_act"]) == ("unit", "phường", "Đông Thọ", "Nghị quyết mẫu")
    assert old["successors"] == [{"code": "14758", "valid_from": "2025-07-01", "name": "Hàm Rồng"}]
    (new,) = await items(city, "kind=units&ward=14758&as_of=2025-07-01T00:00:00%2B07:00")
    assert (new["name"], new["valid_from"]) == ("Hàm Rồng", "2025-07-01")


@pytest.mark.parametrize("kind", ["tenures", "rosters", "contacts", "units"])
@pytest.mark.parametrize("when", ["0001-01-02T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_the_first_and_the_last_time_there_is_may_be_asked_for(city: WholeCity, kind: str, when: str) -> None:
    found = await items(city, f"kind={kind}&as_of={when}&known_at={when}")
    assert bool(found) is (when.startswith("9") and kind != "rosters")


@pytest.mark.parametrize(("kind", "count"), [("tenures", 66), ("contacts", 71), ("units", 34)])
async def test_every_list_is_walked_in_pages(city: WholeCity, kind: str, count: int) -> None:
    seen: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = (await city.get(f"{DIRECTORY}?kind={kind}&limit=20{more}", "desk")).json()
        seen += page["items"]
        cursor = page["next"]
    whole = await items(city, f"kind={kind}&limit=500")
    assert seen == whole
    assert len(whole) == count


# --- many errors ---


async def test_thousands_of_holders_of_one_post_are_refused_with_a_hundred_causes_at_most(city: WholeCity) -> None:
    days = [(date(2023, 1, 1) + timedelta(days=n)).isoformat() for n in range(3_000)]
    rows = [LATE | {"holder_id": f"mau-{n}", "valid_from": day, "valid_to": day} for n, day in enumerate(days)]
    answer = await put(city, "tenures", *rows)
    problem = answer.json()
    assert answer.status_code == 422
    assert len(problem["errors"]) == 100
    assert problem["detail"].endswith("(and 2999 more)")


async def test_one_cause_is_one_error_with_all_its_rows(city: WholeCity) -> None:
    rows = [LATE | {"unit_code": "99999", "post": post, "holder_id": f"mau-{n}"} for n, post in enumerate([CHAIR] * 9)]
    problem = (await put(city, "tenures", *rows)).json()
    unknown = [e for e in problem["errors"] if e["pointer"] == "#/rows/0/unit_code"]
    assert unknown == [
        {
            "pointer": "#/rows/0/unit_code",
            "detail": "unit 99999 of 2021-02-01 is unknown: import its ward first (rows 0-8)",
            "rows": list(range(1, 9)),
        }
    ]


@pytest.mark.parametrize("channel", ["mailto://server", "tgram://1/2", "syslog://"])
async def test_a_channel_that_cannot_work_is_refused_where_it_comes_in(city: WholeCity, channel: str) -> None:
    for what, row in (
        ("contacts", {"holder_id": "mau-1", "channel": channel}),
        ("tenures", LATE | {"channel": channel}),
        ("rosters", TURN | {"channel": channel}),
    ):
        answer = await put(city, what, row)
        assert answer.status_code == 422
        assert [e["pointer"] for e in answer.json()["errors"]] == ["#/rows/0/channel"]

"""What people send to escalation over HTTP: refused before it does harm, and told on without who reported."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.application.route_reports import route_reports
from shared.events import Harm
from shared.http.identity import Principal, Role
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.integration.stored.arranging import notices_are_to
from tests.support import BA_DINH, CHAIR, depth, received

INCIDENTS = "/escalation/v1/incidents"
OFFICER = Principal("cb-bi-mat", "officer", BA_DINH.code)
OFFICIAL = Principal("mau-14776-chu-tich", "official", BA_DINH.code, CHAIR)
LEADER, DESK = Principal("mau-lanh-dao", "leader"), Principal("mau-truc-ban", "desk")
COMMANDS: dict[str, dict[str, Any]] = {
    "verifications": {"verdict": "confirmed", "reason": "Đã đến nơi"},
    "designations": {"reason": "Cả phố đều nghe"},
    "severity": {"harm": {"deaths": 1}, "reason": "Bệnh viện báo"},
    "merges": {"into": "khong-co", "reason": "Cùng một vụ"},
    "splits": {"reports": ["khong-co"], "reason": "Hai vụ khác nhau"},
    "handoffs": {"to": "police", "reason": "Có dấu hiệu tội phạm"},
    "corrections": {"exercise": True, "reason": "Đó là diễn tập"},
    "responses": {"text": "Đã có mặt"},
    "closure-proposals": {"reason": "Đã xong"},
    "closures": {"reason": "Đã xong"},
    "reopenings": {"reason": "Chưa xong"},
}
"""One good body for each."""


@pytest.fixture(scope="module")
async def incident(house: WholeCity) -> str:
    """A fire in which four died, as an officer reported."""
    report = received("FIRE", kind="officer", subject=OFFICER.subject, harm=Harm(deaths=4))
    await route_reports(house.escalation, [report])
    return await house.incident()


async def command(house: WholeCity, incident: str, name: str, body: Any, caller: Principal = DESK) -> Response:
    return await house.post(f"{INCIDENTS}/{incident}/{name}", caller, json=body)


def refused(answer: Response, status: int) -> list[str]:
    """The pointers of the problem."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    return [e["pointer"] for e in answer.json().get("errors", [])]


# --- figures of harm ---


@pytest.mark.parametrize(
    ("harm", "pointer"),
    [
        ({"death": 4}, "#/harm/death"),
        ({"deaths": 4, "wounded": 2}, "#/harm/wounded"),
        ({}, "#/harm"),
        ({"deaths": None}, "#/harm"),
        ({"deaths": True}, "#/harm/deaths"),
        ({"deaths": "4"}, "#/harm/deaths"),
        ({"deaths": 1.5}, "#/harm/deaths"),
        ({"deaths": -1}, "#/harm/deaths"),
        ({"deaths": 10**30}, "#/harm/deaths"),
        (None, "#/harm"),
        ([], "#/harm"),
    ],
    ids=str,
)
async def test_a_mistyped_figure_is_refused_and_lowers_nothing(
    house: WholeCity, incident: str, harm: Any, pointer: str
) -> None:
    answer = await command(house, incident, "severity", {"harm": harm, "reason": "Bệnh viện báo"})
    assert refused(answer, 422) == [pointer]
    assert (await house.get(f"{INCIDENTS}/{incident}", DESK)).json()["severity"] == 4


# --- text that cannot be kept or seen ---


@pytest.mark.parametrize(
    ("name", "changes", "pointer"),
    [
        *[(name, {"reason": "a\0b"}, "#/reason") for name in COMMANDS if name != "responses"],
        ("closures", {"reason": "a\x1bb"}, "#/reason"),
        ("closures", {"reason": " \x1f "}, "#/reason"),
        ("responses", {"text": "\0"}, "#/text"),
        ("verifications", {"category": "FIRE\0"}, "#/category"),
        ("merges", {"into": "a\0b"}, "#/into"),
        ("merges", {"into": "a\u200bb"}, "#/into"),
        ("merges", {"into": ""}, "#/into"),
        ("splits", {"reports": ["a", "b\0"]}, "#/reports/1"),
        ("handoffs", {"to": "unit", "unit": {"code": "١٤٧٧٦", "valid_from": "2021-02-01"}}, "#/unit/code"),
        ("handoffs", {"to": "unit", "unit": {"code": "14776", "valid_from": 0}}, "#/unit/valid_from"),
    ],
)
async def test_text_that_cannot_be_kept_or_seen_is_refused_by_the_name_of_its_field(
    house: WholeCity, incident: str, name: str, changes: dict[str, Any], pointer: str
) -> None:
    caller = OFFICIAL if name == "closure-proposals" else DESK
    assert refused(await command(house, incident, name, COMMANDS[name] | changes, caller), 422) == [pointer]


async def test_prose_may_have_lines(house: WholeCity, incident: str) -> None:
    answer = await command(house, incident, "responses", {"text": "Xe chữa cháy đến.\r\n\tĐã dập lửa."})
    assert answer.status_code == 201


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=5,
)


@depth(ci=150, full=3_000)
@given(st.data())
async def test_no_body_is_an_error_of_ours(house: WholeCity, incident: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(COMMANDS)))
    body = dict(COMMANDS[name])
    others = ("unit", "category", "prominent", "occurred_at", "location")
    for field in data.draw(st.lists(st.sampled_from([*body, *others]), max_size=2)):
        body[field] = data.draw(_values)
    try:
        content = orjson.dumps(body)
    except TypeError:
        return
    headers = {"content-type": "application/json"}
    answer = await house.client.post(
        f"{INCIDENTS}/khong-co/{name}", content=content, headers=headers | house.bearer(DESK)
    )
    assert answer.status_code in {400, 403, 404, 409, 422}, answer.text


# --- what contradicts itself ---


@pytest.mark.parametrize(
    ("name", "body", "pointers"),
    [
        ("verifications", {"verdict": "false", "firecrackers_exploded": True}, ["#/firecrackers_exploded"]),
        ("verifications", {"verdict": "false", "firecrackers_exploded": False}, ["#/firecrackers_exploded"]),
        ("verifications", {"verdict": "false", "category": "FIRE"}, ["#/category"]),
        ("handoffs", {"to": "police", "unit": {"code": "14776", "valid_from": "2021-02-01"}}, ["#/unit"]),
        ("handoffs", {"to": "unit"}, ["#/unit"]),
    ],
)
async def test_half_of_a_contradiction_is_not_carried_out(
    house: WholeCity, incident: str, name: str, body: dict[str, Any], pointers: list[str]
) -> None:
    assert refused(await command(house, incident, name, body | {"reason": "Đã đến nơi"}), 422) == pointers
    assert (await house.get(f"{INCIDENTS}/{incident}", DESK)).json()["state"] not in {"dismissed", "handed_off"}


@pytest.mark.parametrize(("name", "value", "told"), [("state", "notafied", "'notified'"), ("category", "FIER", "FIRE")])
async def test_a_mistyped_filter_is_no_empty_answer(house: WholeCity, name: str, value: str, told: str) -> None:
    answer = await house.get(INCIDENTS, DESK, params={name: value})
    assert refused(answer, 422) == [f"#/{name}"]
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "name", "told"),
    [
        (INCIDENTS, "stat", "is it state?"),
        (INCIDENTS, "x", "use "),
        (f"{INCIDENTS}/khong-co", "ward", "takes no parameters"),
        ("/escalation/v1/directory", "asof", "is it as_of?"),
        ("/escalation/v1/rulebooks", "page", "use limit, cursor"),
        ("/escalation/v1/stream", "ward", "takes no parameters"),
    ],
)
async def test_an_unknown_parameter_is_no_empty_answer(house: WholeCity, path: str, name: str, told: str) -> None:
    answer = await house.get(path, DESK, params={name: "1"})
    assert refused(answer, 422) == [f"#/{name}"]
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    ("ward", "candidates"),
    [("Hải Châu", []), ("9999", []), ("99999", []), ("Quảng Th", ["Quảng Thắng", "Quảng Thành", "Quảng Thịnh"])],
)
@pytest.mark.parametrize("path", [INCIDENTS, "/escalation/v1/directory"])
async def test_an_unknown_ward_is_no_quiet_night(house: WholeCity, path: str, ward: str, candidates: list[str]) -> None:
    answer = await house.get(path, DESK, params={"ward": ward})
    assert refused(answer, 422) == ["#/ward"]
    assert [c["name"] for c in answer.json()["errors"][0]["candidates"]] == candidates


@pytest.mark.parametrize("ward", ["Ba Đình", "ba dinh", "P. BA ĐÌNH", "14776", "14776@2021-02-01"])
async def test_a_ward_may_be_given_by_name(house: WholeCity, incident: str, ward: str) -> None:
    def wards(answer: Response) -> set[str]:
        return {item["ward"]["name"] for item in answer.json()["items"]}

    assert wards(await house.get(INCIDENTS, DESK, params={"ward": ward})) == {"Ba Đình"}
    own = Principal("can-bo", "officer", ward="14776")
    assert wards(await house.get(INCIDENTS, own, params={"ward": ward})) == {"Ba Đình"}
    elsewhere = Principal("can-bo", "officer", ward="14779")
    assert (await house.get(INCIDENTS, elsewhere, params={"ward": ward})).status_code == 403


# --- bodies ---


class Endless:
    """A body of which somebody counts how much was read."""

    def __init__(self, size: int) -> None:
        self.size, self.read = size, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.read < self.size:
            self.read += 65_536
            yield b" " * 65_536


WITH_BODY = [
    *[("POST", f"{INCIDENTS}/khong-co/{name}") for name in COMMANDS],
    *[("PUT", f"/escalation/v1/directory/{kind}") for kind in ("tenures", "rosters", "contacts")],
]


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_of_whom_nobody_knows_no_body_is_read(house: WholeCity, method: str, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer e30.e30.e30"}):
        body = Endless(30_000_000)
        answer = await house.client.request(
            method, path, content=body, headers=headers | {"content-type": "application/json"}
        )
        refused(answer, 401)
        assert body.read <= 65_536
        bad = await house.client.request(
            method, path, content=b"{", headers=headers | {"content-type": "application/json"}
        )
        refused(bad, 401)


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
@pytest.mark.parametrize("declared", [True, False])
async def test_no_more_of_a_body_is_read_than_its_limit(
    house: WholeCity, method: str, path: str, declared: bool
) -> None:
    role: Role = "admin" if method == "PUT" else "desk"
    headers = house.bearer(role) | {"content-type": "application/json"}
    body = Endless(30_000_000)
    more = {"content-length": str(body.size)} if declared else {}
    answer = await house.client.request(method, path, content=body, headers=headers | more)
    refused(answer, 413)
    assert str(1_000_000 if method == "POST" else 5_000_000) in answer.json()["detail"]
    assert body.read < 5_200_000


@pytest.mark.parametrize(("method", "path"), [WITH_BODY[0], WITH_BODY[-1]])
@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"{", "#: is not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b'{"reason": "x"', "#: is not JSON: Expecting ',' delimiter at character 14"),
        (b"reason=x", "#: is not JSON: Expecting value at character 0"),
        (b"[" * 100_000, "There was an error parsing the body"),
        (b'{"reason": "\xff"}', "There was an error parsing the body"),
    ],
)
async def test_what_is_not_json_is_told_where(
    house: WholeCity, method: str, path: str, content: bytes, detail: str
) -> None:
    role: Role = "admin" if method == "PUT" else "desk"
    headers = house.bearer(role) | {"content-type": "application/json"}
    answer = await house.client.request(method, path, content=content, headers=headers)
    assert refused(answer, 422 if detail.startswith("#") else 400) == (["#"] if detail.startswith("#") else [])
    assert answer.json()["detail"] == detail


# --- who reported ---


async def heard(house: WholeCity, caller: Principal) -> str:
    """All that the caller's stream has, as it was sent."""
    parts: list[bytes] = []
    enough = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        parts.append(message.get("body", b""))
        if b"response.recorded" in parts[-1]:
            enough.set()

    bearer = house.bearer(caller)["authorization"].encode()
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/escalation/v1/stream", "raw_path": b"/escalation/v1/stream", "query_string": b"", "root_path": "",
        "headers": [(b"authorization", bearer), (b"last-event-id", b"0-0")],
        "client": ("203.0.113.7", 1), "server": ("trucban", 80),
    }  # fmt: skip
    async with asyncio.timeout(10):
        await house.app(scope, receive, send)
    return b"".join(parts).decode()


async def test_an_officer_is_named_to_the_desk_alone_for_a_reason_on_the_record(
    template: Template,
) -> None:
    async with whole_city_in(template) as city:
        incident = await city.report(
            {"report_id": "r-1", "category": "FIRE", "ward": BA_DINH.code, "occurred_at": "2023-01-21T23:45:00+07:00",
             "harm": {"deaths": 1}}, OFFICER,
        )  # fmt: skip
        revised = await command(city, incident, "severity", COMMANDS["severity"] | {"harm": {"deaths": 2}}, OFFICER)
        responded = await command(city, incident, "responses", COMMANDS["responses"], OFFICIAL)
        assert [revised.status_code, responded.status_code] == [201, 201]
        await city.settle()

        def authors(found: list[dict[str, Any]]) -> list[Any]:
            return [(each["role"], each["author"]) for each in found if "author" in each]

        name = OFFICER.who(city.escalation.pseudonym_key).subject
        for caller in (DESK, OFFICIAL, LEADER, OFFICER):
            answer = await city.get(f"{INCIDENTS}/{incident}", caller)
            shown = answer.json()
            official = ("official", OFFICIAL.subject)
            assert authors(shown["findings"]) == [("officer", None), official]
            told = authors([line["data"] for line in shown["timeline"]])
            assert told == [("officer", None), official]
            stream = await heard(city, caller)
            assert stream.count(OFFICIAL.subject) >= 1
            for text in (answer.text, stream):
                assert not [shown for shown in (OFFICER.subject, name) if shown in text], caller.role
        asked = f"{INCIDENTS}/{incident}/senders"
        assert refused(await city.post(asked, DESK, json={}), 422) == ["#/reason"]
        senders = (await city.post(asked, DESK, json={"reason": "Gọi lại hỏi đường vào"})).json()
        assert [report["source"] for report in senders["reports"]] == [{"kind": "officer", "subject": name}]
        assert [finding["author"] for finding in senders["findings"]] == [OFFICER.subject]
        await city.settle()
        entries = await city.get(f"/ledger/v1/entries?incident={incident}&kind=access.recorded", "auditor")
        (entry,) = entries.json()["items"]
        assert entry["body"]["data"]["who"] == {"subject": DESK.subject, "role": "desk", "means": "api"}
        assert "reason" in entry["body"]["commit"]
        assert "Gọi lại" not in await heard(city, OFFICIAL)


@pytest.mark.parametrize("caller", [DESK, LEADER])
async def test_of_an_acknowledgement_by_an_office_no_post_holder_is_told(template: Template, caller: Principal) -> None:
    """The ledger's `official=` finds what office-holders did, and whose credential it was the event says."""
    async with whole_city_in(template) as city:
        incident = await city.report(
            {"report_id": "r-1", "category": "FIRE", "ward": BA_DINH.code, "occurred_at": "2023-01-21T23:45:00+07:00"},
            "device",
        )
        office = "desk" if caller is DESK else "leadership"
        await notices_are_to(city, office)
        assert (await city.post(f"{INCIDENTS}/{incident}/acknowledgements", caller)).status_code == 201
        timeline = (await city.get(f"{INCIDENTS}/{incident}", DESK)).json()["timeline"]
        (told,) = [t["data"] for t in timeline if t["type"].endswith("acknowledgement.recorded.v1")]
        assert (told["holder"], told["officials"]) == (caller.subject, [])

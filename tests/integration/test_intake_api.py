"""Bad input over HTTP: each a problem that names the place, never a 5xx; and who may do what."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
from httpx import AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st

from services.cli.embedded import Servers
from shared.http.identity import ROLES, Role
from tests.integration.intake_support import House, Place, opened, place_on
from tests.unit.intake.sample import body


@pytest.fixture(scope="module")
async def place(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    async with place_on(servers, tmp_path_factory.mktemp("intake") / "keys") as found:
        yield found


@pytest.fixture(scope="module")
async def house(place: Place) -> AsyncGenerator[House]:
    async with opened(place) as found:
        yield found


@pytest.fixture(scope="module")
async def desk(house: House) -> AsyncClient:
    return await house.client("desk")


def assert_problem(answer: Response, status: int) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert set(problem) >= {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert "\n" not in problem["detail"]
    return problem


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "line 1"),
        (b"{", "line 1"),
        (b"\xff\xfe", "byte 0"),
        (b'{"report_id": "\xc3"}', "byte 15"),
        (b"NaN", "line 1"),
        (b'{"location": {"latitude": NaN}}', "column 27"),
        (b'{"location": {"latitude": Infinity}}', "column 27"),
        (rb'{"description": "\ud800"}', "column"),
        (b"[" * 5_000, "JSON"),
        (b'{"a":' * 5_000, "JSON"),
        (b'\xef\xbb\xbf{"report_id": "a"}', "line 1"),
        (b"report_id=a&ward=b", "line 1"),
        (b'{"harm": {"deaths": 1' + b"0" * 400 + b"}}", "line 1"),
    ],
)
@pytest.mark.parametrize("path", ["/reports", "/reports:batch"])
async def test_what_is_not_json_is_told_where(desk: AsyncClient, path: str, content: bytes, told: str) -> None:
    answer = await desk.post(path, content=content)
    if answer.status_code == 200:  # a batch that begins with "{" is NDJSON, judged line by line
        (result,) = answer.json()["results"]
        assert result["status"] == 400
        assert told in result["problem"]["detail"]
    else:
        assert told in assert_problem(answer, 400)["detail"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"ward": "Quận 1"}, "#/ward"),
        ({"category": "STRIKE"}, "#/category"),
        ({"colour": "red"}, "#/colour"),
        ({"": 1}, "#/"),
        ({"occurred_at": "2023-01-21T23:55:00"}, "#/occurred_at"),
        ({"occurred_at": 10**30}, "#/occurred_at"),
        ({"harm": {"deaths": 10**30}}, "#/harm/deaths"),
        ({"description": "a\0b"}, "#/description"),
        ({"ward": "\0"}, "#/ward"),
        ({"report_id": None}, "#/report_id"),
    ],
)
async def test_a_wrong_field_is_named(desk: AsyncClient, changes: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(await desk.post("/reports", content=json.dumps(body(**changes))), 422)
    assert pointer in [e["pointer"] for e in problem["errors"]]
    assert problem["detail"].startswith(pointer)


@pytest.mark.parametrize("value", [b"[]", b"7", b"null", b'"text"', b"true"])
async def test_a_report_is_an_object_and_a_batch_a_list(desk: AsyncClient, value: bytes) -> None:
    assert_problem(await desk.post("/reports", content=value), 422)
    if value != b"[]":
        assert_problem(await desk.post("/reports:batch", content=value), 400)
    else:
        assert (await desk.post("/reports:batch", content=value)).json()["results"] == []


async def test_a_field_name_with_line_breaks_leaves_the_detail_one_line(desk: AsyncClient) -> None:
    problem = assert_problem(await desk.post("/reports", json=body() | {"a\nb\u2028c": 1}), 422)
    assert problem["errors"][0]["pointer"] == "#/a\nb\u2028c"
    assert len(problem["detail"].splitlines()) == 1


async def test_a_body_that_is_too_large_is_refused(desk: AsyncClient) -> None:
    assert_problem(await desk.post("/reports", content=b" " * 65_537), 413)
    assert_problem(await desk.post("/reports:batch", content=b" " * 5_000_001), 413)

    async def without_length() -> AsyncGenerator[bytes]:
        for _ in range(80):
            yield b" " * 1_000

    assert_problem(await desk.post("/reports", content=without_length()), 413)


async def test_a_repeated_key_is_not_an_error_of_ours(desk: AsyncClient) -> None:
    twice = orjson.dumps(body(report_id="twice"))[:-1] + b',"ward":"14776"}'
    assert (await desk.post("/reports", content=twice)).status_code == 201


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "\u00e9/x"])
async def test_any_content_type_is_judged_by_its_content(desk: AsyncClient, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode("latin-1"))]
    content = orjson.dumps(body(report_id="any-type"))
    assert (await desk.post("/reports", content=content, headers=headers)).status_code in {200, 201}
    assert (await desk.post("/reports:batch", content=content, headers=headers)).json()["duplicate"] == 1


@pytest.mark.parametrize(
    "prefer", ["wait=²", "wait=-1", "wait=1e9", "wait", "respond-async, wait=0", "=;,=", "x" * 500]
)
async def test_a_preference_that_makes_no_sense_is_ignored(desk: AsyncClient, prefer: str) -> None:
    headers = [(b"prefer", prefer.encode("latin-1"))]
    answer = await desk.post("/reports", json=body(report_id="prefer"), headers=headers)
    assert answer.status_code in {200, 201}
    assert "preference-applied" not in answer.headers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [*body(), "received_at", "on_behalf_of", "crowd_size"]
NEARLY = st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from(list(body().values())), max_size=4)


@given(st.lists(NEARLY.map(lambda changes: body(**changes)) | JSON, min_size=1, max_size=8))
async def test_no_json_value_is_an_error_of_ours(desk: AsyncClient, values: list[Any]) -> None:
    """Alone and in a batch; each is accepted, or refused by a problem with the same status both ways."""
    alone = [await desk.post("/reports", content=json.dumps(value)) for value in values]
    for answer in alone:
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert_problem(answer, answer.status_code)
    batch = await desk.post("/reports:batch", content=json.dumps(values))
    if batch.status_code == 400:  # one value that JSON's reader refuses spoils the text of all
        assert 400 in {a.status_code for a in alone}
        return
    again = {201: {200, 201}, 200: {200}}
    for first, result in zip(alone, batch.json()["results"], strict=True):
        assert result["status"] in again.get(first.status_code, {first.status_code})


@given(content=st.binary(max_size=200), path=st.sampled_from(["/reports", "/reports:batch"]))
async def test_no_bytes_are_an_error_of_ours(desk: AsyncClient, path: str, content: bytes) -> None:
    assert (await desk.post(path, content=content)).status_code in {200, 400, 422}


@given(question=st.text(max_size=30), cursor=st.none() | st.text(max_size=30))
async def test_no_question_about_wards_is_an_error_of_ours(
    desk: AsyncClient, question: str, cursor: str | None
) -> None:
    answer = await desk.get("/wards", params={"q": question} | ({"cursor": cursor} if cursor is not None else {}))
    assert answer.status_code in {200, 400, 422}


@pytest.mark.parametrize("role", ROLES)
async def test_who_may_submit(house: House, role: Role) -> None:
    client = await house.client(role, ward="14776")
    may = role in {"officer", "device", "desk", "admin"}
    one = await client.post("/reports", json=body(report_id=f"by-{role}"))
    many = await client.post("/reports:batch", json=[])
    assert (one.status_code, many.status_code) == ((201, 200) if may else (403, 403))


async def test_only_receipts_and_wards_are_public(house: House) -> None:
    public = await house.public()
    for path in ["/reports", "/reports:batch"]:
        assert assert_problem(await public.post(path, json=body()), 401)
        for value in ["Bearer", "Bearer x", "Basic YTpi", "Bearer ²"]:
            headers = [(b"authorization", value.encode("latin-1"))]
            assert_problem(await public.post(path, json=body(), headers=headers), 401)
    assert (await public.get("/wards")).status_code == 200
    assert_problem(await public.get("/reports"), 401)
    assert_problem(await public.get("/nothing"), 404)


async def test_an_officer_of_another_ward_is_refused_by_name(house: House) -> None:
    officer = await house.client("officer", ward="14764")
    problem = assert_problem(await officer.post("/reports", json=body(report_id="not-mine")), 403)
    assert "14776 Ba Đình" in problem["detail"]


async def test_wards_are_offered_and_never_guessed(house: House) -> None:
    public = await house.public()

    async def names(**params: Any) -> list[str]:
        return [w["name"] for w in (await public.get("/wards", params=params)).json()["items"]]

    assert await names(q="dong tho") == ["Đông Thọ"]
    assert await names(q="Phường Đông Thọ") == ["Đông Thọ"]
    assert await names(q="quảng th") == ["Quảng Thắng", "Quảng Thành", "Quảng Thịnh"]
    assert await names(q="14776") == ["Ba Đình"]
    assert "Quảng Thắng" in await names(q="Quang Thangg")
    assert await names(q="Hà Nội") == []
    assert len(await names()) == 34


@pytest.mark.parametrize("limit", [1, 5, 33, 34, 500])
async def test_pages_of_wards_give_each_once(house: House, limit: int) -> None:
    public = await house.public()
    codes: list[str] = []
    params: dict[str, Any] = {"limit": limit}
    while True:
        page = (await public.get("/wards", params=params)).json()
        codes += [w["code"] for w in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert codes == sorted(set(codes))
    assert len(codes) == 34


async def test_the_document_describes_every_body_and_no_reference_is_open(house: House) -> None:
    public = await house.public()
    document = (await public.get("http://trucban/intake/openapi.json")).json()
    for reference in _references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    assert "firecracker" in document["components"]["schemas"]["Submission"]["properties"]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [str(value["$ref"])] if "$ref" in value else []
        return own + [r for v in value.values() for r in _references(v)]
    return [r for v in value for r in _references(v)] if isinstance(value, list) else []


async def test_the_answer_to_a_batch_of_nonsense_stays_small(desk: AsyncClient) -> None:
    """A thousand items with a hundred unknown keys each, and one of 380,000."""
    item = {f"khoa-{n}": 1 for n in range(100)}
    answer = await desk.post("/reports:batch", content=orjson.dumps([item] * 1_000))
    assert {r["status"] for r in answer.json()["results"]} == {422}
    assert {len(r["problem"]["errors"]) for r in answer.json()["results"]} == {10}
    assert {r["problem"]["error_count"] for r in answer.json()["results"]} == {104}
    assert len(answer.content) < 2_000_000
    answer = await desk.post("/reports:batch", content=orjson.dumps([{f"k{n}": 1 for n in range(380_000)}]))
    assert answer.json()["results"][0]["status"] == 413
    assert len(answer.content) < 1_000


async def test_a_long_id_that_cannot_be_one_is_not_said_again(desk: AsyncClient) -> None:
    answer = await desk.post("/reports:batch", json=[body(report_id="x" * 60_000)])
    assert answer.json()["results"][0]["report_id"] is None
    assert len(answer.content) < 1_000


async def test_many_parameters_that_there_are_not_are_counted(desk: AsyncClient) -> None:
    problem = assert_problem(await desk.get("/reports?" + "&".join(f"p{n}=1" for n in range(500))), 422)
    assert (len(problem["errors"]), problem["error_count"]) == (100, 500)


async def test_a_long_question_about_wards_is_refused(house: House) -> None:
    problem = assert_problem(await (await house.public()).get("/wards", params={"q": "x" * 101}), 422)
    assert problem["errors"][0]["pointer"] == "#/q"

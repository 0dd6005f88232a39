"""Every error leaves as problem+json of one shape, with a pointer, and without what was rejected."""

from collections.abc import AsyncGenerator
from typing import Annotated

import pytest
from fastapi import APIRouter, Query
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError

from shared.http.problem import FieldError, Problem, field_errors, invalid
from shared.http.rights import public
from shared.http.web import service_app
from tests.unit.shared.http.test_identity import VERIFIER

SECRET = "Nguyễn Văn A, 0912 000 001"


class Inner(BaseModel):
    count: int


class Outer(BaseModel):
    inner: Inner
    many: list[Inner] = []


@pytest.fixture
async def client() -> AsyncGenerator[AsyncClient]:
    routes = APIRouter()

    async def conflict() -> None:
        raise Problem(409, "report_id a was used for another report", headers={"x-more": "1"})

    async def bug() -> None:
        raise RuntimeError(SECRET)

    async def away() -> None:
        raise OperationalError("SELECT 1", {"phone": SECRET}, OSError("gone"))

    async def refused_by_the_database() -> None:
        raise ProgrammingError("SELECT 1", {"phone": SECRET}, ValueError("no such column"))

    async def number(n: Annotated[int, Query(ge=1)]) -> int:
        return n

    made_of = {"conflict": conflict, "bug": bug, "away": away, "number": number, "refused": refused_by_the_database}
    for name, route in made_of.items():
        routes.add_api_route(f"/{name}", route)
    transport = ASGITransport(
        service_app("test", VERIFIER, routes, {f"GET /{name}": public() for name in made_of}),
        raise_app_exceptions=False,
    )
    async with AsyncClient(transport=transport, base_url="http://test/v1") as made:
        yield made


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/conflict", 409),
        ("/bug", 500),
        ("/refused", 500),
        ("/away", 503),
        ("/number?n=0", 422),
        ("/number", 422),
        ("/nowhere", 404),
    ],
)
async def test_every_error_is_a_problem_of_one_shape(client: AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert problem["status"] == status
    assert problem["type"].startswith("urn:trucban:problem:")
    assert SECRET not in answer.text


async def test_a_method_that_a_route_does_not_have_is_a_problem_too(client: AsyncClient) -> None:
    answer = await client.post("/number")
    assert answer.status_code == 405
    assert answer.json()["title"] == "Method not allowed"
    assert answer.headers["allow"] == "GET"


async def test_headers_of_a_problem_reach_the_caller(client: AsyncClient) -> None:
    assert (await client.get("/conflict")).headers["x-more"] == "1"


async def test_a_parameter_that_is_wrong_is_named(client: AsyncClient) -> None:
    problem = (await client.get("/number?n=0")).json()
    assert [e["pointer"] for e in problem["errors"]] == ["#/n"]
    assert problem["detail"].startswith("#/n: ")


def errors_of(value: object) -> list[FieldError]:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(value)
    return field_errors(raised.value.errors())


def test_each_field_that_is_wrong_has_a_pointer_and_no_value() -> None:
    errors = errors_of({"inner": {"count": SECRET}, "many": [{"count": 1}, {}]})
    assert [e["pointer"] for e in errors] == ["#/inner/count", "#/many/1/count"]
    assert not any(SECRET in e["detail"] for e in errors)


def test_a_pointer_escapes_what_means_something_in_it() -> None:
    (error,) = field_errors([{"loc": ("a/b", "c~d"), "msg": "wrong"}])
    assert error["pointer"] == "#/a~1b/c~0d"


def test_invalid_input_says_the_first_error_and_how_many_more_in_one_line() -> None:
    problem = invalid([FieldError("#/ward", "unknown"), FieldError("#/category", "unknown")])
    assert problem.status == 422
    assert problem.detail == "#/ward: unknown (and 1 more)"
    assert problem.body()["errors"] == [
        {"pointer": "#/ward", "detail": "unknown"},
        {"pointer": "#/category", "detail": "unknown"},
    ]


def test_candidates_travel_with_the_field() -> None:
    assert FieldError("#/ward", "which?", candidates=["Quảng Thắng"])["candidates"] == ["Quảng Thắng"]


def test_a_problem_shows_a_hundred_errors_and_says_how_many_there_are() -> None:
    many = [FieldError(f"#/{n}", "unknown") for n in range(5_000)]
    for problem in (invalid(many), Problem(400, "many", many), invalid(many[:100], of=5_000)):
        body = problem.body()
        assert (len(body["errors"]), body["error_count"]) == (100, 5_000)
    assert "(and 4999 more)" in invalid(many).detail
    assert "error_count" not in invalid(many[:100]).body()


def test_fewer_errors_can_be_asked_for_and_are_counted_too() -> None:
    body = invalid([FieldError(f"#/{n}", "unknown") for n in range(11)]).body(most=10)
    assert (len(body["errors"]), body["error_count"]) == (10, 11)


def test_a_senders_long_field_name_is_cut_off() -> None:
    problem = invalid([FieldError("#/" + "x" * 60_000, "y" * 60_000)])
    assert len(str(problem.body())) < 4_000

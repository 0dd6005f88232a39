"""What holds for every answer, also of an error that no route knows of, and what the log says of that error."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from httpx import ASGITransport, AsyncClient
from sqlalchemy.exc import ProgrammingError
from structlog.testing import capture_logs

from shared.http.health import Check
from shared.http.rights import public
from shared.http.web import Service, compose, service_app
from tests.unit.shared.http.test_problem import SECRET, VERIFIER

QUERY = ProgrammingError("INSERT", {"phone": SECRET}, ValueError(f"Failing row contains ({SECRET})"))


@asynccontextmanager
async def nothing() -> AsyncGenerator[None]:
    yield


async def well() -> Sequence[Check]:
    return []


@pytest.fixture
async def client() -> AsyncGenerator[AsyncClient]:
    routes = APIRouter()

    async def kept() -> Response:
        return Response(headers={"cache-control": "max-age=60"})

    async def bug() -> None:
        raise QUERY

    async def breaks() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise QUERY

        return StreamingResponse(parts())

    for route in (kept, bug, breaks):
        routes.add_api_route(f"/{route.__name__}", route, response_model=None)
    rights = {f"GET /{route.__name__}": public() for route in (kept, bug, breaks)}
    service = Service(name="test", app=service_app("test", VERIFIER, routes, rights), running=nothing, checks=well)
    app = compose([service], VERIFIER)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as made:
        yield made


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/test/healthz", "/test/openapi.json", "/test/docs", "/test/v1/bug", "/nowhere", "/test/x"],
)
async def test_no_browser_guesses_what_an_answer_is_or_keeps_it(client: AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] in {"no-store", "no-cache"}


async def test_a_route_may_say_how_long_its_answer_is_kept(client: AsyncClient) -> None:
    assert (await client.get("/test/v1/kept")).headers["cache-control"] == "max-age=60"


async def test_an_error_ends_before_the_server_that_would_write_it_into_its_log(client: AsyncClient) -> None:
    with capture_logs() as lines:
        answer = await client.get("/test/v1/bug")
    assert answer.status_code == 500
    assert SECRET not in answer.text
    assert [line["event"] for line in lines] == ["request failed"]
    assert SECRET not in str(lines)


async def test_an_answer_that_breaks_off_is_told_to_the_log_without_its_text(client: AsyncClient) -> None:
    with capture_logs() as lines, pytest.raises(AssertionError):  # httpx finds that it is not complete
        await client.get("/test/v1/breaks")
    assert [line["event"] for line in lines] == ["request failed"]
    assert SECRET not in str(lines)

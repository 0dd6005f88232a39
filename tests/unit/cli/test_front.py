"""The front process passes requests and answers on as they are, and says which service does not answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.cli.connections import BEHIND_FRONT, Bounds
from services.cli.front.forward import Forward
from services.cli.front.metrics import merge
from services.cli.front.service_process import ServiceProcess
from services.cli.process import answering, listening_socket, private_socket

FOREIGN = "203.0.113.7"


class Service:
    """What stands behind the front: it tells what reached it."""

    def __init__(self) -> None:
        self.hung_up = asyncio.Event()
        self.chunks: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer = await getattr(self, scope["path"].rpartition("/")[2])(request)
        await answer(scope, receive, send)

    async def told(self, request: Request) -> Response:
        body = await request.body()
        told = {
            "method": request.method,
            "target": (request.scope["raw_path"] + b"?" + request.scope["query_string"]).decode(),
            "headers": [[name.decode(), value.decode()] for name, value in request.scope["headers"]],
            "client": request.client.host if request.client else None,
            "scheme": request.url.scheme,
            "length": len(body),
        }
        return JSONResponse(told, 201, {"X-Told": "yes", "Connection": "X-Own", "X-Own": "1"})

    async def refused(self, request: Request) -> Response:
        return Response(status_code=413)  # not one byte was read

    async def stream(self, request: Request) -> Response:
        async def frames() -> AsyncGenerator[bytes]:
            try:
                yield b"data: 1\n\n"
                await asyncio.Event().wait()
            finally:
                self.hung_up.set()

        return StreamingResponse(frames(), media_type="text/event-stream")

    async def half(self, request: Request) -> Response:
        async def parts() -> AsyncGenerator[bytes]:
            yield b"half of it"
            raise ConnectionResetError

        return StreamingResponse(parts(), media_type="text/csv")

    async def upload(self, request: Request) -> Response:
        async for chunk in request.stream():
            self.chunks.append(chunk)
        return Response(status_code=204)

    async def never(self, request: Request) -> Response:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.hung_up.set()
        return Response(status_code=204)


class City:
    """A service behind a front, in this process."""

    def __init__(self, service: Service, process: ServiceProcess, forward: Forward, address: str) -> None:
        self.service, self.process, self.forward, self.address = service, process, forward, address
        self.client = httpx.AsyncClient(base_url=address, timeout=20)


@pytest.fixture
async def city() -> AsyncGenerator[City]:
    with TemporaryDirectory(prefix="front-", dir="/tmp") as folder:  # short enough for a socket
        service, process = Service(), ServiceProcess("ledger", Path(folder) / "s")
        process.failure = None
        async with serving(service, process) as city:
            yield city


@asynccontextmanager
async def serving(service: Service, process: ServiceProcess) -> AsyncGenerator[City]:
    forward = Forward(process)
    with private_socket(process.socket) as inner, listening_socket("127.0.0.1", 0) as outer:
        async with (
            answering(service, "error", inner, [], BEHIND_FRONT, behind_front=True),
            answering(forward, "error", outer, [forward.end_streams], Bounds()),
        ):
            city = City(service, process, forward, f"http://127.0.0.1:{outer.getsockname()[1]}")
            async with city.client:
                yield city
            await process.client.close()


async def test_a_request_arrives_as_it_was_sent(city: City) -> None:
    path = "/ledger/v1/told?q=H%E1%BA%A3i+Ch%C3%A2u&a=1%2F2&a="
    answer = await city.client.post(path, content=b"x" * 100, headers={"Authorization": "Bearer t", "Cookie": "c=1"})
    told = answer.json()
    assert answer.status_code == 201
    assert (told["method"], told["target"], told["length"]) == ("POST", path, 100)
    headers = dict(told["headers"])
    assert headers["authorization"] == "Bearer t"
    assert headers["cookie"] == "c=1"
    assert headers["host"] == city.address.removeprefix("http://")
    assert headers["user-agent"].startswith("python-httpx")


async def test_headers_of_one_connection_stay_on_it(city: City) -> None:
    sent = {"Connection": "keep-alive, X-Secret", "X-Secret": "1", "TE": "trailers", "X-Kept": "1"}
    answer = await city.client.get("/ledger/v1/told", headers=sent)
    arrived = dict(answer.json()["headers"])
    assert arrived["x-kept"] == "1"
    assert not {"x-secret", "te", "keep-alive", "transfer-encoding"} & arrived.keys()
    assert answer.headers["x-told"] == "yes"
    assert "x-own" not in answer.headers
    assert len(answer.headers.get_list("date")) == 1


async def test_the_service_sees_the_client_that_our_own_server_sees(city: City) -> None:
    """It believes a proxy on this machine, as always, and nobody else; whatever the client says is replaced."""
    own = (await city.client.get("/ledger/v1/told")).json()
    assert (own["client"], own["scheme"]) == ("127.0.0.1", "http")
    proxied = {"X-Forwarded-For": f"{FOREIGN}", "X-Forwarded-Proto": "https"}
    seen = (await city.client.get("/ledger/v1/told", headers=proxied)).json()
    assert (seen["client"], seen["scheme"]) == (FOREIGN, "https")
    assert [value for name, value in seen["headers"] if name == "x-forwarded-for"] == [FOREIGN]


async def test_a_body_without_a_length_passes_as_a_stream(city: City) -> None:
    """The service has the first part before the client has made the second."""

    async def parts() -> AsyncGenerator[bytes]:
        yield b"first"
        await until(lambda: b"".join(city.service.chunks) == b"first")
        yield b"second"

    answer = await city.client.post("/ledger/v1/upload", content=parts())
    assert answer.status_code == 204
    assert b"".join(city.service.chunks) == b"firstsecond"


async def test_a_large_body_that_is_refused_unread_has_its_answer(city: City) -> None:
    answer = await city.client.post("/ledger/v1/refused", content=bytes(20_000_000))
    assert answer.status_code == 413


async def test_a_large_body_passes(city: City) -> None:
    answer = await city.client.post("/ledger/v1/told", content=bytes(6_000_000))
    assert answer.json()["length"] == 6_000_000


async def test_a_head_has_the_headers_and_no_body(city: City) -> None:
    answer = await city.client.head("/ledger/v1/told")
    assert (answer.status_code, answer.content) == (201, b"")


async def test_events_pass_at_once_and_a_client_that_hangs_up_is_noticed(city: City) -> None:
    async with city.client.stream("GET", "/ledger/v1/stream") as answer:
        assert await anext(answer.aiter_bytes()) == b"data: 1\n\n"
    async with asyncio.timeout(20):
        await city.service.hung_up.wait()


async def test_a_client_that_hangs_up_before_the_answer_is_noticed(city: City) -> None:
    asking = asyncio.create_task(city.client.get("/ledger/v1/never"))
    await until(lambda: city.process.in_flight == 1)
    asking.cancel()
    async with asyncio.timeout(20):
        await asyncio.wait({asking})
        await city.service.hung_up.wait()
        await until(lambda: city.process.in_flight == 0)


async def test_streams_end_whole_when_the_front_stops(city: City) -> None:
    async with city.client.stream("GET", "/ledger/v1/stream") as answer:
        parts = answer.aiter_bytes()
        await anext(parts)
        city.forward.end_streams()
        assert [part async for part in parts] == []


async def test_half_an_answer_is_not_taken_for_a_whole(city: City) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await city.client.get("/ledger/v1/half")


async def test_who_waits_for_a_service_that_fails_is_told_at_once(city: City) -> None:
    asking = asyncio.create_task(city.client.get("/ledger/v1/never"))
    await until(lambda: city.process.in_flight == 1)
    city.process.fail("was ended by signal 9 and is started again")
    assert_refused(await asking, "ledger was ended by signal 9 and is started again: send the same again in a moment")
    assert_refused(await city.client.get("/ledger/healthz"), "ledger was ended by signal 9")


async def test_a_service_that_is_gone_is_a_problem_with_a_time_to_come_again(city: City) -> None:
    city.process.socket.unlink()
    assert_refused(await city.client.get("/ledger/healthz"), "ledger does not answer")


def test_metrics_of_all_processes_stand_side_by_side() -> None:
    one = b'# HELP a_total A.\n# TYPE a_total counter\na_total{kind="x"} 1.0\n# HELP b B.\n# TYPE b gauge\nb 2.0\n'
    merged = merge({"intake": one, "ledger": b"# HELP b B.\n# TYPE b gauge\nb 3.0\n"}).decode()
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(merged)
        for sample in family.samples
    }
    assert found == {
        ("a_total", ("kind", "x"), ("process", "intake")): 1.0,
        ("b", ("process", "intake")): 2.0,
        ("b", ("process", "ledger")): 3.0,
    }
    assert merged.count("# TYPE b gauge") == 1
    assert "# HELP a_total A." in merged


def test_the_front_has_no_metrics_of_services_though_it_knows_their_code() -> None:
    """It also ran them itself, if it played the sample."""
    told = b"# TYPE trucban_reports counter\ntrucban_reports_total 9.0\n"
    told += b"# TYPE process_open_fds gauge\nprocess_open_fds 5.0\n"
    assert merge({"front": told}).decode().splitlines()[-1] == 'process_open_fds{process="front"} 5.0'
    assert b"trucban_reports" not in merge({"front": told})
    assert b"trucban_reports" in merge({"intake": told})


def assert_refused(answer: httpx.Response, detail: str) -> None:
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["detail"].startswith(detail)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)

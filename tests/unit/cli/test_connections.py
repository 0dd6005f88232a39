"""What one connection may cost: bytes before they are gathered, time, and how many one client holds."""

import asyncio
import resource
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.cli.connections import FILES_WANTED, Bounds, bounds_of_process, raise_open_files
from services.cli.process import answering, listening_socket

BOUNDS = Bounds(look_seconds=0.02)
SHORT = replace(BOUNDS, head_seconds=0.2, body_seconds=0.2, answer_seconds=0.2)
GET = b"GET /told HTTP/1.1\r\nHost: city\r\n\r\n"
PATIENCE_SECONDS = 60


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells the length of the body and the names of the headers; or answers without an end."""
    if scope["path"] == "/endless":

        async def parts() -> AsyncGenerator[bytes]:
            while True:
                await asyncio.sleep(0)  # uvicorn takes what nobody hears without a pause
                yield b"x" * 65_536

        await StreamingResponse(parts())(scope, receive, send)
        return
    request = Request(scope, receive)
    length = 0
    with suppress(ClientDisconnect):
        async for chunk in request.stream():
            length += len(chunk)
    names = [name.decode() for name, _ in scope["headers"]]
    await JSONResponse({"length": length, "headers": names})(scope, receive, send)


class Peer:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, content: bytes) -> None:
        self._writer.write(content)

    async def answer(self) -> bytes:
        """One answer, whose length is told."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return head + await self._reader.readexactly(length)

    async def rest(self) -> bytes:
        """All until the server hangs up."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def continued(self) -> None:
        """Until the server asks for the body."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reader.readuntil(b"100 Continue\r\n\r\n")

    async def hung_up_unread(self) -> None:
        """Until the server hangs up, of whose answer nothing is read."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._writer.transport.is_closing():
                self._writer.write(b"\r\n")
                await asyncio.sleep(0.01)

    async def send_until_refused(self, part: bytes) -> int:
        """Send `part` again and again, until the server hangs up. Returns how many bytes it took or buffered."""
        sent = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._reader.at_eof():
                try:
                    self._writer.write(part)
                    await self._writer.drain()
                except ConnectionError:
                    break
                sent += len(part)
                await asyncio.sleep(0)
        return sent

    def close(self) -> None:
        self._writer.close()


Connect = Callable[[], Awaitable[Peer]]


@asynccontextmanager
async def served(
    bounds: Bounds, monkeypatch: pytest.MonkeyPatch, *, proxies: str = "192.0.2.1"
) -> AsyncGenerator[Connect]:
    """A server for clients on this machine, which is no proxy that it believes."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxies)
    async with AsyncExitStack() as stack:
        sock = stack.enter_context(listening_socket("127.0.0.1", 0))
        await stack.enter_async_context(answering(app, "error", sock, [], bounds))

        async def connect() -> Peer:
            peer = Peer(*await asyncio.open_connection("127.0.0.1", sock.getsockname()[1]))
            stack.callback(peer.close)
            return peer

        yield connect


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Connect]:
    async with served(BOUNDS, monkeypatch) as found:
        yield found


@pytest.fixture
async def impatient(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Connect]:
    """Connections to a server whose times are short."""
    async with served(SHORT, monkeypatch) as found:
        yield found


@pytest.mark.parametrize(
    ("begin", "part", "status"),
    [
        (b"GET /", b"x" * 4_096, b"414"),
        (b"GET /told HTTP/1.1\r\nX: ", b"x" * 4_096, b"431"),
        (b"GET /told HTTP/1.1\r\n", b"X: 1\r\n" * 1_000, b"431"),
    ],
)
async def test_a_head_without_an_end_is_refused_before_it_is_gathered(
    connect: Connect, begin: bytes, part: bytes, status: bytes
) -> None:
    peer = await connect()
    peer.send(begin + part * 9)
    told = await peer.rest()
    assert told.startswith(b"HTTP/1.1 " + status)
    assert b"application/problem+json" in told
    other = await connect()
    other.send(begin)
    assert await other.send_until_refused(part * 100) < 20_000_000


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: city\r\n\r\n", b"414"),
        (b"GET /told HTTP/1.1\r\nX: " + b"x" * 33_000 + b"\r\n\r\n", b"431"),
        (b"GET /told HTTP/1.1\r\n" + b"X: 1\r\n" * 6_000 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 8_000 + b" HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"200"),
    ],
)
async def test_a_head_that_comes_at_once_is_measured_too(connect: Connect, head: bytes, status: bytes) -> None:
    peer = await connect()
    peer.send(head)
    told = await peer.answer()
    assert told.startswith(b"HTTP/1.1 " + status)
    if status != b"200":
        assert await peer.rest() == b""


async def test_a_large_body_is_no_head(connect: Connect) -> None:
    peer = await connect()
    for _ in range(2):
        peer.send(b"POST /told HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
        assert b'"length":300000' in await peer.answer()
        peer.send(b"POST /told HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            peer.send(b"400\r\n" + b"x" * 1_024 + b"\r\n")
        peer.send(b"0\r\n\r\n")
        assert b'"length":102400' in await peer.answer()


@pytest.mark.parametrize("part", [b"X: 1\r\n" * 1_000, b"X: " + b"x" * 6_000])
async def test_what_follows_a_body_has_an_end_and_is_no_header(connect: Connect, part: bytes) -> None:
    peer = await connect()
    peer.send(b"POST /told HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Late: 1\r\n\r\n")
    assert b'"headers":["transfer-encoding"]' in await peer.answer()
    peer.send(b"POST /told HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    assert await peer.send_until_refused(part) < 20_000_000


@pytest.mark.parametrize(
    ("begun", "is_told"),
    [(b"", False), (b"\r\n", True), (b"GET /told HT", True), (GET, False), (GET + b"GET /told HT", False)],
)
async def test_whoever_sends_no_whole_head_is_hung_up_on(impatient: Connect, begun: bytes, is_told: bool) -> None:
    peer = await impatient()
    peer.send(begun)
    assert (b"HTTP/1.1 408" in await peer.rest()) == is_told


async def test_a_body_that_does_not_come_is_answered_and_hung_up_on(impatient: Connect) -> None:
    peer = await impatient()
    peer.send(b"POST /told HTTP/1.1\r\nContent-Length: 10\r\n\r\nx")
    assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_comes_slower_than_its_rate_is_hung_up_on(impatient: Connect) -> None:
    peer = await impatient()
    peer.send(b"POST /told HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
    resting = asyncio.create_task(peer.rest())
    while not resting.done():
        peer.send(b"x")
        await asyncio.wait({resting}, timeout=0.01)
    assert b"200" not in await resting


async def test_whoever_does_not_take_the_answer_is_hung_up_on(impatient: Connect) -> None:
    peer = await impatient()
    peer.send(b"GET /endless HTTP/1.1\r\n\r\n")
    await peer.hung_up_unread()


async def test_one_client_holds_no_more_connections_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(replace(BOUNDS, a_client=3), monkeypatch) as connect:
        held = [await connect() for _ in range(3)]
        for peer in held:
            peer.send(GET)
            assert (await peer.answer()).startswith(b"HTTP/1.1 200")
        refused = await (await connect()).rest()
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 5" in refused
        held[0].close()
        await _until_served(connect)


async def _until_served(connect: Connect) -> None:
    """The server hears a little later that a client has hung up."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            peer = await connect()
            peer.send(GET)
            if (await peer.answer()).startswith(b"HTTP/1.1 200"):
                return


async def test_a_proxy_holds_as_many_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(replace(BOUNDS, a_client=1), monkeypatch, proxies="127.0.0.1") as connect:
        for peer in [await connect() for _ in range(5)]:
            peer.send(GET)
            assert (await peer.answer()).startswith(b"HTTP/1.1 200")


async def test_when_all_places_are_taken_the_longest_silent_gives_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(replace(BOUNDS, all=3), monkeypatch) as connect:
        silent = [await connect() for _ in range(3)]
        talking = await connect()
        talking.send(GET)
        assert (await talking.answer()).startswith(b"HTTP/1.1 200")
        assert await silent[0].rest() == b""
        silent[1].send(GET)
        assert (await silent[1].answer()).startswith(b"HTTP/1.1 200")


async def test_when_all_are_at_work_another_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(replace(BOUNDS, all=2), monkeypatch) as connect:
        for peer in [await connect() for _ in range(2)]:
            peer.send(b"POST /told HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            await peer.continued()
        assert (await (await connect()).rest()).startswith(b"HTTP/1.1 503")


def test_open_files_are_raised_as_far_as_they_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        assert raise_open_files() == wanted
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("files", "most", "is_said"), [(65_536, 8_192, False), (1_024, 256, True)])
def test_few_open_files_are_said_at_the_start(
    files: int, most: int, is_said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.cli.connections.raise_open_files", lambda: files)
    assert bounds_of_process(7) == Bounds(a_client=7, all=most)
    assert ("few open files" in capsys.readouterr().out) is is_said

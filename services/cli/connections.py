"""What one connection may cost a server: bytes of a request's head, time, and how many a client may hold.

uvicorn reads with httptools, for which it has no limit of the head (`h11_max_incomplete_event_size` is h11's), none of
a request's time, and none for a client; its `limit_concurrency` would refuse everybody alike.
"""

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import structlog
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from shared.http import errors
from shared.http.problem import Problem

log = structlog.get_logger()
FILES_WANTED = 65_536
FILES_ENOUGH = 4_096
FILES_KEPT = 512
"""For the database, the broker, the log and the like."""
NEVER = float("inf")


@dataclass(frozen=True)
class Bounds:
    """Of one server."""

    a_client: int = 500
    """Connections of one address. A proxy that is believed who its clients are counts as none."""
    all: int = 8_192
    """Connections of all: beyond, whoever has waited longest without a request is hung up on."""
    address_bytes: int = 8_192
    head_bytes: int = 32_768
    """Request line and headers."""
    head_seconds: float = 10.0
    """From the connection, or from the first byte of a request, to the end of its headers."""
    body_seconds: float = 30.0
    body_bytes_per_second: float = 4_096
    """A body has `body_seconds`, and a second more for so many bytes."""
    answer_seconds: float = 60.0
    """So long a client may take nothing of its answer."""
    look_seconds: float = 1.0
    """From one look at all connections to the next."""


BEHIND_FRONT = Bounds(all=FILES_WANTED)
"""The front has bounded who connects."""


def raise_open_files() -> int:
    """Raise how many files this process may open, as far as it may; returns how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return FILES_WANTED if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def bounds_of_process(a_client: int) -> Bounds:
    """Bounds that fit the files that this process may open, raised before; tells the log where these are few.

    Each connection may need another one, to the service behind the front.
    """
    files = raise_open_files()
    most = min(Bounds.all, (files - FILES_KEPT) // 2)
    if files < FILES_ENOUGH:
        way_out = "raise the hard limit of open files (ulimit -Hn, LimitNOFILE= of systemd)"
        log.warning("few open files", files=files, connections=most, way_out=way_out)
    return Bounds(a_client=a_client, all=most)


@dataclass
class Connections:
    """All connections of one server."""

    bounds: Bounds
    open: "set[BoundedProtocol]" = field(default_factory=lambda: set[BoundedProtocol]())
    by_client: Counter[str] = field(default_factory=Counter[str])

    def protocol(self) -> type[asyncio.Protocol]:
        """For `http` of uvicorn's Config, which calls it."""
        return cast("type[asyncio.Protocol]", partial(BoundedProtocol, self))

    async def watch(self) -> None:
        """Hang up on whoever takes too long, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.bounds.look_seconds)
            now = loop.time()
            for connection in [c for c in self.open if now > c.due]:
                connection.expire(now)

    def make_room(self) -> bool:
        """Hang up on whoever has waited longest without a request. Returns whether there was one."""
        waiting = min((c for c in self.open if c.is_waiting), key=lambda c: c.since, default=None)
        if waiting is not None:
            waiting.leave()
        return waiting is not None


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within `Bounds`."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        self._all, self._bounds = connections, connections.bounds
        self._counted: str | None = None
        """The client, if it has a limit of its own."""
        self._unread = 0
        """Bytes that came since the last byte of a body, or since the request began."""
        self._in_head = True
        """Whether the next bytes are of a request's head."""
        self._stalled_from: float | None = None
        """`due` before the client stopped taking its answer."""
        self.since = self.due = 0.0
        """Since when what is waited for now is waited for, and until when."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(self._bounds.head_seconds)
        if len(self._all.open) >= self._bounds.all and not self._all.make_room():
            self._refuse(Problem(503, "too many connections: come again in a moment"))
            return
        self._all.open.add(self)
        host = self.client[0] if self.client else None
        if host is None or _is_proxy(host, self.config.loaded_app):
            return
        self._counted = host
        self._all.by_client[host] += 1
        if self._all.by_client[host] > self._bounds.a_client:
            detail = f"more than {self._bounds.a_client} connections from {host}: send several requests over one"
            self._refuse(Problem(429, detail, headers={"Retry-After": "5"}))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._all.open.discard(self)
        if self._counted is not None:
            self._all.by_client[self._counted] -= 1
            if not self._all.by_client[self._counted]:
                del self._all.by_client[self._counted]

    def data_received(self, data: bytes) -> None:
        if self.due == NEVER and self.is_waiting:  # it was idle
            self._wait(self._bounds.head_seconds)
        self._unread += len(data)
        super().data_received(data)
        if self._unread > self._bounds.head_bytes and not self.transport.is_closing():
            self._refuse(_too_large(len(self.url), self._bounds))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait(self._bounds.head_seconds)

    def on_headers_complete(self) -> None:
        app: Any = self.app
        if self._unread > self._bounds.address_bytes and self._is_too_large():
            self.app = cast("Any", _last(_too_large(len(self.url), self._bounds)))
        super().on_headers_complete()
        self.app = app
        self.headers = []  # what follows the body belongs to no request
        self._unread, self._in_head = 0, False
        self._wait(self._bounds.body_seconds)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._unread = 0
        self.due += len(body) / self._bounds.body_bytes_per_second

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._unread, self._in_head = 0, True
        self.due = NEVER

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.since = self.loop.time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_from = self.due
        self._wait(self._bounds.answer_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled_from is not None:
            self.due, self._stalled_from = self._stalled_from, None

    def expire(self, now: float) -> None:
        """The client has taken too long with its request, or with taking the answer."""
        if self._stalled_from is not None:
            self.transport.abort()
        elif self.flow.read_paused or (self._in_head and not self._is_answered):  # it is we who take long
            self.due = now + self._bounds.body_seconds
        elif self._is_answered and not (self._in_head and self._unread):
            self.leave()
        else:
            self._refuse(Problem(408, "the request came too slowly: send it again"))

    def leave(self) -> None:
        """Hang up without an answer."""
        self.transport.close()

    def _wait(self, seconds: float) -> None:
        self.since = self.loop.time()
        self.due = self.since + seconds

    def _is_too_large(self) -> bool:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return len(self.url) > self._bounds.address_bytes or size > self._bounds.head_bytes

    @property
    def is_waiting(self) -> bool:
        """For a request, or for the rest of its head."""
        return self._in_head and self._is_answered

    @property
    def _is_answered(self) -> bool:
        return self._cycle is None or self._cycle.response_complete

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """The last request; None before the first."""
        return self.cycle

    def _refuse(self, problem: Problem) -> None:
        """Answer, unless an answer has begun, and hang up."""
        cycle = self._cycle
        if cycle is None or not cycle.response_started or cycle.response_complete:
            self.transport.write(_as_bytes(problem))
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _is_proxy(host: str, app: object) -> bool:
    """Whether it is believed for whom it asks."""
    return isinstance(app, ProxyHeadersMiddleware) and host in app.trusted_hosts


def _too_large(address: int, bounds: Bounds) -> Problem:
    if address > bounds.address_bytes:
        return Problem(414, f"the address is longer than {bounds.address_bytes} bytes: ask for less at once")
    return Problem(431, f"the headers are larger than {bounds.head_bytes} bytes: leave some out")


def _last(problem: Problem) -> ASGIApp:
    """Answers with the problem, and ends the connection."""
    answer = errors.response(problem)
    answer.headers["connection"] = "close"
    return answer


def _as_bytes(problem: Problem) -> bytes:
    answer = errors.response(problem)
    headers = b"".join(b"%b: %b\r\n" % pair for pair in answer.raw_headers)
    return STATUS_LINE[problem.status] + headers + b"connection: close\r\n\r\n" + bytes(answer.body)

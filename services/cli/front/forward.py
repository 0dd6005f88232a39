"""Requests and answers passed on as streams, between a client and the process of a service."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from urllib.parse import quote

import aiohttp
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from services.cli.front.service_process import ADDRESS, ServiceProcess
from shared.http import errors
from shared.http.problem import Problem

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection".split()
    + b"te trailer transfer-encoding upgrade".split()
)
"""Headers of one connection (RFC 9110, 7.6.1)."""
OURS_IN_REQUEST = HOP_BY_HOP | {b"expect", b"x-forwarded-for", b"x-forwarded-proto"}
"""Replaced, never appended to: the services believe them. `Expect` is answered by our own server."""
OURS_IN_ANSWER = HOP_BY_HOP | {b"date", b"server"}
GOODBYE_SECONDS = 1.0
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


class Forward:
    """The ASGI application that passes requests on to one service."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._streams: set[Exchange] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        failure = self._service.failure
        if failure is None:
            try:
                async with self._service.abortable() as limit:
                    await exchange.run(self._service.client, limit, self._streams)
            except (aiohttp.ClientError, OSError):  # TimeoutError too
                failure = self._service.failure or "does not answer"
            finally:
                self._streams.discard(exchange)
                exchange.end()
        if failure is not None:
            await exchange.break_off(Problem(503, f"{self._service.name} {failure}: send the same again in a moment"))

    def end_streams(self) -> None:
        """End the streams of events, which would stay open; their clients come again by themselves."""
        for exchange in self._streams:
            exchange.abort()


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._limit: asyncio.Timeout | None = None
        self._watching: asyncio.Task[None] | None = None
        self._has_begun = self._is_stream = self._is_gone = False
        """Whether the answer was begun; whether it is one of events; whether the client has hung up."""

    async def run(self, client: aiohttp.ClientSession, limit: asyncio.Timeout, streams: "set[Exchange]") -> None:
        """Raises TimeoutError, ClientError or OSError where the answer breaks off, or the client hangs up.

        `streams`: is given this exchange if it is one of events.
        """
        self._limit = limit
        path, query = self._scope["raw_path"], self._scope["query_string"]
        target = quote(path + b"?" + query if query else path, safe=_PRINTABLE)
        url, headers, body = URL(ADDRESS + target, encoded=True), _request_headers(self._scope), await self._body()
        async with client.request(
            self._scope["method"], url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            self._is_stream = answer.content_type == "text/event-stream"
            if self._is_stream:
                streams.add(self)
            self._has_begun = True
            kept = _kept(((name.lower(), value) for name, value in answer.raw_headers), OURS_IN_ANSWER)
            await self._send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for chunk in answer.content.iter_any():
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            self.end()
            await self._send({"type": "http.response.body", "body": b""})

    def abort(self) -> None:
        """Have `run` raise TimeoutError."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0.0)

    def end(self) -> None:
        """Watch the client no longer."""
        if self._watching is not None:
            self._watching.cancel()

    async def break_off(self, refused: Problem) -> None:
        """Answer a client that was not answered yet. Half an answer is cut off, so that nobody takes it for a whole."""
        if self._is_gone:
            return
        if not self._has_begun:
            await errors.response(refused)(self._scope, self._receive, self._send)
        elif self._is_stream:  # it has no end that could be missing
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._send({"type": "http.response.body", "body": b""})

    async def _body(self) -> bytes | AsyncIterator[bytes] | None:
        names = {name for name, _ in self._scope["headers"]}
        if names.isdisjoint((b"content-length", b"transfer-encoding")):
            self._watch()
            return None
        first = await self._next()
        if first.get("more_body", False):
            return self._stream(first)
        self._watch()
        return first.get("body") or None

    async def _stream(self, message: Message) -> AsyncIterator[bytes]:
        yield message.get("body", b"")
        while message.get("more_body", False):
            message = await self._next()
            yield message.get("body", b"")
        self._watch()

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_gone = True
            raise ConnectionResetError("the client has hung up")
        return message

    def _watch(self) -> None:
        """Break off when the client hangs up. Only once the request has been read: somebody else would read it."""

        async def until_gone() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._is_gone = True
            self.abort()

        self._watching = asyncio.create_task(until_gone())


def _request_headers(scope: Scope) -> list[tuple[str, str]]:
    kept = _kept(scope["headers"], OURS_IN_REQUEST)
    headers = [(name.decode("latin-1"), value.decode(errors="surrogateescape")) for name, value in kept]
    if scope["client"] is not None:
        headers.append(("X-Forwarded-For", scope["client"][0]))
    return [*headers, ("X-Forwarded-Proto", scope["scheme"])]


def _kept(headers: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Headers without those of our own connection, and without those which that connection names as its own."""
    all_headers = list(headers)
    named = {part.strip().lower() for name, value in all_headers if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in all_headers if name not in dropped and name not in named]

"""Server-sent events of what the caller may see, resumed with `Last-Event-ID` without a gap."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from services.escalation.api.common import Wired
from services.escalation.application.access import sight_of
from services.escalation.domain.directory.places import Sight
from services.escalation.monitoring.broadcast import Broadcast
from services.escalation.store.timeline import Place, TimelineEntry
from shared.http.guard import Caller, until_revoked
from shared.http.identity import Principal
from shared.http.openapi import problems
from shared.http.problem import FieldError, Problem, invalid

log = structlog.get_logger()
router = APIRouter()
KEEP_ALIVE_SECONDS = 15.0
RETRY_MILLISECONDS = 2_000
LONGEST_SECONDS = 900.0
"""Then the client comes again by itself, and its token is looked at again."""
GOODBYE_SECONDS = 1.0
MOST_LISTENERS = 1_000
"""Of one process."""
KEPT_LISTENERS = 100
"""Of these, for the desk and the leadership alone."""
MOST_OF_ONE = 20
"""Of one credential: a room of the desk may share one."""
EVENTS = (
    "Server-sent events: `id` is the place to resume from, `data` one event as docs/schemas describes its `type`."
    " An `id` without `data` moves the place and is no event."
)
_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class EventStream(Response):
    """Ends when the client has gone, is too slow or has been there too long, when its token is revoked, and when the
    service stops."""

    media_type = "text/event-stream"

    def __init__(
        self, request: Request, broadcast: Broadcast, caller: Principal, sight: Sight | None, begin: Place
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._request, self._broadcast, self._caller = request, broadcast, caller
        self._sight, self._begin = sight, begin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Problem where the places were taken since it was asked for."""
        require_place(self._broadcast, self._caller)
        units = None if self._sight is None else self._sight.units
        async with self._broadcast.listening(units, self._caller.subject) as listener:
            followed = self._broadcast.follow(listener, self._begin, KEEP_ALIVE_SECONDS)
            frames = _frames(followed, self._begin)
            sending = asyncio.create_task(self._send(frames, send))
            gone = asyncio.create_task(_gone(receive))
            with until_revoked(self._request) as revoked:
                ends = [asyncio.create_task(event.wait()) for event in (listener.ended, revoked)]
                works = {sending, gone, *ends}
                try:
                    await asyncio.wait(works, timeout=LONGEST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for work in works:
                        work.cancel()
                    await asyncio.wait(works)
        if not gone.cancelled():
            return
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, frames: AsyncIterator[bytes], send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        except Exception as error:
            log.warning("stream ended", error=type(error).__name__)


async def _frames(followed: AsyncIterator[tuple[list[TimelineEntry], Place]], begin: Place) -> AsyncIterator[bytes]:
    """An id without data moves the client's place and is no event to it."""
    yield b"retry: %d\nid: %d-%d\n\n" % (RETRY_MILLISECONDS, *begin)
    async for entries, place in followed:
        if entries:
            yield b"".join(e.frame for e in entries)
        else:
            yield b": still here\nid: %d-%d\n\n" % place


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def require_place(broadcast: Broadcast, caller: Principal) -> None:
    """Raises Problem 429 where this credential follows the stream too often here, 503 where too many follow it."""
    if broadcast.listeners_of(caller.subject) >= MOST_OF_ONE:
        again = {"Retry-After": str(RETRY_MILLISECONDS // 1_000)}
        raise Problem(429, f"you follow the stream {MOST_OF_ONE} times here: end one of them first", headers=again)
    kept = 0 if caller.role in ("desk", "leader") else KEPT_LISTENERS
    if broadcast.listeners >= MOST_LISTENERS - kept:
        raise Problem(503, "too many follow the stream here: try again in a moment, or on another replica")


@router.get(
    "/stream",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string", "description": EVENTS}}},
            "description": "events (CloudEvents 1.0), without an end",
        },
        **problems(
            {
                422: "`Last-Event-ID` is not an id of this stream",
                429: "the caller follows it too often here",
                503: "too many follow it here",
            }
        ),
    },
)
async def get_stream(
    request: Request,
    escalation: Wired,
    caller: Caller,
    last_event_id: Annotated[str | None, Header(description="the id of the last event that was received")] = None,
) -> Response:
    """What happens from now on, or since `Last-Event-ID`: one event of one incident each, those of the own ward."""
    broadcast: Broadcast = request.app.state.broadcast
    require_place(broadcast, caller)
    try:
        begin = await broadcast.begin(_place(last_event_id) if last_event_id else None)
    except ValueError as error:
        wrong = FieldError("#/Last-Event-ID", "not an id of this stream: connect again without one")
        raise invalid([wrong]) from error
    async with escalation.database.connect() as connection:
        sight = await sight_of(connection, escalation, caller)
    return EventStream(request, broadcast, caller, sight, begin)


def _place(event_id: str) -> Place:
    found = _ID.fullmatch(event_id.strip())
    if found is None:
        raise ValueError(event_id)
    return Place(int(found[1]), int(found[2]))

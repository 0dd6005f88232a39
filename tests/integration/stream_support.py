"""The stream's route on a real server, and a client that hears it."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cli.process import Server
from services.escalation.monitoring.broadcast import Broadcast
from services.escalation.store import timeline
from services.escalation.store.timeline import START, Line
from shared.http.identity import Principal, Role, TokenIssuer
from tests.integration.escalation_support import City, until
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Event
from tests.support import NIGHT, SINCE, new_id

URL = "/escalation/v1/stream"
SECONDS = 60.0


@dataclass
class Heard:
    """What one client has received, and where it would begin again."""

    last: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    beats: int = 0

    @property
    def numbers(self) -> list[str]:
        return [event["id"] for event in self.events]

    def take(self, block: str) -> None:
        """One block of the stream, as a browser's EventSource takes it."""
        fields = [line.partition(": ") for line in block.split("\n")]
        self.last = next((value for name, _, value in fields if name == "id"), self.last)
        data = [value for name, _, value in fields if name == "data"]
        if data:
            self.events.append(orjson.loads("\n".join(data)))
        else:
            self.beats += 1


@dataclass
class House:
    """The stream's route on a real server."""

    city: City
    broadcast: Broadcast
    client: AsyncClient
    tokens: TokenIssuer
    server: uvicorn.Server

    def headers(self, caller: Principal | Role, last: str | None = None) -> dict[str, str]:
        principal = caller if isinstance(caller, Principal) else Principal(f"mau-{caller}", caller)
        bearer = {"authorization": f"Bearer {self.tokens.issue(principal)}"}
        return bearer | ({"last-event-id": last} if last is not None else {})

    @asynccontextmanager
    async def answering(self, caller: Principal | Role, last: str | None = None) -> AsyncGenerator[Response]:
        async with self.client.stream("GET", URL, headers=self.headers(caller, last)) as answer:
            yield answer

    async def hear(self, heard: Heard, caller: Principal | Role, enough: Callable[[Heard], bool]) -> None:
        """Connect, go on behind what was heard, and leave once it is enough."""
        async with asyncio.timeout(SECONDS), self.answering(caller, heard.last) as answer:
            assert answer.status_code == 200, await answer.aread()
            rest = ""
            async for part in answer.aiter_text():
                *blocks, rest = (rest + part).split("\n\n")
                for block in blocks:
                    heard.take(block)
                    if enough(heard):
                        return

    async def heard_by(self, caller: Principal | Role, count: int) -> list[str]:
        """Ids of the first `count` events of the whole timeline that the caller gets."""
        heard = Heard(last=f"{START.transaction}-{START.position}")
        await self.hear(heard, caller, lambda h: len(h.events) == count)
        return heard.numbers

    async def write(self, *lines: Line) -> None:
        async with self.city.escalation.database.begin() as connection:
            await write(connection, *lines)

    async def order(self) -> list[str]:
        return [event.event_id for event in await stored(self.city, Event)]

    async def until_read(self) -> None:
        """Until what is in the timeline has been given to those who listen."""
        self.broadcast.wake()
        async with self.city.escalation.database.connect() as connection:
            newest = await timeline.newest(connection)

        async def given() -> bool:
            return self.broadcast.place == newest

        await until(given, "the timeline is read")

    async def quiet(self) -> None:
        """Until nobody is connected."""

        async def nobody() -> bool:
            return self.broadcast.listeners == 0

        await until(nobody, "nobody listens")


@asynccontextmanager
async def serving(app: FastAPI, leaving: Callable[[], None]) -> AsyncGenerator[tuple[uvicorn.Server, str]]:
    """A server that says that it stops before it waits for its connections."""

    class Leaving(Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            leaving()
            await super().shutdown(sockets)

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = Leaving(uvicorn.Config(app, log_level="critical", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:

        async def started() -> bool:
            return server.started

        await until(started, "the server answers")
        yield server, f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        async with asyncio.timeout(SECONDS):
            await task


def a_line(event_id: str | None = None, *, ward: str | None = None, incident: str | None = None, size: int = 0) -> Line:
    event_id = event_id or new_id()
    data = {"text": "x" * size, "unit": {"code": ward, "valid_from": str(SINCE)}}
    body = orjson.dumps({"id": event_id, "type": "vn.trucban.thu", "data": data})
    return Line(event_id, incident, ward, "vn.trucban.thu", body, NIGHT)


async def write(connection: AsyncConnection, *lines: Line) -> None:
    await connection.execute(text("SELECT pg_current_xact_id()"))
    await timeline.add(connection, lines)

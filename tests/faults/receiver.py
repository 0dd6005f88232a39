"""A receiver of signed webhooks, which keeps what reaches it and can stop answering."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

SECRET = "whsec_" + "bXV0LWJpLW1hdC1jaHVuZy1jaG8tdGh1LW5naGllbQ"


@dataclass(frozen=True)
class Arrival:
    """A message that came whole, whether it was answered or not."""

    webhook_id: str
    body: bytes

    @property
    def deliveries(self) -> Sequence[str]:
        return [notice["delivery_id"] for notice in json.loads(self.body)["data"]["notices"]]


class Receiver:
    """Enter with `running_receiver`. Answers 200, but nothing while it keeps silent."""

    def __init__(self, port: int) -> None:
        self.arrivals: list[Arrival] = []
        self._port = port
        self._silences = 0
        self._speaking = asyncio.Event()
        self._speaking.set()

    def channel(self, name: str) -> str:
        return f"webhook://127.0.0.1:{self._port}/{name}?secret={SECRET}"

    async def keep_silent(self, seconds: float) -> None:
        self._silences += 1
        self._speaking.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._silences -= 1
            if not self._silences:
                self._speaking.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with one message: the product keeps none open."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
            body = await reader.readexactly(int(headers["content-length"]))
            self.arrivals.append(Arrival(headers["webhook-id"], body))
            await self._speaking.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender was killed, or has lost patience
        finally:
            writer.close()


@asynccontextmanager
async def running_receiver() -> AsyncGenerator[Receiver]:
    made: list[Receiver] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made[0].serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1")
    made.append(Receiver(server.sockets[0].getsockname()[1]))
    try:
        yield made[0]
    finally:
        server.close()


def other_bodies(arrivals: Sequence[Arrival]) -> list[str]:
    """Ids under which more than one body came."""
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for arrival in arrivals:
        bodies[arrival.webhook_id].add(arrival.body)
    return [webhook_id for webhook_id, found in bodies.items() if len(found) > 1]


def shown_twice(arrivals: Sequence[Arrival]) -> list[str]:
    """Deliveries that came under more than one id: a receiver that drops repeats by id shows them twice."""
    ids: dict[str, set[str]] = defaultdict(set)
    for arrival in arrivals:
        for delivery in arrival.deliveries:
            ids[delivery].add(arrival.webhook_id)
    return [delivery for delivery, found in ids.items() if len(found) > 1]

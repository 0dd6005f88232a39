"""Figures, a plain HTTP client that costs little, and the processes that are measured."""

import asyncio
import json
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = 3
"""How often what is compared is measured, by turns, so that a busy moment of the machine does not hit one side only."""


@dataclass(frozen=True)
class Figure:
    """One line of var/bench.json. `against_value` is in the unit of what was measured, not of the ratio."""

    name: str
    value: float
    unit: str
    against: str = ""
    against_value: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "value": round(self.value, 4),
            "unit": self.unit,
            "against": self.against,
            "against_value": round(self.against_value, 4),
        }


def ratio(name: str, value: float, unit: str, against: str, floor: float) -> Figure:
    """`value` as a part of `floor`: 1 is as fast as the floor."""
    return Figure(name, value / floor, f"ratio; measured {value:.0f} {unit}", against, floor)


class Timer:
    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


async def by_turns(*measurements: Callable[[int], Awaitable[float]]) -> list[float]:
    """The median of each measurement; each is given the number of its round."""
    rounds = [[await measure(number) for measure in measurements] for number in range(ROUNDS)]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


class Connection:
    """One keep-alive HTTP/1.1 connection, without what a full client does beside: the client must not be the limit."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def request(self, method: str, path: str, body: bytes = b"", token: str = "") -> tuple[int, bytes]:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        lower = answer.lower()
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        return int(answer[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def post_all(port: int, path: str, bodies: Sequence[bytes], token: str, concurrency: int) -> float:
    """Send every body over `concurrency` connections; returns requests a second. Raises on anything not taken."""
    waiting: Iterator[bytes] = iter(bodies)

    async def work() -> None:
        connection = await Connection.open(port)
        for body in waiting:
            status, answer = await connection.request("POST", path, body, token)
            if status >= 300 or b'"problem"' in answer:
                raise RuntimeError(f"POST {path} answered {status}: {answer[:200]!r}")
        connection.close()

    timer = Timer()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return len(bodies) / timer.seconds


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def process(
    *arguments: str, port: int, ready: str, environment: Mapping[str, str] | None = None
) -> AsyncGenerator[int]:
    """A Python process that answers GET `ready` on `port` with 200, until the block is left. Yields its id."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, env=os.environ | (environment or {})
    )
    try:
        await until(lambda: _answers(port, ready))
        yield child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        await asyncio.wait_for(child.wait(), 60)


async def _answers(port: int, path: str) -> bool:
    try:
        connection = await Connection.open(port)
    except OSError:
        return False
    try:
        return (await connection.request("GET", path))[0] == 200
    except (OSError, asyncio.IncompleteReadError):
        return False
    finally:
        connection.close()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 120.0) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


def write(figures: Sequence[Figure], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({f.name: f.as_json() for f in figures}, indent=2) + "\n", encoding="utf-8")

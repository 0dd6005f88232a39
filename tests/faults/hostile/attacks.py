"""What one caller can do to take the others down. Each attack goes on until it is cancelled, from another address."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

ADDRESS = "127.0.0.2"
"""The others come from 127.0.0.1."""
MEGABYTE = 1_000_000
PAUSE_SECONDS = 0.01


@dataclass
class Target:
    """What the attackers know, and what they are told."""

    port: int
    device: str
    officer: str
    """Tokens of one device and of one officer."""
    answers: dict[int, int] = field(default_factory=dict[int, int])
    """How often each status was answered; 0 where we were hung up on without an answer."""
    largest: int = 0
    """Bytes of the largest answer."""

    def count(self, answer: bytes) -> None:
        status = int(answer[9:12]) if answer[9:12].isdigit() else 0
        self.answers[status] = self.answers.get(status, 0) + 1
        self.largest = max(self.largest, len(answer))


Attack = Callable[[Target], Awaitable[None]]


async def _talk(target: Target, *parts: bytes, times: int = 1, pause: float = 0.0) -> bytes:
    """Send the parts over a new connection, the last one again and again, and return all that is answered."""
    answer = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port, local_addr=(ADDRESS, 0))
    except OSError:
        target.count(b"")
        return b""
    try:
        for part in (*parts[:-1], *(parts[-1] for _ in range(times))):
            if reader.at_eof():
                break
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        answer = await reader.read()
    except OSError:
        pass
    finally:
        writer.close()
        target.count(answer)
    return answer


async def _for_ever(count: int, work: Callable[[], Awaitable[object]]) -> None:
    """`count` attackers at a time."""

    async def attacker() -> None:
        while True:
            await work()
            await asyncio.sleep(PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(attacker())


def _head(method: str, path: str, length: int, token: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: city", "Connection: close"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Content-Length: {length}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode()


def _batch(target: Target, content: bytes, kind: str = "application/json") -> bytes:
    head = _head("POST", "/intake/v1/reports:batch", len(content), target.device)
    return head[:-2] + f"Content-Type: {kind}\r\n\r\n".encode() + content


async def long_address(target: Target) -> None:
    """An address of 200 MB, without a token."""
    await _for_ever(4, lambda: _talk(target, b"GET /", b"x" * MEGABYTE, times=200))


async def endless_headers(target: Target) -> None:
    begin = b"GET /intake/v1/wards HTTP/1.1\r\nHost: city\r\n"
    await _for_ever(4, lambda: _talk(target, begin, b"X-More: 1\r\n" * 10_000, times=2_000))


async def silent_sockets(target: Target) -> None:
    """1,100 connections that say nothing, without a token; each comes again when it is hung up on."""
    await _for_ever(1_100, lambda: _talk(target, b""))


async def slow_heads(target: Target) -> None:
    await _for_ever(
        400, lambda: _talk(target, b"GET /intake/v1/wards HTTP/1.1\r\n", b"X: 1\r\n", times=1_000, pause=1.0)
    )


async def slow_bodies(target: Target) -> None:
    begin = _head("POST", "/intake/v1/reports", 60_000, target.device)
    await _for_ever(400, lambda: _talk(target, begin, b"x", times=60_000, pause=1.0))


async def unknown_keys(target: Target) -> None:
    """One item of 380,000 unknown keys, in a batch of 4.9 MB."""
    content = orjson.dumps([{f"k{n}": 1 for n in range(380_000)}])
    await _for_ever(2, lambda: _talk(target, _batch(target, content)))


async def nonsense_items(target: Target) -> None:
    """A thousand items, each of a hundred unknown keys."""
    content = orjson.dumps([{f"unknown-key-{n}": 1 for n in range(100)}] * 1_000)
    await _for_ever(2, lambda: _talk(target, _batch(target, content)))


async def many_lines(target: Target) -> None:
    """5 MB of lines, of which each would be an item."""
    await _for_ever(2, lambda: _talk(target, _batch(target, b"{}\n" * 1_600_000, "application/x-ndjson")))


async def many_batches(target: Target) -> None:
    """Eight batches of 4 MB of one device at a time."""
    number = 0

    def batch() -> Awaitable[bytes]:
        nonlocal number
        number += 1
        items = [
            {
                "report_id": f"many-{number}-{n}",
                "category": "FIRECRACKER_SET_OFF",
                "ward": "14776",
                "occurred_at": "2023-02-01T10:10:00+07:00",
                "description": "pháo nổ " * 390,
            }
            for n in range(1_000)
        ]
        return _talk(target, _batch(target, orjson.dumps(items)))

    await _for_ever(8, batch)


async def many_streams(target: Target) -> None:
    """A thousand times /stream, with one officer's token."""
    await _for_ever(1_000, lambda: _talk(target, _head("GET", "/escalation/v1/stream", 0, target.officer)))


async def long_questions(target: Target) -> None:
    """About wards, without a token: no two are alike."""
    number = 0

    def ask() -> Awaitable[bytes]:
        nonlocal number
        number += 1
        length = 7_000 if number % 2 else 90
        return _talk(target, _head("GET", f"/intake/v1/wards?q={number:0{length}}", 0))

    await _for_ever(16, ask)


async def unknown_tokens(target: Target) -> None:
    token = target.device[:-8] + "AAAAAAAA"
    await _for_ever(16, lambda: _talk(target, _head("GET", "/intake/v1/reports", 0, token)))


ATTACKS: tuple[Attack, ...] = (
    long_address,
    endless_headers,
    silent_sockets,
    slow_heads,
    slow_bodies,
    unknown_keys,
    nonsense_items,
    many_lines,
    many_batches,
    many_streams,
    long_questions,
    unknown_tokens,
)


async def until_cancelled(attack: Attack, target: Target, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await attack(target)

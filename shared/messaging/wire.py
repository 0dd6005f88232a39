"""What every user of Redis here shares: the client, waiting after an error, the state of a stream's groups."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError, ResponseError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

FIELD = "__data__"
"""The one field of an entry. FastStream's own parsers read a plain JSON body from it."""
SOCKET_TIMEOUT = 5.0

_jitter = SystemRandom()
_TRANSIENT_SQLSTATES = ("08", "25006", "40", "53", "55P03", "57P", "58")
"""Connection, read-only (failover), serialization and deadlock, resources, lock, operator action, system error."""


def connection_options() -> dict[str, Any]:
    # no retry inside the client: it would hide an outage from health and send a command twice
    return {"retry": Retry(NoBackoff(), 0), "socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": 2.0}


def connect(url: str) -> Redis:
    """A client with the settings that messaging relies on. Close it with `aclose()`."""
    return Redis.from_url(url, **connection_options())


class Backoff:
    """Waiting after an error: doubling from 50 ms to 2 s, with jitter, cut short when `stop` is set."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self.attempt = 0

    def reset(self) -> None:
        self.attempt = 0

    async def wait(self) -> None:
        ceiling = min(2.0, 0.05 * 2 ** min(self.attempt, 10))
        self.attempt += 1
        await pause(self._stop, ceiling * _jitter.uniform(0.5, 1.0))


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Until `event` is set, at most `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def is_transient(error: BaseException) -> bool:
    """Whether the same work may well succeed later without anybody changing it."""
    if isinstance(error, OSError | OperationalError | InterfaceError | PoolTimeoutError):
        return True
    if isinstance(error, RedisError):
        return not isinstance(error, DataError)  # whatever Redis refuses now, it takes in another state
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", "") or "").startswith(_TRANSIENT_SQLSTATES)


def describe_error(error: BaseException) -> str:
    """Type of the error and where it arose; never its text, which may quote a person's words."""
    name = type(error).__name__
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        return f"{name}: {first['type']} at {'.'.join(str(part) for part in first['loc'])}"[:200]
    trace = error.__traceback__
    while trace and trace.tb_next and "site-packages" not in trace.tb_next.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{name}{place}"


def number_of(entry_id: bytes | str) -> int:
    """The part before the dash, which for our entries is the whole id."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0])


@dataclass(frozen=True)
class GroupState:
    """How far one group is, in entry numbers. `first_pending` is None when it owes no acknowledgement."""

    delivered: int
    pending: int
    first_pending: int | None

    @property
    def acknowledged(self) -> int:
        """Every entry up to this number has been acknowledged."""
        return self.delivered if self.first_pending is None else self.first_pending - 1


async def ensure_groups(redis: Redis, stream: str, groups: Iterable[str]) -> None:
    """From the beginning, never from the end: what was published before a group existed is owed to it too."""
    for group in groups:
        try:
            await redis.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


async def stream_state(redis: Redis, stream: str, groups: Iterable[str]) -> tuple[str, Mapping[str, GroupState]]:
    """Last id of the stream and the state of those `groups` that exist, read in one transaction: a FLUSHALL
    is before it or after it, never in between."""
    names = list(groups)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xinfo_stream(stream)
        pipe.xinfo_groups(stream)
        for group in names:
            pipe.xpending(stream, group)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
    for reply in replies[:2]:
        if isinstance(reply, Exception):
            if "no such key" in str(reply):
                return "0-0", {}
            raise reply
    info, found = replies[:2]
    delivered = {group["name"].decode(): number_of(group["last-delivered-id"]) for group in found}
    return info["last-generated-id"].decode(), {
        group: GroupState(delivered[group], pending["pending"], number_of(pending["min"]) if pending["min"] else None)
        for group, pending in zip(names, replies[2:], strict=True)
        if group in delivered
    }

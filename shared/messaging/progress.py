"""How far each group is, and whether everything has come to rest."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.messaging.outbox import Outbox
from shared.messaging.topology import dead_stream
from shared.messaging.wire import describe_error, is_transient, number_of, stream_state


@dataclass(frozen=True)
class GroupProgress:
    """`published` and `delivered` are entry numbers: the stream's last, and the last handed to the group."""

    stream: str
    group: str
    exists: bool
    published: int
    delivered: int
    pending: int
    idle_ms: int
    """Since the oldest entry that the group has not acknowledged was last handed to a consumer."""
    dead: int
    """Entries of the stream's dead letters, of all its groups; the service's dead_letter table has the bodies."""

    @property
    def caught_up(self) -> bool:
        return self.exists and self.delivered >= self.published and self.pending == 0


async def progress(redis: Redis, streams: Mapping[str, Sequence[str]]) -> list[GroupProgress]:
    """One for each group of each stream. Raises redis.exceptions.RedisError."""
    found: list[GroupProgress] = []
    for stream, groups in streams.items():
        last, states = await stream_state(redis, stream, groups)
        dead = await redis.xlen(dead_stream(stream))
        for group in groups:
            state = states.get(group)
            if state is None:
                found.append(GroupProgress(stream, group, False, number_of(last), 0, 0, 0, dead))
                continue
            oldest: list[Any] = await redis.xpending_range(stream, group, "-", "+", 1) if state.pending else []
            idle: int = oldest[0]["time_since_delivered"] if oldest else 0
            found.append(
                GroupProgress(stream, group, True, number_of(last), state.delivered, state.pending, idle, dead)
            )
    return found


async def is_drained(
    redis: Redis, outboxes: Sequence[tuple[AsyncEngine, Outbox]], streams: Mapping[str, Sequence[str]]
) -> bool:
    """Whether nothing is on its way: all published, delivered and acknowledged."""
    return await _under_way(redis, outboxes, streams) is None


async def wait_drained(
    redis: Redis, outboxes: Sequence[tuple[AsyncEngine, Outbox]], streams: Mapping[str, Sequence[str]], timeout: float
) -> None:
    """Raises TimeoutError that names what has not come to rest after `timeout` seconds; an outage is waited out."""
    delay, under_way = 0.002, None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    if (under_way := await _under_way(redis, outboxes, streams)) is None:
                        return
                except Exception as error:
                    if not is_transient(error):
                        raise
                    under_way = describe_error(error)
                await asyncio.sleep(delay)
                delay = min(delay * 1.5, 0.05)
    except TimeoutError:
        raise TimeoutError(f"not drained after {timeout:g} s: {under_way}") from None


async def _under_way(
    redis: Redis, outboxes: Sequence[tuple[AsyncEngine, Outbox]], streams: Mapping[str, Sequence[str]]
) -> str | None:
    """Groups, outboxes, groups again. At the first look nobody handled an event, after it nothing waited to be
    published, and nothing was published in between: so nothing was on its way from one stream to the next."""
    before = await _positions(redis, streams)
    if isinstance(before, str):
        return before
    for engine, outbox in outboxes:
        if waiting := await _unpublished(engine, outbox, before):
            return waiting
    after = await _positions(redis, streams)
    if isinstance(after, str):
        return after
    return None if after == before else "events were published in the meantime"


async def _positions(redis: Redis, streams: Mapping[str, Sequence[str]]) -> dict[str, int] | str:
    positions: dict[str, int] = {}
    for stream, groups in streams.items():
        last, states = await stream_state(redis, stream, groups)
        positions[stream] = number_of(last)
        for group in groups:
            state = states.get(group)
            if state is None or state.pending or state.delivered < positions[stream]:
                return f"group {group} of {stream}: {state} of {last}"
    return positions


async def _unpublished(engine: AsyncEngine, outbox: Outbox, published: Mapping[str, int]) -> str | None:
    rows = outbox.rows
    query = select(
        rows.c.stream,
        func.count().filter(rows.c.number.is_(None)).label("waiting"),
        func.max(rows.c.number).label("highest"),
    ).group_by(rows.c.stream)
    async with engine.connect() as connection:
        for row in await connection.execute(query):
            if row.waiting or row.highest > published.get(row.stream, 0):
                return f"outbox {rows.fullname} has rows for {row.stream} that are not published"
    return None

"""Whether all events have arrived: none waits to be published, delivered or acknowledged."""

import asyncio
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.messaging.errors import describe_error, is_transient
from shared.messaging.outbox import Outbox
from shared.messaging.stream import Broker


async def is_drained(
    broker: Broker, outboxes: Sequence[tuple[AsyncEngine, Outbox]], streams: Mapping[str, Sequence[str]]
) -> bool:
    """Whether every event of `outboxes` is published, and every group of `streams` has acknowledged all."""
    return await _under_way(broker, outboxes, streams) is None


async def wait_drained(
    broker: Broker, outboxes: Sequence[tuple[AsyncEngine, Outbox]], streams: Mapping[str, Sequence[str]], timeout: float
) -> None:
    """Wait until `is_drained`, also through an outage. Raises TimeoutError, which names what is still under way."""
    delay, under_way = 0.002, None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    if (under_way := await _under_way(broker, outboxes, streams)) is None:
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
    broker: Broker, outboxes: Sequence[tuple[AsyncEngine, Outbox]], streams: Mapping[str, Sequence[str]]
) -> str | None:
    """What is still under way, or None. Looks at the groups, the outboxes, and the groups again.

    At the first look no event is being handled. At the second no row waits to be published. If the third finds the
    streams as the first did, nothing was published in between. So no event was on its way from one stream to another.
    """
    before = await _published(broker, streams)
    if isinstance(before, str):
        return before
    for engine, outbox in outboxes:
        if waiting := await _unpublished(engine, outbox, before):
            return waiting
    after = await _published(broker, streams)
    if isinstance(after, str):
        return after
    return None if after == before else "events were published in the meantime"


async def _published(broker: Broker, streams: Mapping[str, Sequence[str]]) -> dict[str, int] | str:
    """The last number of each stream, or which group has not acknowledged all."""
    numbers: dict[str, int] = {}
    for name, groups in streams.items():
        state = await broker.stream(name, groups).state()
        numbers[name] = state.last_number
        for group in groups:
            known = state.groups.get(group)
            if known is None or not known.has_all(state.last_number):
                return f"group {group} of {name}: {known} of {state.last_id}"
    return numbers


async def _unpublished(engine: AsyncEngine, outbox: Outbox, published: Mapping[str, int]) -> str | None:
    """Which rows are not in their stream, or None."""
    rows = outbox.rows
    query = select(rows.c.stream, func.max(rows.c.number).label("highest")).group_by(rows.c.stream)
    async with engine.connect() as connection:
        for row in await connection.execute(query):
            if row.highest > published.get(row.stream, 0):
                return f"outbox {rows.fullname} has rows for {row.stream} that are not published"
    return None

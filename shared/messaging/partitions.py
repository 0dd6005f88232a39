"""Another number of partitions: what an outbox still owes gets its new stream, in its order."""

from collections.abc import Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import TextClause, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.messaging.outbox import Outbox
from shared.messaging.topology import partition_in, producer_of, route, streams


class StreamNumbers(NamedTuple):
    """The numbers of one stream where an epoch ends."""

    stream: str
    last: int
    """The last that was given."""
    handled: int
    """What every group had handled, and the outbox no longer owes."""
    moved: int = 0
    """How many events got a number above `last`."""

    @property
    def service(self) -> str:
        return producer_of(self.stream)

    @property
    def partition(self) -> int:
        return partition_in(self.stream)


async def stream_numbers(connection: AsyncConnection, outbox: Outbox) -> list[StreamNumbers]:
    """Of every stream that the outbox ever had, by partition."""
    rows, counters = outbox.rows, outbox.streams
    first = select(func.min(rows.c.number)).where(rows.c.stream == counters.c.stream).scalar_subquery()
    handled = func.coalesce(first - 1, counters.c.assigned)
    found = await connection.execute(select(counters.c.stream, counters.c.assigned, handled))
    return sorted((StreamNumbers(*row) for row in found), key=lambda numbers: numbers.partition)


async def move_rows(connection: AsyncConnection, outbox: Outbox, base: str, count: int) -> list[StreamNumbers]:
    """Give each row its stream among `count` partitions, and a number above all that this stream has given.

    In the caller's transaction, which has the tables to itself. Two rows of one stream keep their order, so those of a
    ward do. What streams still hold under numbers up to the old `last` is never published again. Idempotent only by
    the caller's transaction: a second call moves all rows once more.
    """
    rows, counters = outbox.rows, outbox.streams
    before = {numbers.stream: numbers for numbers in await stream_numbers(connection, outbox)}
    missing = [name for name in streams(base, count) if name not in before]
    if missing:
        await connection.execute(insert(counters), [{"stream": name, "assigned": 0} for name in missing])
        before |= {name: StreamNumbers(name, 0, 0) for name in missing}
    await connection.execute(text(f"UPDATE {counters.fullname} SET closed = assigned"))  # noqa: S608 - our own name
    await connection.execute(_move(outbox), await _targets(connection, outbox, base, count))
    await connection.execute(_count_moved(outbox))
    moved = select(rows.c.stream, func.count().label("moved")).group_by(rows.c.stream)
    counts = {row.stream: row.moved for row in await connection.execute(moved)}
    return _with_moved(list(before.values()), counts)


def _with_moved(numbers: Sequence[StreamNumbers], counts: dict[str, int]) -> list[StreamNumbers]:
    found = (each._replace(moved=counts.get(each.stream, 0)) for each in numbers)
    return sorted(found, key=lambda each: each.partition)


async def _targets(connection: AsyncConnection, outbox: Outbox, base: str, count: int) -> dict[str, list[object]]:
    """The stream of each row, as arrays. Bodies are read one after another: there may be many."""
    rows = outbox.rows
    found: dict[str, list[object]] = {"streams": [], "numbers": [], "targets": []}
    async with connection.stream(select(rows.c.stream, rows.c.number, rows.c.body)) as waiting:
        async for row in waiting:
            found["streams"].append(row.stream)
            found["numbers"].append(row.number)
            found["targets"].append(route(base, _key_of(row.body), count))
    return found


def _key_of(body: bytes) -> str:
    """The ward, which is the key of every event's partition; '' for an event that concerns none."""
    unit = orjson.loads(body)["data"].get("unit")
    return unit["code"] if unit else ""


def _move(outbox: Outbox) -> TextClause:
    """Rows of several streams come together by time; those of one stream never pass one another."""
    return text(
        f"""
        UPDATE {outbox.rows.fullname} AS moving SET stream = placed.target, number = counter.closed + placed.nth
        FROM (
            SELECT stream, number, target,
                row_number() OVER (PARTITION BY target ORDER BY decided_at, stream, number) AS nth
            FROM (
                SELECT o.stream, o.number, place.target,
                    max(o.created_at) OVER (PARTITION BY o.stream ORDER BY o.number) AS decided_at
                FROM {outbox.rows.fullname} o
                JOIN unnest(CAST(:streams AS text[]), CAST(:numbers AS bigint[]), CAST(:targets AS text[]))
                    AS place (stream, number, target) USING (stream, number)
            ) AS owed
        ) AS placed
        JOIN {outbox.streams.fullname} AS counter ON counter.stream = placed.target
        WHERE moving.stream = placed.stream AND moving.number = placed.number
        """  # noqa: S608 - our own names
    )


def _count_moved(outbox: Outbox) -> TextClause:
    return text(
        f"""
        UPDATE {outbox.streams.fullname} AS counter SET assigned = closed + moved.count
        FROM (SELECT stream, count(*) FROM {outbox.rows.fullname} GROUP BY stream) AS moved
        WHERE counter.stream = moved.stream
        """  # noqa: S608 - our own names
    )

"""Events that a service's own transaction has decided to publish, until every group has handled them.

An entry's id in its stream is made of a number of ours, which the event is given in the transaction that decides it. A
counter row for each stream gives them without a gap, and in the order of the commits: its lock is held until the end of
the transaction. So whoever sees a number sees all numbers below it. What the broker has is never remembered, only
read: it is the stream's own last id. The broker may lose anything at any moment. A stream that is empty, a stream that
ends earlier than before, and a relay killed before it appended are one case: append the rows with a number above the
last id. No clock is needed, and no mark of the broker's life.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, LargeBinary, MetaData, Table, Text, TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.messaging.epochs import check_partitions, epoch_table


@dataclass(frozen=True)
class Outbox:
    """The tables of one service's outbox."""

    rows: Table
    """The events still owed to some group."""
    streams: Table
    """The highest number ever given, by stream."""
    epochs: Table
    """How many partitions there are."""


class Outgoing(NamedTuple):
    event_id: str
    stream: str
    body: bytes


def outbox_tables(metadata: MetaData, prefix: str = "", epochs: Table | None = None) -> Outbox:
    """The tables, in the metadata's schema.

    `prefix`: of the names of a further outbox, whose streams are not divided by ward, beside the one of `epochs`.
    """
    rows = Table(
        f"{prefix}outbox",
        metadata,
        Column("stream", Text, primary_key=True),
        Column("number", BigInteger, primary_key=True, autoincrement=False, comment="place in the stream"),
        Column("event_id", Text, nullable=False, unique=True),
        Column("body", LargeBinary, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    )
    streams = Table(
        f"{prefix}outbox_stream",
        metadata,
        Column("stream", Text, primary_key=True),
        Column("assigned", BigInteger, nullable=False, comment="never given twice, so that an id means one event"),
        Column("closed", BigInteger, nullable=False, server_default="0", comment="up to here, no longer published"),
    )
    return Outbox(rows, streams, epoch_table(metadata) if epochs is None else epochs)


async def add(
    connection: AsyncConnection, outbox: Outbox, events: Sequence[Outgoing], *, partitions: int | None = None
) -> None:
    """Add events in the caller's transaction. Their order becomes their order in the stream.

    Take every other lock before, and commit soon: until then nobody else adds to these streams. A transaction that
    calls this more than once calls `lock_streams` first. Wake the relay after the commit.

    `partitions`: by which the streams were chosen; None: by the number that this transaction has read. Raises
    PartitionsError if another is stored, and IntegrityError for an event id that waits already.
    """
    if not events:
        return
    places, count = list[int](), Counter[str]()
    for event in events:
        count[event.stream] += 1
        places.append(count[event.stream])
    columns = {
        "streams": [event.stream for event in events],
        "places": places,
        "ids": [event.event_id for event in events],
        "bodies": [event.body for event in events],
    }
    stored = await connection.scalar(_adding(outbox), columns)
    if partitions is not None:
        check_partitions(partitions, stored)


async def lock_streams(connection: AsyncConnection, outbox: Outbox) -> None:
    """Lock all streams in order, for a transaction that adds more than once: so two of them cannot deadlock."""
    streams = outbox.streams
    await connection.execute(select(streams.c.stream).order_by(streams.c.stream).with_for_update())


@cache
def _adding(outbox: Outbox) -> TextClause:
    """The statement of `add`: take as many numbers of each stream as it has events, and return the stored number of
    partitions. It locks the streams in order.
    """
    return text(
        f"""
        WITH given AS (
            SELECT * FROM unnest(
                CAST(:streams AS text[]), CAST(:places AS bigint[]), CAST(:ids AS text[]), CAST(:bodies AS bytea[])
            ) AS given (stream, place, event_id, body)
        ),
        wanted AS (SELECT stream, count(*) AS count FROM given GROUP BY stream),
        taken AS (
            INSERT INTO {outbox.streams.fullname} AS streams (stream, assigned)
            SELECT stream, count FROM wanted ORDER BY stream
            ON CONFLICT (stream) DO UPDATE SET assigned = streams.assigned + excluded.assigned
            RETURNING stream, assigned
        ),
        added AS (
            INSERT INTO {outbox.rows.fullname} (stream, number, event_id, body)
            SELECT given.stream, taken.assigned - wanted.count + given.place, given.event_id, given.body
            FROM given JOIN wanted USING (stream) JOIN taken USING (stream)
        )
        SELECT partitions FROM {outbox.epochs.fullname} ORDER BY number DESC LIMIT 1
        """  # noqa: S608 - names of ours
    )


def with_seq(body: bytes, number: int) -> bytes:
    """The body as it is published: the number is its `seq`. It is no part of what is stored, hashed or promised."""
    return b'%b,"seq":%d}' % (body[:-1], number) if body.endswith(b"}") else body

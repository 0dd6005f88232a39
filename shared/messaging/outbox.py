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
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, LargeBinary, MetaData, Table, Text, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert

from shared.database import copy_records, given, given_rows
from shared.messaging.epochs import check_partitions, epoch_table, stored_partitions


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
    numbers, stored = await _reserve(connection, outbox, Counter(event.stream for event in events))
    if partitions is not None:
        check_partitions(partitions, stored)
    records: list[tuple[object, ...]] = []
    for event_id, stream, body in events:
        numbers[stream] += 1
        records.append((stream, numbers[stream], event_id, body))
    await copy_records(connection, outbox.rows, ("stream", "number", "event_id", "body"), records)


async def lock_streams(connection: AsyncConnection, outbox: Outbox) -> None:
    """Lock all streams in order, for a transaction that adds more than once: so two of them cannot deadlock."""
    streams = outbox.streams
    await connection.execute(select(streams.c.stream).order_by(streams.c.stream).with_for_update())


async def _reserve(
    connection: AsyncConnection, outbox: Outbox, counts: Counter[str]
) -> tuple[dict[str, int], int | None]:
    """Take as many numbers of each stream. Returns the last that was given before, and the stored number of partitions.

    Locks the streams in order.
    """
    wanted = given(stream=list(counts), count=list(counts.values()))
    found = (await connection.execute(_reserving(outbox), wanted)).all()
    return {row.stream: row.assigned - counts[row.stream] for row in found}, found[0].partitions


@cache
def _reserving(outbox: Outbox) -> ReturningInsert[*tuple[Any, ...]]:
    """The statement of `_reserve`, which runs in every transaction that adds."""
    streams, wanted = outbox.streams, given_rows(stream=Text(), count=BigInteger())
    reserve = insert(streams).from_select(
        ["stream", "assigned"], select(wanted.c.stream, wanted.c.count).order_by(wanted.c.stream)
    )
    return reserve.on_conflict_do_update(
        index_elements=[streams.c.stream], set_={"assigned": streams.c.assigned + reserve.excluded.assigned}
    ).returning(streams.c.stream, streams.c.assigned, stored_partitions(outbox.epochs).label("partitions"))


def with_seq(body: bytes, number: int) -> bytes:
    """The body as it is published: the number is its `seq`. It is no part of what is stored, hashed or promised."""
    return b'%b,"seq":%d}' % (body[:-1], number) if body.endswith(b"}") else body

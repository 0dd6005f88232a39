"""Events that a service's own transaction has decided to publish, and the relay that brings them to Redis.

A row stays until every group has acknowledged it, for Redis may lose anything at any moment.

An entry's id in its stream is ours: `<number>-0`. The relay that holds the stream's lock gives the rows numbers,
in order, and commits that *before* it sends them. What Redis has is then never remembered, only read: it is the
stream's own last id. A FLUSHALL (last id 0), a lost tail of the append-only file (last id lower than before) and a
relay killed before it sent are one case: send the rows with a number above the last id. No clock, no run id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, LargeBinary, MetaData, Table, Text, func
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database import copy_records


@dataclass(frozen=True)
class Outbox:
    """`rows`: the events still owed to some group. `streams`: the highest number ever given, by stream."""

    rows: Table
    streams: Table


class Outgoing(NamedTuple):
    event_id: str
    stream: str
    body: bytes


def outbox_tables(metadata: MetaData) -> Outbox:
    """The two tables, in the metadata's schema."""
    rows = Table(
        "outbox",
        metadata,
        Column("seq", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", Text, nullable=False, unique=True),
        Column("stream", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("number", BigInteger, comment="place in the stream; null: not yet given one"),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    )
    Index("outbox_unnumbered", rows.c.stream, rows.c.seq, postgresql_where=rows.c.number.is_(None))
    Index("outbox_numbered", rows.c.stream, rows.c.number, unique=True)
    streams = Table(
        "outbox_stream",
        metadata,
        Column("stream", Text, primary_key=True),
        Column("assigned", BigInteger, nullable=False, comment="never given twice, so that an id means one event"),
    )
    return Outbox(rows, streams)


async def add(connection: AsyncConnection, outbox: Outbox, events: Sequence[Outgoing]) -> None:
    """In the caller's transaction; the order of `events` becomes their order in the stream. Wake the relay after
    the commit. Raises IntegrityError for an event id that waits already."""
    await copy_records(connection, outbox.rows, Outgoing._fields, events)

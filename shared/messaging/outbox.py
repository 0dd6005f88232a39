"""Events that a service's own transaction has decided to publish, until every group has acknowledged them.

An entry's id in its stream is made of a number of ours. The relay that holds the stream's lock gives the rows
numbers, in order, and commits them *before* it appends. What the broker has is then never remembered, only read: it
is the stream's own last id. The broker may lose anything at any moment. A stream that is empty, a stream that ends
earlier than before, and a relay killed before it appended are one case: append the rows with a number above the last
id. No clock is needed, and no mark of the broker's life.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, LargeBinary, MetaData, Table, Text, func
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database import copy_records


@dataclass(frozen=True)
class Outbox:
    """The tables of one service's outbox."""

    rows: Table
    """The events still owed to some group."""
    streams: Table
    """The highest number ever given, by stream."""


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
    """Add events in the caller's transaction. Their order becomes their order in the stream.

    Wake the relay after the commit. Raises IntegrityError for an event id that waits already.
    """
    await copy_records(connection, outbox.rows, Outgoing._fields, events)

"""Reading the log: pages by key, single entries, checkpoints, the whole for an export."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ledger.store.tables import checkpoint, entry, entry_official

EXPORT_CHUNK = 1000


class EntryRow(NamedTuple):
    idx: int
    leaf_hash: bytes
    body: bytes


class Head(NamedTuple):
    """A signed checkpoint: entries in the log, their root, the note."""

    size: int
    root: bytes
    note: str


_ENTRY = select(entry.c.idx, entry.c.leaf_hash, entry.c.body)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: each that is set must hold. Times are from inclusive, to exclusive."""

    incident: str | None = None
    ward: str | None = None
    category: str | None = None
    official: str | None = None
    kind: str | None = None
    occurred_from: datetime | None = None
    occurred_to: datetime | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        names = ("incident", "ward", "category", "kind")
        found: list[ColumnElement[bool]] = [
            entry.c[name] == value for name in names if (value := getattr(self, name)) is not None
        ]
        for column, low, high in (
            (entry.c.occurred_at, self.occurred_from, self.occurred_to),
            (entry.c.recorded_at, self.recorded_from, self.recorded_to),
        ):
            if low is not None:
                found.append(column >= low)
            if high is not None:
                found.append(column < high)
        return found


async def page(
    connection: AsyncConnection, wanted: Filter, *, after: int | None, descending: bool, limit: int
) -> list[EntryRow]:
    """At most `limit` entries beyond index `after`, in order of the index."""
    key = entry.c.idx if wanted.official is None else entry_official.c.idx
    query = _ENTRY.where(*wanted.conditions()).limit(limit)
    if wanted.official is not None:
        # keyset and order on the side table's own index, which holds one official's entries in order
        query = query.join(entry_official, entry_official.c.idx == entry.c.idx)
        query = query.where(entry_official.c.official == wanted.official)
    if after is not None:
        query = query.where(key < after if descending else key > after)
    rows = await connection.execute(query.order_by(key.desc() if descending else key))
    return [EntryRow(*row) for row in rows]


async def one(connection: AsyncConnection, index: int) -> EntryRow | None:
    row = (await connection.execute(_ENTRY.where(entry.c.idx == index))).one_or_none()
    return EntryRow(*row) if row else None


async def newest_recorded_at(connection: AsyncConnection) -> datetime | None:
    return await connection.scalar(select(func.max(entry.c.recorded_at)))


async def newest_checkpoint(connection: AsyncConnection) -> Head | None:
    query = select(checkpoint.c.size, checkpoint.c.root, checkpoint.c.note)
    row = (await connection.execute(query.order_by(checkpoint.c.size.desc()).limit(1))).one_or_none()
    return Head(*row) if row else None


async def note_at(connection: AsyncConnection, size: int) -> str | None:
    """The signed checkpoint of exactly this size: there is one at the end of each batch."""
    return await connection.scalar(select(checkpoint.c.note).where(checkpoint.c.size == size))


async def chunks(engine: AsyncEngine, size: int) -> AsyncGenerator[list[EntryRow]]:
    """The first `size` entries in order, in chunks; each a short query and connection of its own."""
    after = -1
    while after < size - 1:
        query = _ENTRY.where(entry.c.idx > after, entry.c.idx < size).order_by(entry.c.idx)
        async with engine.connect() as connection:
            rows = [EntryRow(*row) for row in await connection.execute(query.limit(EXPORT_CHUNK))]
        if not rows:
            return
        yield rows
        after = rows[-1].idx

"""Publishing one stream's outbox rows: give them numbers, append them, delete what everyone has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from sqlalchemy import Executable, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.messaging.outbox import Outbox
from shared.messaging.stream import Stream

log = structlog.get_logger()


class Row(NamedTuple):
    number: int
    body: bytes


@dataclass
class Position:
    """Where publishing stands in the stream."""

    last_id: str
    last_number: int
    """The stream's last entry, as we know it."""
    assigned: int
    """The highest number ever given to a row."""
    pruned: int = 0
    """Rows and entries up to this number are deleted."""


class Publisher:
    """Publishes the rows of one stream, while the relay holds that stream's lock on `connection` (AUTOCOMMIT)."""

    def __init__(self, connection: AsyncConnection, outbox: Outbox, stream: Stream, batch: int) -> None:
        self._connection = connection
        self._outbox = outbox
        self._stream = stream
        self._batch = batch

    async def find_position(self) -> Position:
        """To be called first, and again whenever the stream was not as expected."""
        rows, streams, name = self._outbox.rows, self._outbox.streams, self._stream.name
        await self._stream.create_groups()
        state = await self._stream.state()
        last = state.last_number
        await self._connection.execute(insert(streams).values(stream=name, assigned=0).on_conflict_do_nothing())
        query = select(streams.c.assigned).where(streams.c.stream == name)
        assigned: int = await self._connection.scalar(query) or 0
        if last > assigned:
            log.warning(
                "stream is ahead of the outbox; publishing all that remains again", stream=name, last=state.last_id
            )
            # in this order: after a crash in between, the same is found and done again
            await self._connection.execute(update(rows).where(rows.c.stream == name).values(number=None))
            assigned = last
            await self._connection.execute(update(streams).where(streams.c.stream == name).values(assigned=assigned))
        elif last < assigned:
            log.info("stream is behind the outbox; publishing what it lacks", stream=name, last=state.last_id)
        return Position(state.last_id, last, assigned)

    async def next_rows(self, position: Position) -> list[Row]:
        """The next rows to append: those that have a number and are not in the stream, then those without one.

        The numbers of what this returns are committed.
        """
        rows = self._outbox.rows
        if position.last_number < position.assigned:
            lacking = (
                select(rows.c.number, rows.c.body)
                .where(rows.c.stream == self._stream.name, rows.c.number > position.last_number)
                .order_by(rows.c.number)
                .limit(self._batch)
            )
            if found := await self._fetch(lacking):
                return found
        found = await self._fetch(self._give_numbers(position.assigned))
        if found:
            position.assigned = found[-1].number
        return found

    def _give_numbers(self, assigned: int) -> Executable:
        """One statement, so one commit: numbers to the next rows without one, and the highest number kept."""
        rows, streams, name = self._outbox.rows, self._outbox.streams, self._stream.name
        waiting = (
            select(rows.c.seq, func.row_number().over(order_by=rows.c.seq).label("nth"))
            .where(rows.c.stream == name, rows.c.number.is_(None))
            .order_by(rows.c.seq)
            .limit(self._batch)
            .subquery("waiting")
        )
        given = (
            update(rows)
            .where(rows.c.seq == waiting.c.seq)
            .values(number=assigned + waiting.c.nth)
            .returning(rows.c.number, rows.c.body)
            .cte("given")
        )
        kept = (
            update(streams)
            .where(streams.c.stream == name, select(given.c.number).exists())
            .values(assigned=select(func.max(given.c.number)).scalar_subquery())
            .cte("kept")
        )
        return select(given.c.number, given.c.body).order_by(given.c.number).add_cte(kept)

    async def append(self, position: Position, rows: Sequence[Row]) -> bool:
        """False, with nothing appended, if the stream was not as expected."""
        last_id = await self._stream.append(position.last_id, rows)
        if last_id is None:
            return False
        position.last_id, position.last_number = last_id, rows[-1].number
        return True

    async def prune(self, position: Position) -> bool:
        """Delete what every group has acknowledged. False if the stream or a group has lost something."""
        state = await self._stream.state()
        if state.last_id != position.last_id or len(state.groups) < len(self._stream.groups):
            return False
        floor = min((group.acknowledged for group in state.groups.values()), default=0)
        if floor > position.pruned:
            rows = self._outbox.rows
            # rows first: if the stream is lost now, what is published again begins above the floor
            done = delete(rows).where(rows.c.stream == self._stream.name, rows.c.number <= floor)
            await self._connection.execute(done)
            await self._stream.trim(floor)
            position.pruned = floor
        return True

    async def _fetch(self, query: Executable) -> list[Row]:
        return [Row(*row) for row in await self._connection.execute(query)]

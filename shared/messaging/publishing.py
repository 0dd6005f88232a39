"""Publishing one stream's outbox rows: give them numbers, append them, delete what everyone has."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

import structlog
from sqlalchemy import Executable, delete, extract, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.messaging.outbox import Outbox
from shared.messaging.stream import Stream, StreamState

log = structlog.get_logger()
_RESTART_SECONDS = 60.0


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
        self._restarts = 0
        self._restart_at = 0.0

    async def find_position(self) -> Position:
        """To be called first, and again whenever the stream was not as expected."""
        rows, streams, name = self._outbox.rows, self._outbox.streams, self._stream.name
        await self._stream.create_groups()
        # between two commands of the broker: see `_stay_awake`
        await self._connection.execute(insert(streams).values(stream=name, assigned=0).on_conflict_do_nothing())
        state = await self._stream.state()
        query = select(streams.c.assigned).where(streams.c.stream == name)
        assigned: int = await self._connection.scalar(query) or 0
        seen = max([state.last_number, *(group.handled or 0 for group in state.groups.values())])
        if seen > assigned:
            log.warning("stream is ahead of the outbox; publishing all that remains again", stream=name, last=seen)
            # in this order: after a crash in between, the same is found and done again
            await self._connection.execute(update(rows).where(rows.c.stream == name).values(number=None))
            assigned = seen
            await self._connection.execute(update(streams).where(streams.c.stream == name).values(assigned=assigned))
        elif state.last_number < assigned:
            log.info("stream is behind the outbox; publishing what it lacks", stream=name, last=state.last_id)
        first: int | None = await self._connection.scalar(select(func.min(rows.c.number)).where(rows.c.stream == name))
        await self._stream.raise_handled(assigned if first is None else first - 1)
        return Position(state.last_id, state.last_number, assigned)

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

    async def waiting_seconds(self) -> float:
        """For how long the oldest event that is not in the stream has been waiting. Needs no lock."""
        rows, last = self._outbox.rows, (await self._stream.state()).last_number
        age = extract("epoch", func.clock_timestamp() - func.min(rows.c.created_at))
        lacking = or_(rows.c.number.is_(None), rows.c.number > last)
        return float(await self._connection.scalar(select(age).where(rows.c.stream == self._stream.name, lacking)) or 0)

    async def append(self, position: Position, rows: Sequence[Row]) -> bool:
        """False, with nothing appended, if the stream was not as expected."""
        last_id = await self._stream.append(position.last_id, rows)
        if last_id is None:
            return False
        position.last_id, position.last_number = last_id, rows[-1].number
        return True

    async def prune(self, position: Position) -> bool:
        """Delete what every group has handled. False if the stream or a group is not as expected.

        A row goes once the broker owes it to no group, and each group itself says that it has handled it. Where the
        two differ, something was lost.
        """
        await self._stay_awake()
        state = await self._stream.state()
        groups = state.groups.values()
        if state.last_id != position.last_id or len(groups) < len(self._stream.groups):
            return False
        if any(group.handled is None for group in groups):
            return False
        if await self._has_lost(state):
            return await self._restart(position)
        floor = min((group.passed for group in groups), default=0)
        if floor > position.pruned:
            rows = self._outbox.rows
            # rows first: if the stream is lost now, what is published again begins above the floor
            done = delete(rows).where(rows.c.stream == self._stream.name, rows.c.number <= floor)
            if (await self._connection.execute(done)).rowcount:
                self._restarts = 0
            await self._stream.trim(floor)
            position.pruned = floor
        return True

    async def _has_lost(self, state: StreamState) -> bool:
        """Whether some group will never get some entry: it has passed it unhandled, or its next one is missing."""
        next_ones: list[int] = []
        for group in state.groups.values():
            handled = group.handled or 0
            if group.passed > handled:
                return True
            if (following := max(group.delivered, handled) + 1) <= state.last_number:
                next_ones.append(following)
        if not next_ones:
            return False
        await self._stay_awake()
        return await self._stream.missing(next_ones)

    async def _stay_awake(self) -> None:
        """Asked between two commands of the broker, however slow they are: a session that is silent for long is taken
        for that of a relay that has stalled."""
        await self._connection.execute(select(1))

    async def _restart(self, position: Position) -> bool:
        """Publish again all that is owed to some group. False once the stream is empty for it.

        Each time without progress in between it waits twice as long, up to a minute: a consumer of an older version
        does not say what it has handled, and must not make the stream run in a circle.
        """
        if monotonic() < self._restart_at:
            return True
        self._restart_at = monotonic() + min(_RESTART_SECONDS, 2.0**self._restarts)
        self._restarts += 1
        log.warning("entries were lost; publishing again what is not handled", stream=self._stream.name)
        await self._stream.restart(position.last_id)
        return False

    async def _fetch(self, query: Executable) -> list[Row]:
        return [Row(*row) for row in await self._connection.execute(query)]

"""Publishing one stream's outbox rows: append them, notice what was lost, delete what everyone has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    bindparam,
    cast,
    delete,
    extract,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.messaging.outbox import Outbox, with_seq
from shared.messaging.refused import Refusals
from shared.messaging.signing import Seals
from shared.messaging.stream import Broker, OutboxRow, Stream, StreamState

log = structlog.get_logger()
_RESTART_SECONDS = 60.0
READER = "relay"
"""Who has refused an entry, in metrics and log."""


class ForeignEntryError(Exception):
    """Somebody else goes on appending to the stream. The relay tries again."""


@dataclass
class Position:
    """Where publishing stands in the stream."""

    last_id: str
    last_number: int
    """The stream's last entry, as we know it."""
    pruned: int = 0
    """Rows and entries up to this number are deleted."""


class Publisher:
    """Publishes the rows of one stream, while the relay holds that stream's lock on `connection` (AUTOCOMMIT)."""

    def __init__(
        self,
        connection: AsyncConnection,
        outbox: Outbox,
        stream: Stream,
        seals: Seals,
        batch: int,
        awake_every: float,
    ) -> None:
        """`awake_every`: for how many seconds PostgreSQL may hear nothing of it."""
        self._connection = connection
        self._outbox = outbox
        self._stream = stream
        self._seals = seals
        self._batch = batch
        self._awake_every = awake_every
        self._restarts = 0
        self._restart_at = 0.0
        self._asked_at = 0.0
        self._refusals = Refusals(stream.name, READER)
        """When PostgreSQL was last asked something."""
        self.lost_seconds = 0.0
        """How old the oldest event is that somebody should have, if `prune` found entries lost and not yet published
        again; else 0."""

    async def find_position(self) -> Position:
        """To be called first, and again whenever the stream was not as expected."""
        await self._stream.create_groups()
        await self._stay_awake()
        if closed := await self._closed():
            await self._stream.trim(closed)  # a Redis that was set back may hold what has moved to other streams
        state = await self._signed_state()
        assigned, first = await self._numbers()
        seen = max([state.last_number, *(group.handled or 0 for group in state.groups.values())])
        if seen > assigned or not await self._is_ours(state):
            await self._renumber(max(seen, assigned))
            assigned, first = await self._numbers()
        elif state.last_number < assigned:
            log.info("stream is behind the outbox; publishing what it lacks", stream=self._stream.name)
        await self._stream.raise_handled(assigned if first is None else first - 1)
        return Position(state.last_id, state.last_number)

    async def _signed_state(self) -> StreamState:
        """The stream. If it ends with an entry that is not signed, it is emptied before, and what is owed comes again.

        The number of such an entry says nothing of what was published, and must not become one of ours.
        """
        state = await self._stream.state()
        if self._seals.is_ours(self._stream.name, state):
            return state
        self._refusals.note([state.last_id])
        self._refusals.tell()
        await self._stream.restart(state.last_id)
        state = await self._stream.state()
        if not self._seals.is_ours(self._stream.name, state):
            raise ForeignEntryError
        return state

    async def _numbers(self) -> tuple[int, int | None]:
        """The highest number that was ever given, and the lowest that is in the outbox."""
        rows, streams, name = self._outbox.rows, self._outbox.streams, self._stream.name
        assigned = select(streams.c.assigned).where(streams.c.stream == name).scalar_subquery()
        first = select(func.min(rows.c.number)).where(rows.c.stream == name).scalar_subquery()
        (row,) = await self._connection.execute(select(func.coalesce(assigned, 0), first))
        return row[0], row[1]

    async def _closed(self) -> int:
        """Up to here nothing is published any more: it was handled, or it has moved to another partition."""
        streams = self._outbox.streams
        closed = select(streams.c.closed).where(streams.c.stream == self._stream.name)
        return await self._connection.scalar(closed) or 0

    async def _is_ours(self, state: StreamState) -> bool:
        """Whether the stream's last entry is the event that has its number in the outbox, if one has."""
        rows = self._outbox.rows
        at_last = (rows.c.stream == self._stream.name, rows.c.number == state.last_number)
        body: bytes | None = await self._connection.scalar(select(rows.c.body).where(*at_last))
        if body is None:
            return True
        return state.last_entry is not None and state.last_entry.body == with_seq(body, state.last_number)

    async def _renumber(self, above: int) -> None:
        """Give all that remains new numbers: the database is older than the stream."""
        rows, streams, name = self._outbox.rows, self._outbox.streams, self._stream.name
        log.warning("stream is ahead of the outbox; publishing all that remains again", stream=name, last=above)
        async with self._connection.engine.begin() as connection:
            lock = insert(streams).values(stream=name, assigned=above)
            highest = func.greatest(streams.c.assigned, lock.excluded.assigned)
            lock = lock.on_conflict_do_update(index_elements=[streams.c.stream], set_={"assigned": highest})
            base = (await connection.execute(lock.returning(streams.c.assigned))).scalar_one()
            nth = func.row_number().over(order_by=rows.c.number).label("nth")
            old = select(rows.c.number, nth).where(rows.c.stream == name).subquery("old")
            new = update(rows).where(rows.c.stream == name, rows.c.number == old.c.number)
            count = (await connection.execute(new.values(number=base + old.c.nth))).rowcount
            await connection.execute(update(streams).where(streams.c.stream == name).values(assigned=base + count))

    async def next_rows(self, position: Position) -> list[OutboxRow]:
        """The next rows to append, as they are published."""
        given = {"stream": self._stream.name, "last": position.last_number, "most": self._batch}
        found = await self._connection.execute(_following(self._outbox.rows), given)
        self._asked_at = monotonic()
        return [self._signed(row.number, with_seq(row.body, row.number), row.since) for row in found]

    def _signed(self, number: int, body: bytes, since: int) -> OutboxRow:
        return OutboxRow(number, body, since, self._seals.sign(self._stream.name, number, body))

    async def waiting_seconds(self) -> float:
        """For how long the oldest event that is not in the stream has been waiting. Needs no lock."""
        last = (await self._stream.state()).last_number
        return await self._age(self._outbox.rows.c.number > last)

    async def _age(self, *which: ColumnElement[bool]) -> float:
        """In seconds, of the oldest row of the stream, or of these of its rows; 0 if there are none."""
        rows = self._outbox.rows
        age = extract("epoch", func.clock_timestamp() - func.min(rows.c.created_at))
        return float(await self._connection.scalar(select(age).where(rows.c.stream == self._stream.name, *which)) or 0)

    async def append(self, position: Position, rows: Sequence[OutboxRow]) -> bool:
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
        self._refusals.tell()
        await self._stay_awake()
        state = await self._stream.state()
        groups = state.groups.values()
        if state.last_id != position.last_id or len(groups) < len(self._stream.groups):
            return False
        if any(group.handled is None for group in groups):
            return False
        if await self._has_lost(state):
            self.lost_seconds = await self._age()
            return await self._restart(position)
        self.lost_seconds = 0.0
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
        """Ask something between two commands of the broker, however slow they are: a session that is silent for long is
        taken for that of a relay that has stalled."""
        if monotonic() - self._asked_at > self._awake_every:
            await self._connection.execute(select(1))
            self._asked_at = monotonic()

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


async def drop_unsigned(broker: Broker, streams: Mapping[str, Sequence[str]], seals: Seals) -> None:
    """Empty the streams that an older version has left, whose entries are not signed. Relays append them again.

    Call it while no service runs. Relays do the same when they start, but a consumer that is there before them would
    refuse such entries and complain.
    """
    for name, groups in streams.items():
        stream = broker.stream(name, groups)
        state = await stream.state()
        if not seals.is_ours(name, state):
            log.info("stream is not signed; its relay publishes it again", stream=name)
            await stream.restart(state.last_id)


@cache
def _following(rows: Table) -> Select[*tuple[Any, ...]]:
    """The statement of `next_rows`, which runs for every batch."""
    return (
        select(rows.c.number, rows.c.body, _since(rows).label("since"))
        .where(rows.c.stream == bindparam("stream"), rows.c.number > bindparam("last"))
        .order_by(rows.c.number)
        .limit(bindparam("most", type_=Integer))
    )


def _since(rows: Table) -> ColumnElement[int]:
    """When a row was stored, in milliseconds since 1970."""
    return cast(extract("epoch", rows.c.created_at) * 1000, BigInteger)

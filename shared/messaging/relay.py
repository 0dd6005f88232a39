"""The relay: outbox rows into their streams in order, again after a loss, and away once everyone has them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple
from zlib import crc32

import structlog
from redis.asyncio import Redis
from sqlalchemy import Executable, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.messaging.outbox import Outbox
from shared.messaging.wire import FIELD, Backoff, describe_error, ensure_groups, number_of, pause, stream_state

log = structlog.get_logger()
_LOCK_CLASS = 0x7472_7562

_APPEND = f"""
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
if last == ARGV[1] then
  for i = 2, #ARGV, 2 do
    last = redis.call('XADD', KEYS[1], ARGV[i], '{FIELD}', ARGV[i + 1])
  end
end
return last
"""
# A script and not MULTI: it stops at the first entry refused (out of memory, say), so that a last id never hides
# a gap; and it appends nothing when the stream is not what the relay thinks it is.


class _Row(NamedTuple):
    number: int
    body: bytes


@dataclass
class _Place:
    """Where we stand in one stream: its last id, the highest number given, and up to where it is pruned."""

    last: str
    assigned: int
    pruned: int = 0


class Relay:
    """Publishes `outbox`. Any number may run: for each stream one works, on a connection of `engine` that holds
    a PostgreSQL session lock (so not through a transaction-pooling proxy); the others wait for the lock."""

    def __init__(
        self,
        engine: AsyncEngine,
        redis: Redis,
        outbox: Outbox,
        streams: Mapping[str, Sequence[str]],
        *,
        poll: float = 0.1,
        gather: float = 0.0,
        batch: int = 500,
        prune_every: float = 1.0,
        stall_after: float = 30.0,
    ) -> None:
        """`streams`: stream → groups that must acknowledge. Seconds; `poll` finds other processes' rows,
        `gather` lets rows come together where no group is in a hurry."""
        self._engine = engine
        self._redis = redis
        self._outbox = outbox
        self._streams = streams
        self._poll = poll
        self._gather = gather
        self._batch = batch
        self._prune_every = prune_every
        self._stall_after = stall_after
        self._append = redis.register_script(_APPEND)
        self._stop = asyncio.Event()
        self._woken = {stream: asyncio.Event() for stream in streams}
        self._beat = dict.fromkeys(streams, monotonic())

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        self._stop.clear()
        self._beat = dict.fromkeys(self._streams, monotonic())
        tasks = [asyncio.create_task(self._lead(stream), name=f"relay {stream}") for stream in self._streams]
        try:
            yield
        finally:
            self._stop.set()
            self.wake()
            await asyncio.gather(*tasks)

    def wake(self) -> None:
        """There are new rows, committed."""
        for event in self._woken.values():
            event.set()

    def health_failure(self) -> str | None:
        """Why events are not being published, or None. A relay that waits for another's lock is healthy."""
        for stream, beat in self._beat.items():
            if (silent := monotonic() - beat) > self._stall_after:
                return f"relay of {stream} has done nothing for {silent:.0f} s: see its last warning in the log"
        return None

    async def _lead(self, stream: str) -> None:
        backoff = Backoff(self._stop)
        lock = select(func.pg_try_advisory_lock(_LOCK_CLASS, self._lock_key(stream)))
        while not self._stop.is_set():
            try:
                async with self._engine.connect() as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    if await connection.scalar(lock):
                        try:
                            await self._relay(connection, stream, backoff)
                        finally:
                            await connection.invalidate()  # a pooled connection would keep the lock
                self._beat[stream] = monotonic()
                await pause(self._stop, 10 * self._poll)
            except Exception as error:
                log.warning("relay waits", stream=stream, error=describe_error(error), attempt=backoff.attempt)
                await backoff.wait()

    def _lock_key(self, stream: str) -> int:
        key = crc32(f"{self._outbox.rows.fullname}/{stream}".encode())
        return key - (1 << 32) if key >= 1 << 31 else key

    async def _relay(self, connection: AsyncConnection, stream: str, backoff: Backoff) -> None:
        place = await self._find_place(connection, stream)
        prune_at = monotonic()
        while not self._stop.is_set():
            self._woken[stream].clear()
            rows = await self._next(connection, stream, place)
            if rows and not await self._send(stream, place, rows):
                place = await self._find_place(connection, stream)
                continue
            if monotonic() >= prune_at:
                prune_at = monotonic() + self._prune_every
                if not await self._prune(connection, stream, place):
                    place = await self._find_place(connection, stream)
                    continue
            self._beat[stream] = monotonic()
            backoff.reset()
            if len(rows) < self._batch:
                await pause(self._stop, self._gather)
                await pause(self._woken[stream], self._poll)

    async def _find_place(self, connection: AsyncConnection, stream: str) -> _Place:
        rows, streams = self._outbox.rows, self._outbox.streams
        await ensure_groups(self._redis, stream, self._streams[stream])
        last, _ = await stream_state(self._redis, stream, ())
        await connection.execute(insert(streams).values(stream=stream, assigned=0).on_conflict_do_nothing())
        assigned: int = await connection.scalar(select(streams.c.assigned).where(streams.c.stream == stream)) or 0
        if number_of(last) > assigned:
            log.warning("stream is ahead of the outbox; publishing all that remains again", stream=stream, last=last)
            # in this order: after a crash in between, the same is found and done again
            await connection.execute(update(rows).where(rows.c.stream == stream).values(number=None))
            assigned = number_of(last)
            await connection.execute(update(streams).where(streams.c.stream == stream).values(assigned=assigned))
        elif number_of(last) < assigned:
            log.info("stream is behind the outbox; publishing what it lacks", stream=stream, last=last)
        return _Place(last, assigned)

    async def _next(self, connection: AsyncConnection, stream: str, place: _Place) -> list[_Row]:
        rows = self._outbox.rows
        if number_of(place.last) < place.assigned:
            lacking = (
                select(rows.c.number, rows.c.body)
                .where(rows.c.stream == stream, rows.c.number > number_of(place.last))
                .order_by(rows.c.number)
                .limit(self._batch)
            )
            if found := await _fetch(connection, lacking):
                return found
        found = await _fetch(connection, self._give_numbers(stream, place.assigned))
        if found:
            place.assigned = found[-1].number
        return found

    def _give_numbers(self, stream: str, assigned: int) -> Executable:
        """One statement, so one commit: numbers to the next rows without one, and the highest number kept."""
        rows, streams = self._outbox.rows, self._outbox.streams
        waiting = (
            select(rows.c.seq, func.row_number().over(order_by=rows.c.seq).label("nth"))
            .where(rows.c.stream == stream, rows.c.number.is_(None))
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
            .where(streams.c.stream == stream, select(given.c.number).exists())
            .values(assigned=select(func.max(given.c.number)).scalar_subquery())
            .cte("kept")
        )
        return select(given.c.number, given.c.body).order_by(given.c.number).add_cte(kept)

    async def _send(self, stream: str, place: _Place, rows: Sequence[_Row]) -> bool:
        """False when the stream was not what we thought; nothing was appended then."""
        arguments: list[str | bytes] = [place.last]
        for row in rows:
            arguments += (f"{row.number}-0", row.body)
        last: bytes = await self._append(keys=[stream], args=arguments)
        place.last = f"{rows[-1].number}-0"
        return last.decode() == place.last

    async def _prune(self, connection: AsyncConnection, stream: str, place: _Place) -> bool:
        """Forget what every group has acknowledged. False when the stream or a group has lost something."""
        groups = self._streams[stream]
        last, states = await stream_state(self._redis, stream, groups)
        if last != place.last or len(states) < len(groups):
            return False
        floor = min((state.acknowledged for state in states.values()), default=0)
        if floor > place.pruned:
            rows = self._outbox.rows
            # rows first: if the stream is lost now, what is published again begins above the floor
            await connection.execute(delete(rows).where(rows.c.stream == stream, rows.c.number <= floor))
            await self._redis.xtrim(stream, minid=f"{floor + 1}-0", approximate=False)
            place.pruned = floor
        return True


async def _fetch(connection: AsyncConnection, query: Executable) -> list[_Row]:
    return [_Row(*row) for row in await connection.execute(query)]

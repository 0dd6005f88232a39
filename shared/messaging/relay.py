"""The relay: outbox rows into their streams in order, again after a loss, and away once everyone has them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from zlib import crc32

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.background import in_background
from shared.database import reading
from shared.messaging.backoff import Backoff, pause
from shared.messaging.errors import describe_error
from shared.messaging.outbox import Outbox
from shared.messaging.publishing import Publisher
from shared.messaging.signing import Seals
from shared.messaging.stream import Broker, Stream

log = structlog.get_logger()
LOCK_CLASS = 0x7472_7562
"""Class of the advisory locks of relays. There is one for each stream of each outbox."""
_END_STALLED = text(
    """
    SELECT a.pid, pg_terminate_backend(a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND a.datname = current_database()
    AND l.database = a.datid AND l.classid = CAST(CAST(:class AS bigint) AS oid)
    AND l.objid = CAST(CAST(:key AS bigint) AS oid)
    AND (a.state = 'idle' OR a.wait_event = 'ClientWrite')
    AND a.state_change < clock_timestamp() - make_interval(secs => :seconds)
    """
)
"""Ends the session that holds a lock and waits for its own process. One that PostgreSQL is working for is left."""


def lock_key(outbox: Outbox, stream: str) -> int:
    key = crc32(f"{outbox.rows.fullname}/{stream}".encode())
    return key - (1 << 32) if key >= 1 << 31 else key


class Relay:
    """Publishes `outbox`. Any number of relays may run: for each stream one works, and the others wait for its lock.

    The lock is one of a PostgreSQL session, on a connection of `engine`. So that connection must not lead through a
    proxy that pools by transaction. A relay at work asks PostgreSQL something every few seconds at least. One that
    does not has stalled, and those who wait end its session. It can do no harm if it wakes: its session is gone, and
    the stream's last id is not the one it expects.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        broker: Broker,
        outbox: Outbox,
        streams: Mapping[str, Sequence[str]],
        seals: Seals,
        *,
        poll: float = 2.0,
        gather: float = 0.0,
        batch: int = 500,
        prune_every: float = 1.0,
        lock_every: float = 1.0,
        stall_after: float = 12.0,
        take_over_after: float = 10.0,
    ) -> None:
        """`streams`: the groups that must acknowledge, by stream. `batch`: rows appended at once, at most.

        The rest is in seconds. `poll`: from one look for rows of which nobody told to the next. `gather`: a wait after
        each append, so that rows come together where no group is in a hurry. `lock_every`: from one try for the lock to
        the next. `stall_after`: without progress, until the relay is not healthy. `take_over_after`: that another relay
        holds the lock and does nothing, until it loses it; and that an event waits for another relay, until this one is
        not healthy.
        """
        self._engine = engine
        self._outbox = outbox
        self._streams: list[Stream] = [broker.stream(name, groups) for name, groups in streams.items()]
        self._seals = seals
        self._poll = poll
        self._gather = gather
        self._batch = batch
        self._prune_every = prune_every
        self._lock_every = lock_every
        self._broker = broker
        self._stall_after = stall_after
        self._take_over_after = take_over_after
        self._stop = asyncio.Event()
        self._woken = {name: asyncio.Event() for name in streams}
        self._look = asyncio.Event()
        """Set when some stream may have new rows."""
        self._assigned: dict[str, int] = {}
        """The highest number of each stream at the last look."""
        self._ring = asyncio.Event()
        """Set when other processes are to be told of new rows."""
        self._leading: set[str] = set()
        """The streams that this relay publishes."""
        self._beat = dict.fromkeys(streams, monotonic())
        self._overdue = dict.fromkeys(streams, 0.0)
        """For how many seconds an event has been waiting for a relay of another process, by stream."""
        self._lost_at: dict[str, float] = {}
        """Since when the oldest event waits of a stream with entries that are lost and not yet published again."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        self._stop.clear()
        self._beat = dict.fromkeys(self._beat, monotonic())
        again = self._again_and_again
        works = [again("relay waits", partial(self._lead, s), stream=s.name) for s in self._streams]
        works += [again("relay looks less often", self._watch), again("relay tells nobody", self._tell)]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            async with in_background(again("relay hears nobody", self._listen), "relay hears others"):
                yield
        finally:
            self._stop.set()
            self._look.set()
            self._ring.set()
            for woken in self._woken.values():
                woken.set()
            await asyncio.gather(*tasks)

    def wake(self) -> None:
        """There are new rows, committed by this process."""
        self._hear()
        if len(self._leading) < len(self._woken):
            self._ring.set()

    def _hear(self) -> None:
        (next(iter(self._woken.values())) if len(self._woken) == 1 else self._look).set()

    def health_failure(self) -> str | None:
        """Why events are not being published, or None. A relay that waits is healthy while another publishes."""
        for stream, beat in self._beat.items():
            if (silent := monotonic() - beat) > self._stall_after:
                return f"relay of {stream} has done nothing for {silent:.0f} s: see its last warning in the log"
        for stream, seconds in self._overdue.items():
            if seconds > self._take_over_after:
                return f"events for {stream} have waited {seconds:.0f} s for the relay of another process: see its log"
        for stream, at in self._lost_at.items():
            if (seconds := monotonic() - at) > self._take_over_after:
                return f"entries of {stream} were lost and not yet published again; the oldest is {seconds:.0f} s old"
        return None

    async def _again_and_again(self, failing: str, work: Callable[[Backoff], Awaitable[None]], **context: str) -> None:
        """Call `work` until we stop. After an error it waits; `work` resets the back-off when it gets on."""
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                await work(backoff)
            except Exception as error:
                log.warning(failing, **context, error=describe_error(error), attempt=backoff.attempt)
                await backoff.wait()

    async def _watch(self, backoff: Backoff) -> None:
        """Wake who publishes a stream when it has new rows, also those of other processes: one look for all streams."""
        counters = self._outbox.streams
        look = select(counters.c.stream, counters.c.assigned)
        async with reading(self._engine).connect() as connection:
            while not self._stop.is_set():
                self._look.clear()
                for row in await connection.execute(look):
                    if row.assigned != self._assigned.get(row.stream) and row.stream in self._woken:
                        self._woken[row.stream].set()
                    self._assigned[row.stream] = row.assigned
                backoff.reset()
                await pause(self._look, self._poll)

    async def _tell(self, backoff: Backoff) -> None:
        """Tell the other processes of new rows. One that does not hear it finds them by itself, later."""
        await self._ring.wait()
        self._ring.clear()
        await self._broker.ring(self._outbox.rows.fullname)
        backoff.reset()

    async def _listen(self, backoff: Backoff) -> None:
        async for _ in self._broker.rings(self._outbox.rows.fullname):
            self._hear()
            backoff.reset()

    async def _lead(self, stream: Stream, backoff: Backoff) -> None:
        lock = select(func.pg_try_advisory_lock(LOCK_CLASS, lock_key(self._outbox, stream.name)))
        async with self._engine.connect() as connection:  # not `reading`: its engine has to begin transactions too
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            awake_every = self._take_over_after / 3
            publisher = Publisher(connection, self._outbox, stream, self._seals, self._batch, awake_every)
            if await connection.scalar(lock):
                try:
                    self._overdue[stream.name] = 0.0
                    self._leading.add(stream.name)
                    await self._publish(publisher, stream.name, backoff)
                finally:
                    self._leading.discard(stream.name)
                    await connection.invalidate()  # a pooled connection would keep the lock
            else:
                await self._end_stalled(connection, stream.name)
                self._overdue[stream.name] = await publisher.waiting_seconds()
        self._beat[stream.name] = monotonic()
        await pause(self._stop, self._lock_every)

    async def _end_stalled(self, connection: AsyncConnection, stream: str) -> None:
        key = lock_key(self._outbox, stream) & 0xFFFF_FFFF
        given = {"class": LOCK_CLASS, "key": key, "seconds": self._take_over_after}
        for row in await connection.execute(_END_STALLED, given):
            log.warning("a relay has stalled; its session was ended", stream=stream, pid=row.pid)

    async def _publish(self, publisher: Publisher, stream: str, backoff: Backoff) -> None:
        position = await publisher.find_position()
        woken, prune_at = self._woken[stream], monotonic()
        woken.set()
        while not self._stop.is_set():
            rows = []
            if woken.is_set():
                woken.clear()
                rows = await publisher.next_rows(position)
            if rows and not await publisher.append(position, rows):
                position = await publisher.find_position()
                woken.set()
                continue
            if monotonic() >= prune_at:
                prune_at = monotonic() + self._prune_every
                is_expected = await publisher.prune(position)
                self._note_lost(stream, publisher.lost_seconds)
                if not is_expected:
                    position = await publisher.find_position()
                    woken.set()
                    continue
            self._beat[stream] = monotonic()
            backoff.reset()
            if len(rows) == self._batch:
                woken.set()
            else:
                await pause(self._stop, self._gather)
                await pause(woken, max(0.0, prune_at - monotonic()))

    def _note_lost(self, stream: str, seconds: float) -> None:
        if seconds:
            self._lost_at[stream] = monotonic() - seconds
        else:
            self._lost_at.pop(stream, None)

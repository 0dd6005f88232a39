"""The relay: outbox rows into their streams in order, again after a loss, and away once everyone has them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from zlib import crc32

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.messaging.backoff import Backoff, pause
from shared.messaging.errors import describe_error
from shared.messaging.outbox import Outbox
from shared.messaging.publishing import Publisher
from shared.messaging.stream import Broker, Stream

log = structlog.get_logger()
_LOCK_CLASS = 0x7472_7562


class Relay:
    """Publishes `outbox`. Any number of relays may run: for each stream one works, and the others wait for its lock.

    The lock is one of a PostgreSQL session, on a connection of `engine`. So that connection must not lead through a
    proxy that pools by transaction.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        broker: Broker,
        outbox: Outbox,
        streams: Mapping[str, Sequence[str]],
        *,
        poll: float = 0.1,
        gather: float = 0.0,
        batch: int = 500,
        prune_every: float = 1.0,
        stall_after: float = 30.0,
    ) -> None:
        """`streams`: the groups that must acknowledge, by stream. `batch`: rows appended at once, at most.

        The rest is in seconds. `poll`: from one look for other processes' rows to the next. `gather`: a wait after
        each append, so that rows come together where no group is in a hurry. `stall_after`: without progress, until
        the relay is not healthy.
        """
        self._engine = engine
        self._outbox = outbox
        self._streams: list[Stream] = [broker.stream(name, groups) for name, groups in streams.items()]
        self._poll = poll
        self._gather = gather
        self._batch = batch
        self._prune_every = prune_every
        self._stall_after = stall_after
        self._stop = asyncio.Event()
        self._woken = {name: asyncio.Event() for name in streams}
        self._beat = dict.fromkeys(streams, monotonic())

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        self._stop.clear()
        self._beat = dict.fromkeys(self._beat, monotonic())
        tasks = [asyncio.create_task(self._lead(stream), name=f"relay {stream.name}") for stream in self._streams]
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

    async def _lead(self, stream: Stream) -> None:
        backoff = Backoff(self._stop)
        lock = select(func.pg_try_advisory_lock(_LOCK_CLASS, self._lock_key(stream.name)))
        while not self._stop.is_set():
            try:
                async with self._engine.connect() as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    if await connection.scalar(lock):
                        try:
                            publisher = Publisher(connection, self._outbox, stream, self._batch)
                            await self._publish(publisher, stream.name, backoff)
                        finally:
                            await connection.invalidate()  # a pooled connection would keep the lock
                self._beat[stream.name] = monotonic()
                await pause(self._stop, 10 * self._poll)
            except Exception as error:
                log.warning("relay waits", stream=stream.name, error=describe_error(error), attempt=backoff.attempt)
                await backoff.wait()

    def _lock_key(self, stream: str) -> int:
        key = crc32(f"{self._outbox.rows.fullname}/{stream}".encode())
        return key - (1 << 32) if key >= 1 << 31 else key

    async def _publish(self, publisher: Publisher, stream: str, backoff: Backoff) -> None:
        position = await publisher.find_position()
        woken, prune_at = self._woken[stream], monotonic()
        while not self._stop.is_set():
            woken.clear()
            rows = await publisher.next_rows(position)
            if rows and not await publisher.append(position, rows):
                position = await publisher.find_position()
                continue
            if monotonic() >= prune_at:
                prune_at = monotonic() + self._prune_every
                if not await publisher.prune(position):
                    position = await publisher.find_position()
                    continue
            self._beat[stream] = monotonic()
            backoff.reset()
            if len(rows) < self._batch:
                await pause(self._stop, self._gather)
                await pause(woken, self._poll)

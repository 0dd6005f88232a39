"""A consumer of streams in a group: FastStream reads, and what it does not survive is caught around it.

FastStream 0.7 stops for good when its group is gone, spins when Redis answers READONLY or the like, and has no
dead letters. So its client's `xreadgroup` is replaced by one that never raises, and claiming is our own loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, TypeVar

import structlog
from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import FAKE_CONSUMER, BatchStreamMessage, RedisBatchStreamMessage
from redis.exceptions import RedisError
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.messaging.delivery import Delivery, Entry
from shared.messaging.wire import Backoff, connect, connection_options, describe_error, ensure_groups, pause

log = structlog.get_logger()
T = TypeVar("T")

_DELETE_STALE = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local known = {}
  for i = 1, #consumer, 2 do known[consumer[i]] = consumer[i + 1] end
  if known.pending == 0 and known.idle > tonumber(ARGV[3]) and known.name ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], known.name)
  end
end
"""
# A script: deleting a consumer that has just read something would lose what it read.


@dataclass
class _StreamReading(Generic[T]):
    """One stream: its deliveries, and where reading it stands."""

    delivery: Delivery[T]
    backoff: Backoff
    own: str | None = "-"
    """From this id on, entries are still pending from this consumer's earlier life; None: all read."""
    read_at: float = field(default_factory=monotonic)
    was_full: bool = False
    claimed_at: float = field(default_factory=monotonic)
    parked: asyncio.Event = field(default_factory=asyncio.Event)


class Consumer(Generic[T]):
    """Gives each event of `streams` to `handle` at least once, in the order of its stream.

    `handle` gets the parsed events of one stream, commits them itself, and must ignore an event id that it has
    seen. A transient error (database or broker away, deadlock) is met by the same batch again, in place, as long as
    it takes. After any other, the guilty event is singled out, tried again every `claim_idle` seconds and laid among
    the dead letters at its delivery number `dead_after`; what `parse` rejects goes there at once.
    """

    def __init__(
        self,
        url: str,
        streams: Sequence[str],
        group: str,
        name: str,
        parse: Callable[[bytes], T],
        handle: Callable[[Sequence[T]], Awaitable[None]],
        engine: AsyncEngine,
        dead_letters: Table,
        *,
        max_records: int = 500,
        claim_idle: float = 30.0,
        dead_after: int = 5,
        block: float = 0.5,
        gather: float = 0.0,
        stall_after: float = 30.0,
        grace: float = 15.0,
        stale_after: float = 3600.0,
    ) -> None:
        """`name` is unique among the group's consumers, and stays over a restart. `block`: seconds that a read
        waits in Redis. `gather`: seconds from one read to the next, unless it was full: larger batches where nobody
        waits for the outcome. `stall_after`: seconds without progress until it is not healthy. `grace`: seconds that a
        handler gets to finish when we stop. `stale_after`: seconds until an idle consumer without entries is deleted.
        """
        self._url = url
        self._group = group
        self._name = name
        self._max_records = max_records
        self._claim_idle = claim_idle
        self._block = block
        self._gather = gather
        self._stall_after = stall_after
        self._grace = grace
        self._stale_after = stale_after
        self._stop = asyncio.Event()
        self._redis = connect(url)
        self._delete_stale = self._redis.register_script(_DELETE_STALE)

        def reading(stream: str) -> _StreamReading[T]:
            delivery = Delivery(
                self._redis, stream, group, name, parse, handle, engine, dead_letters, dead_after, self._stop
            )
            return _StreamReading(delivery, Backoff(self._stop))

        self._readings = {stream: reading(stream) for stream in streams}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Starts whether Redis is there or not. On leaving, a batch in hand is finished. For one use."""
        every = self._claim_idle / 3
        tasks = [asyncio.create_task(self._read_on(), name=f"consumer {self._group}")]
        for reading in self._readings.values():
            reading.read_at = reading.claimed_at = monotonic()
            tasks.append(asyncio.create_task(self._repeat(reading, self._hold, every)))
            tasks.append(asyncio.create_task(self._repeat(reading, self._claim, every)))
        try:
            yield
        finally:
            self._stop.set()
            _, late = await asyncio.wait(tasks, timeout=self._grace)
            for task in late:
                log.warning("consumer does not finish in time", group=self._group, task=task.get_name())
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._redis.aclose()

    def health_failure(self) -> str | None:
        """Why events are not being handled, or None."""
        now = monotonic()
        for stream, reading in self._readings.items():
            silent = now - max(reading.read_at, reading.delivery.finished_at)
            unclaimed = now - max(reading.claimed_at, reading.delivery.finished_at) - self._claim_idle
            if max(silent, unclaimed) > self._stall_after:
                error = reading.delivery.last_error or "none; is Redis reachable?"
                return f"{self._group} has made no progress on {stream} for {silent:.0f} s; last error: {error}"
        return None

    async def _read_on(self) -> None:
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                await self._read_with(self._broker())
            except Exception as error:
                log.warning("consumer waits", group=self._group, error=describe_error(error), attempt=backoff.attempt)
                await backoff.wait()

    async def _read_with(self, broker: RedisBroker) -> None:
        try:
            for stream in self._readings:
                await ensure_groups(self._redis, stream, [self._group])
            client = await broker.connect()
            client.xreadgroup = self._read  # pyright: ignore[reportAttributeAccessIssue]
            await broker.start()
            await self._stop.wait()
            await asyncio.gather(*(reading.parked.wait() for reading in self._readings.values()))
        finally:
            await broker.stop()

    def _broker(self) -> RedisBroker:
        quiet: dict[str, Any] = {"logger": None, "apply_types": False, "graceful_timeout": None}
        broker = RedisBroker(self._url, **quiet, **connection_options())
        for stream, reading in self._readings.items():
            subscriber = broker.subscriber(
                # last_id: where FastStream creates a group that is gone; where to read, `_read` decides
                stream=StreamSub(
                    stream,
                    group=self._group,
                    consumer=self._name,
                    batch=True,
                    max_records=self._max_records,
                    last_id="0",
                ),
                ack_policy=AckPolicy.MANUAL,
                parser=_unparsed,
                decoder=_entries,
            )
            subscriber(reading.delivery.take)
        return broker

    async def _read(self, *, streams: dict[str, str], **_: Any) -> list[tuple[bytes, list[Entry]]]:
        """In place of the client's `xreadgroup`: raises nothing, and never returns nothing without having waited."""
        ((stream, _from),) = streams.items()
        reading = self._readings[stream]
        if self._stop.is_set():
            reading.parked.set()
            await asyncio.sleep(self._grace)
            return []
        try:
            entries = await self._own_pending(reading) or await self._new(reading)
        except Exception as error:
            await self._recover(reading, error)
            return []
        reading.read_at = monotonic()
        reading.backoff.reset()
        return [(stream.encode(), entries)] if entries else []

    async def _own_pending(self, reading: _StreamReading[T]) -> list[Entry]:
        """What this consumer had in hand when it was killed comes first, so that its order is kept."""
        if reading.own is None:
            return []
        entries = await reading.delivery.claim(0, reading.own, self._name)
        reading.own = f"({entries[-1][0].decode()}" if entries else None
        return entries

    async def _new(self, reading: _StreamReading[T]) -> list[Entry]:
        if not reading.was_full and (early := reading.read_at + self._gather - monotonic()) > 0:
            await pause(self._stop, early)
        streams: dict[Any, Any] = {reading.delivery.stream: ">"}
        reply: Any = await self._redis.xreadgroup(
            self._group, self._name, streams, count=self._max_records, block=round(self._block * 1000)
        )
        entries: list[Entry] = reply[0][1] if reply else []
        reading.was_full = len(entries) == self._max_records
        return entries

    async def _recover(self, reading: _StreamReading[T], error: Exception) -> None:
        reading.delivery.last_error = describe_error(error)
        stream = reading.delivery.stream
        log.warning("stream does not answer", stream=stream, group=self._group, error=reading.delivery.last_error)
        await reading.backoff.wait()
        if "NOGROUP" in str(error):
            try:
                await ensure_groups(self._redis, stream, [self._group])
            except (RedisError, OSError) as again:
                log.warning("group is gone", stream=stream, group=self._group, error=describe_error(again))

    async def _repeat(
        self, reading: _StreamReading[T], step: Callable[[_StreamReading[T]], Awaitable[None]], seconds: float
    ) -> None:
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                await step(reading)
                backoff.reset()
                await pause(self._stop, seconds)
            except Exception as error:
                log.warning(
                    "claiming waits", stream=reading.delivery.stream, group=self._group, error=describe_error(error)
                )
                await backoff.wait()

    async def _hold(self, reading: _StreamReading[T]) -> None:
        await reading.delivery.hold()

    async def _claim(self, reading: _StreamReading[T]) -> None:
        if reading.own is not None:
            return  # what is its own comes first; and before anything was read, there may be no group yet
        while entries := await reading.delivery.claim(round(self._claim_idle * 1000)):
            await reading.delivery.take(entries)
            if self._stop.is_set():
                return
        await self._delete_stale(
            keys=[reading.delivery.stream], args=[self._group, self._name, round(self._stale_after * 1000)]
        )
        reading.claimed_at = monotonic()


async def _unparsed(message: BatchStreamMessage) -> RedisBatchStreamMessage:
    # FastStream's own parser would decode, encode and decode the JSON of the whole batch
    return RedisBatchStreamMessage(message, b"", consumer=FAKE_CONSUMER, group=None)


async def _entries(message: RedisBatchStreamMessage) -> list[Entry]:
    raw = message.raw_message
    return list(zip(raw["message_ids"], raw["data"], strict=True))

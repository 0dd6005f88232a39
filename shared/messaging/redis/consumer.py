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

from shared.messaging.backoff import Backoff, pause
from shared.messaging.delivery import Delivery, Entry, Left, Waiting
from shared.messaging.errors import describe_error
from shared.messaging.redis.client import connect, connection_options
from shared.messaging.redis.consumer_group import RedisConsumerGroup
from shared.messaging.signing import Seals

log = structlog.get_logger()
T = TypeVar("T")
LOOK_SECONDS = 2.0
"""From one look at what the group has not handled to the next."""


@dataclass
class _StreamReading(Generic[T]):
    """One stream of a consumer: where its entries come from and go to, and how far reading and claiming are."""

    group: RedisConsumerGroup
    delivery: Delivery[T]
    backoff: Backoff
    own_from: str | None = "-"
    """From this id on, entries may be pending that this consumer does not have in hand: from its earlier life, or
    handed to a connection that broke. None: all of them were read."""
    is_new_life: bool = True
    """Whether entries may still be pending from an earlier life."""
    has_read: bool = False
    """Whether Redis ever answered a read. Before, nobody knows what waits."""
    read_at: float = field(default_factory=monotonic)
    """When Redis last answered a read."""
    was_full: bool = False
    """Whether the last read brought as many entries as it may."""
    claimed_at: float = field(default_factory=monotonic)
    """When the last round of claiming ended."""
    oldest: tuple[str, Waiting] | None = None
    """The id of the first entry that the group has not handled, whoever has it, and since when it is the first."""
    parked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once we stop and no read is under way."""


class Consumer(Generic[T]):
    """Gives each event of `streams` to `handle` at least once, in the order of its stream.

    `handle` gets the parsed events of one stream, commits them itself, and must ignore an event id that it has seen.
    After a transient error (database or broker away, deadlock) it gets the same batch again, as long as it takes.
    After any other error, the guilty event is singled out and tried again every `claim_idle` seconds. At its delivery
    number `dead_after` it becomes a dead letter. What `parse` rejects becomes one at once; its second argument is the
    service that has signed the event. What the handler answers to have `Left` comes again soon, in its place. What no
    service has signed is refused: it reaches neither.
    """

    def __init__(
        self,
        url: str,
        streams: Sequence[str],
        group: str,
        name: str,
        parse: Callable[[bytes, str], T],
        handle: Callable[[Sequence[T]], Awaitable[Left[T] | None]],
        engine: AsyncEngine,
        dead_letters: Table,
        seals: Seals,
        *,
        max_records: int = 500,
        claim_idle: float = 30.0,
        dead_after: int = 5,
        block: float = 0.5,
        gather: float = 0.0,
        stall_after: float = 12.0,
        waiting_after: float = 9.0,
        grace: float = 15.0,
        stale_after: float = 3600.0,
    ) -> None:
        """`name`: unique among the group's consumers, and the same after a restart. `max_records`: entries a read.

        The rest is in seconds. `block`: how long a read waits in Redis. `gather`: from one read to the next, unless
        it was full; so batches are larger where nobody waits for the outcome. `stall_after`: without progress, until
        the consumer is not healthy. `waiting_after`: that an event waits, until the consumer is not healthy.
        `grace`: for a handler to finish when we stop. `stale_after`: until an idle consumer without entries is deleted.
        """
        self._url = url
        self._group_name = group
        self._name = name
        self._max_records = max_records
        self._claim_idle = claim_idle
        self._block = block
        self._gather = gather
        self._stall_after = stall_after
        self._waiting_after = waiting_after
        self._grace = grace
        self._stale_after = stale_after
        self._stop = asyncio.Event()
        self._redis = connect(url)

        def reading(stream: str) -> _StreamReading[T]:
            redis_group = RedisConsumerGroup(self._redis, stream, group, name)
            delivery = Delivery(redis_group, seals, parse, handle, engine, dead_letters, dead_after, self._stop)
            return _StreamReading(redis_group, delivery, Backoff(self._stop))

        self._readings = {stream: reading(stream) for stream in streams}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Starts whether Redis is there or not. On leaving, a batch in hand is finished. For one use."""
        every = self._claim_idle / 3
        tasks = [asyncio.create_task(self._read_on(), name=f"consumer {self._group_name}")]
        for reading in self._readings.values():
            reading.delivery.progress_at = reading.read_at = reading.claimed_at = monotonic()
            tasks.append(asyncio.create_task(self._repeat(reading, self._hold, every)))
            tasks.append(asyncio.create_task(self._repeat(reading, self._claim, every)))
            tasks.append(asyncio.create_task(self._repeat(reading, self._look, LOOK_SECONDS)))
        try:
            yield
        finally:
            self._stop.set()
            _, late = await asyncio.wait(tasks, timeout=self._grace)
            for task in late:
                log.warning("consumer does not finish in time", group=self._group_name, task=task.get_name())
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._redis.aclose()

    def health_failure(self) -> str | None:
        """Why events are not being handled, or None."""
        found = (self._failure_of(reading) for reading in self._readings.values())
        return next((failure for failure in found if failure), None)

    def _failure_of(self, reading: _StreamReading[T]) -> str | None:
        where = f"{self._group_name} on {reading.group.stream}:"
        delivery, after = reading.delivery, self._waiting_after
        if not reading.has_read:
            return f"{where} nothing was read yet; last error: {delivery.last_error or 'none'}"
        if failure := delivery.waiting_failure(after):
            return f"{where} {failure}"
        if reading.oldest and reading.oldest[1].is_too_long(after, delivery.grace(after)):
            entry_id, waiting = reading.oldest
            who = "the process that has it: see the logs of all"
            return f"{where} entry {entry_id} has waited {waiting.seconds:.0f} s for {who}"
        silent = monotonic() - delivery.progress_at
        unclaimed = monotonic() - max(reading.claimed_at, delivery.finished_at) - self._claim_idle
        if max(silent, unclaimed) > self._stall_after:
            return f"{where} no progress for {silent:.0f} s; last error: {delivery.last_error or 'is Redis reachable?'}"
        return None

    async def _read_on(self) -> None:
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                await self._read_with(self._subscribed())
            except Exception as error:
                described = describe_error(error)
                for reading in self._readings.values():
                    reading.delivery.last_error = described
                log.warning("consumer waits", group=self._group_name, error=described, attempt=backoff.attempt)
                await backoff.wait()

    async def _read_with(self, faststream: RedisBroker) -> None:
        try:
            for reading in self._readings.values():
                await reading.group.create()
                reading.own_from = "-"
            client = await faststream.connect()
            client.xreadgroup = self._read  # pyright: ignore[reportAttributeAccessIssue]
            await faststream.start()
            await self._stop.wait()
            await asyncio.gather(*(reading.parked.wait() for reading in self._readings.values()))
        finally:
            await faststream.stop()

    def _subscribed(self) -> RedisBroker:
        """FastStream's broker, with a subscriber for each stream."""
        quiet: dict[str, Any] = {"logger": None, "apply_types": False, "graceful_timeout": None}
        faststream = RedisBroker(self._url, **quiet, **connection_options())
        for stream, reading in self._readings.items():
            subscriber = faststream.subscriber(
                # last_id: where FastStream creates a group that is gone; where to read, `_read` decides
                stream=StreamSub(
                    stream,
                    group=self._group_name,
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
        return faststream

    async def _read(self, *, streams: dict[str, str], **_: Any) -> list[tuple[bytes, list[tuple[bytes, Entry]]]]:
        """In place of the client's `xreadgroup`. Raises nothing. Waits before it returns an empty list."""
        ((stream, _from),) = streams.items()
        reading = self._readings[stream]
        if self._stop.is_set():
            reading.parked.set()
            await asyncio.sleep(self._grace)
            return []
        if reading.delivery.left_due_in == 0.0:
            await reading.delivery.take([])
        try:
            entries = await self._own_pending(reading) or await self._new(reading)
        except Exception as error:
            await self._recover(reading, error)
            return []
        reading.has_read, reading.read_at = True, monotonic()
        reading.backoff.reset()
        if not entries:
            reading.delivery.note_idle()
        # FastStream takes pairs of an id and anything
        return [(stream.encode(), [(entry.id.encode(), entry) for entry in entries])] if entries else []

    async def _own_pending(self, reading: _StreamReading[T]) -> list[Entry]:
        """What this consumer had in hand when it was killed comes first, so that its order is kept. So does what Redis
        gave to a connection that broke."""
        while reading.own_from is not None:
            known = reading.delivery.in_hand | reading.delivery.postponed
            entries, reading.own_from = await reading.group.claim_own(
                reading.own_from, known, is_delivery=reading.is_new_life
            )
            if entries:
                return entries
        reading.is_new_life = False
        return []

    async def _new(self, reading: _StreamReading[T]) -> list[Entry]:
        if not reading.was_full and (early := reading.read_at + self._gather - monotonic()) > 0:
            await pause(self._stop, early)
        due = reading.delivery.left_due_in
        block = self._block if due is None else min(self._block, due)
        # 0 would block for ever
        entries = await reading.group.read_new(self._max_records, max(1, round(block * 1000)))
        reading.was_full = len(entries) == self._max_records
        return entries

    async def _recover(self, reading: _StreamReading[T], error: Exception) -> None:
        reading.delivery.last_error = describe_error(error)
        reading.own_from = "-"
        context = {"stream": reading.group.stream, "group": self._group_name}
        log.warning("stream does not answer", **context, error=reading.delivery.last_error)
        await reading.backoff.wait()
        if "NOGROUP" in str(error):
            try:
                await reading.group.create()
            except (RedisError, OSError) as again:
                log.warning("group is gone", **context, error=describe_error(again))

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
                error_text = describe_error(error)
                log.warning("claiming waits", stream=reading.group.stream, group=self._group_name, error=error_text)
                await backoff.wait()

    async def _hold(self, reading: _StreamReading[T]) -> None:
        await reading.group.hold(reading.delivery.in_hand)

    async def _look(self, reading: _StreamReading[T]) -> None:
        """Another process of the group may have an entry and be stuck with it. Each one knows of that."""
        await reading.delivery.tell_refused()
        if reading.own_from is not None:
            return  # there may be no group yet
        found = await reading.group.oldest_pending()
        if found is None:
            reading.oldest = None
        elif reading.oldest is None or reading.oldest[0] != found.id:
            reading.oldest = found.id, Waiting(monotonic(), found.since)

    async def _claim(self, reading: _StreamReading[T]) -> None:
        if reading.own_from is not None:
            return  # what is its own comes first; and before anything was read, there may be no group yet
        while entries := await reading.group.claim_idle(round(self._claim_idle * 1000)):
            await reading.delivery.take(entries)
            if self._stop.is_set():
                return
        await reading.group.delete_stale(round(self._stale_after * 1000))
        reading.claimed_at = monotonic()


async def _unparsed(message: BatchStreamMessage) -> RedisBatchStreamMessage:
    # FastStream's own parser would decode, encode and decode the JSON of the whole batch
    return RedisBatchStreamMessage(message, b"", consumer=FAKE_CONSUMER, group=None)


async def _entries(message: RedisBatchStreamMessage) -> Any:
    """The second parts of the pairs that `_read` returned."""
    return message.raw_message["data"]

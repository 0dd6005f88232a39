"""What becomes of entries that a consumer has: handled and acknowledged, tried again, or dead letters."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.messaging.topology import dead_stream
from shared.messaging.wire import FIELD, Backoff, describe_error, is_transient

log = structlog.get_logger()
T = TypeVar("T")
Entry = tuple[bytes, Mapping[bytes, bytes]]
"""Id and fields, as Redis gives them."""
_CLAIM_AT_ONCE = 100
_DEAD_KEPT = 10_000


class _Letter(NamedTuple, Generic[T]):
    entry_id: bytes
    body: bytes
    event: T


def dead_letter_table(metadata: MetaData) -> Table:
    """Events that a group could not handle. `body` may hold personal data: erasure deletes here too."""
    return Table(
        "dead_letter",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("group", Text, nullable=False),
        Column("stream", Text, nullable=False),
        Column("entry_id", Text, nullable=False),
        Column("digest", Text, nullable=False, comment="SHA-256 of the body"),
        Column("body", LargeBinary, nullable=False),
        Column("error", Text, nullable=False, comment="type and place of the error, never its text"),
        Column("deliveries", Integer, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        UniqueConstraint("group", "stream", "digest"),
    )


async def dead_letter_health_failure(engine: AsyncEngine, dead_letters: Table) -> str | None:
    """For /readyz: a dead letter stays until somebody has looked at it."""
    async with engine.connect() as connection:
        count = await connection.scalar(select(func.count()).select_from(dead_letters))
    return f"{count} events in {dead_letters.fullname}: look at their error" if count else None


class Delivery(Generic[T]):
    """One stream's deliveries to one consumer of a group. Calls of the handler never overlap."""

    def __init__(
        self,
        redis: Redis,
        stream: str,
        group: str,
        name: str,
        parse: Callable[[bytes], T],
        handle: Callable[[Sequence[T]], Awaitable[None]],
        engine: AsyncEngine,
        dead_letters: Table,
        dead_after: int,
        stop: asyncio.Event,
    ) -> None:
        self.stream = stream
        self.finished_at = monotonic()
        self.last_error = ""
        self._redis = redis
        self._group = group
        self._name = name
        self._parse = parse
        self._handle = handle
        self._engine = engine
        self._dead_letters = dead_letters
        self._dead_after = dead_after
        self._stop = stop
        self._turn = asyncio.Lock()
        self._held: set[bytes] = set()
        self._deliveries: dict[bytes, int] = {}

    async def take(self, entries: Sequence[Entry]) -> None:
        """Returns when each entry is acknowledged, dead, or left pending for the claimer. Raises nothing."""
        ids = {entry_id for entry_id, _ in entries}
        self._held |= ids
        try:
            async with self._turn:
                letters = [letter for entry in entries if (letter := await self._read(*entry))]
                if letters:
                    await self._acknowledge(await self._handled(letters))
                self.finished_at = monotonic()
        except Exception as error:
            # FastStream, which calls this, would say nothing
            self.last_error = describe_error(error)
            log.error("delivery failed, its entries stay pending", **self._context(), error=self.last_error)
        finally:
            self._held -= ids
            for entry_id in ids:
                self._deliveries.pop(entry_id, None)

    async def hold(self) -> None:
        """Keep other consumers from claiming what is being handled or waits for its turn here."""
        held: list[Any] = list(self._held)
        if held:
            await self._redis.xclaim(self.stream, self._group, self._name, 0, held, justid=True)

    async def claim(self, idle_ms: int, start: str = "-", consumer: str | None = None) -> list[Entry]:
        """Up to 100 entries from `start` on, of `consumer` or of anyone, untouched for `idle_ms`; now ours."""
        found: list[Any] = await self._redis.xpending_range(
            self.stream, self._group, start, "+", _CLAIM_AT_ONCE, consumername=consumer, idle=idle_ms or None
        )
        if not found:
            return []
        counts: dict[bytes, int] = {entry["message_id"]: entry["times_delivered"] for entry in found}
        replies: list[Any] = await self._redis.xclaim(self.stream, self._group, self._name, idle_ms, list(counts))
        claimed: list[Entry] = [(entry_id, fields) for entry_id, fields in replies if entry_id is not None]
        for entry_id in counts.keys() - dict(claimed).keys():
            # another consumer was quicker; or it is deleted, and Redis 6.2 would keep it pending for ever
            if not await self._redis.xrange(self.stream, entry_id, entry_id):
                await self._redis.xack(self.stream, self._group, entry_id)
        self._deliveries |= {entry_id: counts[entry_id] + 1 for entry_id, _ in claimed}
        return claimed

    async def _read(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> _Letter[T] | None:
        body = fields.get(FIELD.encode())
        try:
            if body is None:
                raise LookupError(FIELD)
            return _Letter(entry_id, body, self._parse(body))
        except Exception as error:
            await self._bury(entry_id, repr(dict(fields)).encode() if body is None else body, error)
            return None

    async def _handled(self, letters: Sequence[_Letter[T]]) -> list[bytes]:
        """Ids to acknowledge. A batch that fails for good is halved until the guilty event is alone."""
        backoff = Backoff(self._stop)
        while True:
            try:
                await self._handle([letter.event for letter in letters])
                return [letter.entry_id for letter in letters]
            except Exception as error:
                self.last_error = describe_error(error)
                if not is_transient(error):
                    failure = error
                    break
                log.warning("handler waits", **self._context(), error=self.last_error, attempt=backoff.attempt)
                if self._stop.is_set():
                    return []
                await backoff.wait()
        if len(letters) > 1:
            middle = len(letters) // 2
            return await self._handled(letters[:middle]) + await self._handled(letters[middle:])
        return await self._failed(letters[0], failure)

    async def _failed(self, letter: _Letter[T], error: Exception) -> list[bytes]:
        deliveries = self._deliveries.get(letter.entry_id, 1)
        log.error("event failed", **self._context(letter.entry_id), error=self.last_error, delivery=deliveries)
        if deliveries >= self._dead_after:
            await self._bury(letter.entry_id, letter.body, error)
        return []

    async def _bury(self, entry_id: bytes, body: bytes, error: Exception) -> None:
        """The row first: Redis may lose its half. If this fails, the entry stays pending and its turn comes again."""
        letter: dict[Any, Any] = {"group": self._group, "entry_id": entry_id.decode(), "error": describe_error(error)}
        row = {
            "stream": self.stream,
            "digest": sha256(body).hexdigest(),
            "body": body,
            "deliveries": self._deliveries.get(entry_id, 1),
        }
        try:
            async with self._engine.begin() as connection:
                await connection.execute(insert(self._dead_letters).values(letter | row).on_conflict_do_nothing())
            async with self._redis.pipeline(transaction=True) as pipe:
                # no body: a stream cannot forget one person's words
                pipe.xadd(dead_stream(self.stream), letter, maxlen=_DEAD_KEPT)
                pipe.xack(self.stream, self._group, entry_id)
                await pipe.execute()
        except Exception as failure:
            log.warning("dead letter waits", **self._context(entry_id), error=describe_error(failure))
        else:
            log.error("event is dead", **self._context(entry_id), error=letter["error"])

    async def _acknowledge(self, ids: Sequence[bytes]) -> None:
        backoff = Backoff(self._stop)
        while ids:
            try:
                await self._redis.xack(self.stream, self._group, *ids)
                return
            except (RedisError, OSError) as error:
                log.warning("acknowledgement waits", **self._context(), error=describe_error(error))
                if self._stop.is_set():
                    return
                await backoff.wait()

    def _context(self, entry_id: bytes | None = None) -> dict[str, str]:
        context = {"stream": self.stream, "group": self._group}
        return context if entry_id is None else {**context, "entry": entry_id.decode()}

"""One consumer's commands to its group of one stream: read, claim, acknowledge, bury."""

from collections.abc import Collection, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis

from shared.messaging.delivery import Entry
from shared.messaging.redis.entry import entry_of
from shared.messaging.redis.handled import Handled
from shared.messaging.topology import dead_stream

log = structlog.get_logger()
_CLAIM_AT_ONCE = 100
_DEAD_KEPT = 10_000

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


async def create_groups(redis: Redis, stream: str, groups: Sequence[str]) -> None:
    """Create the groups, and the stream, unless they exist. A group begins with the first entry, never at the end:
    what was published before the group existed is owed to it too."""
    async with redis.pipeline(transaction=False) as pipe:
        for group in groups:
            pipe.xgroup_create(stream, group, id="0", mkstream=True)
        for reply in await pipe.execute(raise_on_error=False):
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise reply


class RedisConsumerGroup:
    """`shared.messaging.delivery.ConsumerGroup` in Redis, as the consumer of this name sees it."""

    def __init__(self, redis: Redis, stream: str, name: str, consumer: str) -> None:
        self.stream = stream
        self.name = name
        self._redis = redis
        self._consumer = consumer
        self._handled = Handled(redis, stream)
        self._delete_stale = redis.register_script(_DELETE_STALE)

    async def create(self) -> None:
        await create_groups(self._redis, self.stream, [self.name])

    async def read_new(self, count: int, block_ms: int) -> list[Entry]:
        """Up to `count` entries that nobody in the group has had. Redis waits up to `block_ms` for the first."""
        streams: dict[Any, Any] = {self.stream: ">"}
        reply: Any = await self._redis.xreadgroup(self.name, self._consumer, streams, count=count, block=block_ms)
        return [entry_of(entry_id, fields, 1) for entry_id, fields in reply[0][1]] if reply else []

    async def claim_own(
        self, start: str, known: Collection[str], *, is_delivery: bool
    ) -> tuple[list[Entry], str | None]:
        """Up to 100 entries from the id `start` on that are pending for this consumer, without those in `known`.

        Also returns where to go on, or None after the last. `is_delivery`: whether this counts as one.
        """
        found = await self._pending(start, self._consumer, None)
        if not found:
            return [], None
        wanted = {entry_id: count for entry_id, count in found.items() if entry_id.decode() not in known}
        go_on = f"({list(found)[-1].decode()}"
        return await self._claim(wanted, 0, is_delivery), go_on

    async def claim_idle(self, idle_ms: int) -> list[Entry]:
        """Up to 100 entries that are pending with any consumer and untouched for `idle_ms`. They are ours then."""
        return await self._claim(await self._pending("-", None, idle_ms), idle_ms, True)

    async def _pending(self, start: str, consumer: str | None, idle_ms: int | None) -> dict[bytes, int]:
        """How often each was delivered, by id, in order."""
        found: list[Any] = await self._redis.xpending_range(
            self.stream, self.name, start, "+", _CLAIM_AT_ONCE, consumername=consumer, idle=idle_ms
        )
        return {entry["message_id"]: entry["times_delivered"] for entry in found}

    async def _claim(self, counts: dict[bytes, int], idle_ms: int, is_delivery: bool) -> list[Entry]:
        claimed: dict[bytes, dict[bytes, bytes]] = {}
        for count in set(counts.values()):
            ids: list[Any] = [entry_id for entry_id, its_count in counts.items() if its_count == count]
            replies: list[Any] = await self._redis.xclaim(
                self.stream, self.name, self._consumer, idle_ms, ids, retrycount=count + is_delivery
            )
            claimed |= {entry_id: fields for entry_id, fields in replies if entry_id is not None}
        for entry_id in counts.keys() - claimed.keys():
            # another consumer was quicker; or it was deleted, and Redis 6.2 would keep it pending for ever. It is let
            # go without having been handled, so that the relay publishes it again.
            if not await self._redis.xrange(self.stream, entry_id, entry_id):
                log.warning("pending entry is gone", stream=self.stream, group=self.name, entry=entry_id.decode())
                await self.let_go([entry_id])
        return [
            entry_of(entry_id, claimed[entry_id], count + is_delivery)
            for entry_id, count in counts.items()
            if entry_id in claimed
        ]

    async def oldest_pending(self) -> Entry | None:
        """The first entry that any consumer of the group has and has not acknowledged. None if there is none."""
        summary: Any = await self._redis.xpending(self.stream, self.name)
        if not summary["min"]:
            return None
        found: Any = await self._redis.xrange(self.stream, summary["min"], summary["min"])
        return entry_of(found[0][0], found[0][1], 1) if found else None

    async def hold(self, ids: Collection[str]) -> None:
        """Keep other consumers from claiming these entries, which this consumer is working on."""
        held: list[Any] = list(ids)
        if held:
            await self._redis.xclaim(self.stream, self.name, self._consumer, 0, held, justid=True)

    async def acknowledge(self, ids: Sequence[str]) -> None:
        await self._handled.acknowledge(self.name, ids)

    async def let_go(self, ids: Sequence[str | bytes]) -> None:
        await self._redis.xack(self.stream, self.name, *ids)

    async def bury(self, entry_id: str, error: str) -> None:
        # no body: a stream cannot forget one person's words
        letter: dict[Any, Any] = {"group": self.name, "entry_id": entry_id, "error": error}
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(dead_stream(self.stream), letter, maxlen=_DEAD_KEPT)
            await self._handled.acknowledge(self.name, [entry_id], pipe)
            await pipe.execute()

    async def delete_stale(self, idle_ms: int) -> None:
        """Delete other consumers of the group that have no pending entry and were idle for `idle_ms`."""
        await self._delete_stale(keys=[self.stream], args=[self.name, self._consumer, idle_ms])

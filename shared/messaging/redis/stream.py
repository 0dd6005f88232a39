"""A Redis stream as the relay needs it: groups, state, append, trim."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from shared.messaging.redis.consumer_group import create_groups
from shared.messaging.redis.entry import FIELD, MAC, SINCE, id_of, number_of, stored_entry_of
from shared.messaging.redis.handled import Handled
from shared.messaging.stream import GroupState, OutboxRow, StreamState
from shared.messaging.topology import dead_stream

_LAST = """
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
"""
_APPEND = f"""
{_LAST}
if last == ARGV[1] then
  for i = 2, #ARGV, 4 do
    last = redis.call(
      'XADD', KEYS[1], ARGV[i], '{FIELD}', ARGV[i + 1], '{SINCE}', ARGV[i + 2], '{MAC}', ARGV[i + 3]
    )
  end
end
return last
"""
# A script and not MULTI: it stops at the first entry refused (out of memory, say), so that a last id never hides
# a gap; and it appends nothing when the stream is not what the relay thinks it is.
_RESTART = f"""
{_LAST}
if last ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
for i = 2, #ARGV do
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[i], (redis.call('HGET', KEYS[2], ARGV[i]) or '0') .. '-0', 'MKSTREAM')
end
return 1
"""


class RedisStream:
    """`shared.messaging.stream.Stream` in Redis."""

    def __init__(self, redis: Redis, name: str, groups: Sequence[str]) -> None:
        self.name = name
        self.groups = groups
        self._redis = redis
        self._handled = Handled(redis, name)
        self._append = redis.register_script(_APPEND)
        self._restart = redis.register_script(_RESTART)

    async def create_groups(self) -> None:
        await create_groups(self._redis, self.name, self.groups)

    async def state(self) -> StreamState:
        """Read in one transaction, so that a FLUSHALL comes before all of it or after."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xinfo_stream(self.name)
            pipe.xinfo_groups(self.name)
            pipe.hgetall(self._handled.key)
            pipe.xrevrange(self.name, count=1)
            for group in self.groups:
                pipe.xpending(self.name, group)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies[:4]:
            if isinstance(reply, Exception):
                if "no such key" in str(reply):
                    return StreamState("0-0", 0, None, {})
                raise reply
        info, found, marks, newest = replies[:4]
        last_id: str = info["last-generated-id"].decode()
        delivered = {group["name"].decode(): number_of(group["last-delivered-id"]) for group in found}
        handled = {name.decode(): int(mark) for name, mark in marks.items()}
        pending = zip(self.groups, replies[4:], strict=True)
        groups = {
            name: _group_state(delivered[name], reply, handled.get(name))
            for name, reply in pending
            if name in delivered
        }
        is_there = newest and newest[0][0] == info["last-generated-id"]
        last_entry = stored_entry_of(*newest[0]) if is_there else None
        return StreamState(last_id, number_of(last_id), last_entry, groups)

    async def append(self, after: str, rows: Sequence[OutboxRow]) -> str | None:
        arguments: list[str | bytes | int] = [after]
        for row in rows:
            arguments += (id_of(row.number), row.body, row.since, row.mac)
        last: bytes = await self._append(keys=[self.name], args=arguments)
        expected = id_of(rows[-1].number)
        return expected if last.decode() == expected else None

    async def missing(self, numbers: Sequence[int]) -> bool:
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.xrange(self.name, id_of(number), id_of(number))
            return not all(await pipe.execute())

    async def raise_handled(self, number: int) -> None:
        await self._handled.raise_to(number, self.groups)

    async def restart(self, last_id: str) -> None:
        await self._restart(keys=[self.name, self._handled.key], args=[last_id, *self.groups])

    async def trim(self, up_to: int) -> None:
        await self._redis.xtrim(self.name, minid=id_of(up_to + 1), approximate=False)

    async def count_dead(self) -> int:
        return await self._redis.xlen(dead_stream(self.name))

    async def idle_ms(self, group: str) -> int:
        oldest: list[Any] = await self._redis.xpending_range(self.name, group, "-", "+", 1)
        return oldest[0]["time_since_delivered"] if oldest else 0


def _group_state(delivered: int, pending: Any, handled: int | None) -> GroupState:
    first = number_of(pending["min"]) if pending["min"] else None
    return GroupState(delivered, pending["pending"], first, handled)

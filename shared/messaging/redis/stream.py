"""A Redis stream as the relay needs it: groups, state, append, trim."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from shared.messaging.redis.consumer_group import create_group
from shared.messaging.redis.entry import FIELD, id_of, number_of
from shared.messaging.stream import GroupState, StreamState
from shared.messaging.topology import dead_stream

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


class RedisStream:
    """`shared.messaging.stream.Stream` in Redis."""

    def __init__(self, redis: Redis, name: str, groups: Sequence[str]) -> None:
        self.name = name
        self.groups = groups
        self._redis = redis
        self._append = redis.register_script(_APPEND)

    async def create_groups(self) -> None:
        for group in self.groups:
            await create_group(self._redis, self.name, group)

    async def state(self) -> StreamState:
        """Read in one transaction, so that a FLUSHALL comes before all of it or after."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xinfo_stream(self.name)
            pipe.xinfo_groups(self.name)
            for group in self.groups:
                pipe.xpending(self.name, group)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        for reply in replies[:2]:
            if isinstance(reply, Exception):
                if "no such key" in str(reply):
                    return StreamState("0-0", 0, {})
                raise reply
        info, found = replies[:2]
        last_id: str = info["last-generated-id"].decode()
        delivered = {group["name"].decode(): number_of(group["last-delivered-id"]) for group in found}
        pending = zip(self.groups, replies[2:], strict=True)
        groups = {name: _group_state(delivered[name], reply) for name, reply in pending if name in delivered}
        return StreamState(last_id, number_of(last_id), groups)

    async def append(self, after: str, events: Sequence[tuple[int, bytes]]) -> str | None:
        arguments: list[str | bytes] = [after]
        for number, body in events:
            arguments += (id_of(number), body)
        last: bytes = await self._append(keys=[self.name], args=arguments)
        expected = id_of(events[-1][0])
        return expected if last.decode() == expected else None

    async def trim(self, up_to: int) -> None:
        await self._redis.xtrim(self.name, minid=id_of(up_to + 1), approximate=False)

    async def count_dead(self) -> int:
        return await self._redis.xlen(dead_stream(self.name))

    async def idle_ms(self, group: str) -> int:
        oldest: list[Any] = await self._redis.xpending_range(self.name, group, "-", "+", 1)
        return oldest[0]["time_since_delivered"] if oldest else 0


def _group_state(delivered: int, pending: Any) -> GroupState:
    return GroupState(delivered, pending["pending"], number_of(pending["min"]) if pending["min"] else None)

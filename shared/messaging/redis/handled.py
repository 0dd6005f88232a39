"""What each group of a stream has handled, as its own consumers say it.

What Redis itself says does not prove it. An entry that was trimmed, a group that was moved and an entry that somebody
else acknowledged all look as if they had been handled. So the acknowledging script writes down the numbers, and no
other way leads there. It counts only what was pending for the group in the stream as it is now.
"""

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

_ADVANCE = """
local function text(number) return string.format('%.0f', number) end
local function advance(mark)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', text(mark))
  while redis.call('ZREM', KEYS[3], text(mark + 1)) == 1 do mark = mark + 1 end
  redis.call('HSET', KEYS[2], ARGV[1], text(mark))
end
local mark = tonumber(redis.call('HGET', KEYS[2], ARGV[1]))
"""
_ACKNOWLEDGE = f"""
{_ADVANCE}
for i = 2, #ARGV do
  if redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) == 1 then
    local number = tonumber(string.match(ARGV[i], '^(%d+)%-0$'))
    if number and number == (mark or -1) + 1 then
      mark = number
    elseif number and number > (mark or 0) then
      redis.call('ZADD', KEYS[3], text(number), text(number))
    end
  end
end
if mark then advance(mark) end
"""
_RAISE = f"""
{_ADVANCE}
advance(math.max(mark or 0, tonumber(ARGV[2])))
"""


class Handled:
    """For each group, the number up to which it has handled everything (`key`), and the numbers above that.

    `raise_to` gives it its beginning: the relay alone knows where the numbers begin. Until then it only collects.
    """

    def __init__(self, redis: Redis, stream: str) -> None:
        self.key = f"{stream}.handled"
        self._redis = redis
        self._stream = stream
        self._acknowledge = redis.register_script(_ACKNOWLEDGE)
        self._raise = redis.register_script(_RAISE)

    async def acknowledge(self, group: str, ids: Sequence[str], pipe: Pipeline | None = None) -> None:
        """Acknowledge entries that the group has handled, and write their numbers down: both or neither."""
        await self._acknowledge(keys=self._keys(group), args=[group, *ids], client=pipe)

    async def raise_to(self, number: int, groups: Sequence[str]) -> None:
        """Nothing up to `number` is owed to these groups any more."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for group in groups:
                await self._raise(keys=self._keys(group), args=[group, number], client=pipe)
            await pipe.execute()

    def _keys(self, group: str) -> list[str]:
        return [self._stream, self.key, f"{self.key}.{group}"]

"""The Redis client: its settings, and which of its errors are transient."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError

from shared.messaging.errors import is_transient
from shared.messaging.redis.stream import RedisStream

_PROBE_KEY = "trucban.probe"


@is_transient.register
def _(error: RedisError) -> bool:
    return not isinstance(error, DataError)  # whatever Redis refuses now, it takes in another state


class Client(Redis):
    """A Redis client that opens our streams."""

    def stream(self, name: str, groups: Sequence[str]) -> RedisStream:
        return RedisStream(self, name, groups)

    async def write_nothing(self) -> None:
        """Overwrite one small key, which needs what an entry needs: a server that takes writes, and memory."""
        await self.set(_PROBE_KEY, b"." * 1000, px=60_000)

    async def forget_all(self) -> None:
        """Delete every stream and key of ours."""
        async for key in self.scan_iter(match="trucban.*", count=1000):
            await self.unlink(key)


def connection_options() -> dict[str, Any]:
    # no retry inside the client: it would hide an outage from health and send a command twice
    return {"retry": Retry(NoBackoff(), 0), "socket_timeout": 5.0, "socket_connect_timeout": 2.0}


def connect(url: str) -> Client:
    """A client with the settings that messaging relies on. Close it with `aclose()`."""
    client = Client.from_url(url, **connection_options())
    assert isinstance(client, Client)
    return client

"""The Redis client: its settings, and what comes of waiting after one of its errors."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError

from shared.messaging.errors import Outlook, Ruling, outlook_of
from shared.messaging.redis.access import BELL, PROBE_KEY
from shared.messaging.redis.stream import RedisStream

_LISTEN_SECONDS = 4.0
"""Shorter than the client's time-out of a read."""

_PASSES, _MENDED, _LASTS = Outlook.PASSES, Outlook.MENDED, Outlook.LASTS

REPLIES: Mapping[str, Ruling] = {
    "ASK": Ruling(_PASSES, "the slot is moving to another node"),
    "BUSY": Ruling(_PASSES, "a script runs too long; others wait until it ends or is killed"),
    "CLUSTERDOWN": Ruling(_PASSES, "the cluster has no majority, or a slot has no node, until a failover"),
    "CROSSSLOT": Ruling(_LASTS, "the keys of one command lie in two slots: a fault of the program"),
    "DENIED": Ruling(_MENDED, "protected mode: Redis is reachable and has no password"),
    "ERR": Ruling(_LASTS, "the command is wrong, or too new for this server"),
    "EXECABORT": Ruling(_PASSES, "a command of the transaction was refused, mostly for OOM, so nothing was done"),
    "LOADING": Ruling(_PASSES, "Redis reads its file after a start"),
    "MASTERDOWN": Ruling(_PASSES, "a replica has lost its master and answers nothing stale"),
    "MISCONF": Ruling(_PASSES, "Redis cannot save to its disk, which is full or fails, and takes no writes"),
    "MOVED": Ruling(_PASSES, "the slot has moved to another node"),
    "NOAUTH": Ruling(_MENDED, "REDIS_URL has no password, and Redis wants one"),
    "NOGROUP": Ruling(_PASSES, "the stream or the group was lost; consumer and relay make it again"),
    "NOPERM": Ruling(_MENDED, "the user of REDIS_URL may not do this"),
    "NOREPLICAS": Ruling(_PASSES, "fewer replicas than min-replicas-to-write are connected"),
    "NOSCRIPT": Ruling(_PASSES, "Redis was started anew and has forgotten the script, which is sent again"),
    "OOM": Ruling(_PASSES, "maxmemory is reached, until groups acknowledge and the relay trims, or it is raised"),
    "READONLY": Ruling(_PASSES, "a replica, until the failover is over"),
    "TRYAGAIN": Ruling(_PASSES, "some keys of the command are moving to another node"),
    "UNBLOCKED": Ruling(_PASSES, "the stream was deleted or Redis became a replica while a read waited"),
    "UNKILLABLE": Ruling(_PASSES, "a script that has written cannot be stopped; others wait until it ends"),
    "WRONGPASS": Ruling(_MENDED, "the password of REDIS_URL is not accepted"),
    "WRONGTYPE": Ruling(_MENDED, "something else lies under the stream's name: somebody must delete it"),
}
"""By the first word of Redis' error."""

BrokerError = RedisError
"""What the broker's client raises, for those who do not know which broker it is."""

_UNKNOWN_REPLY = Ruling(_PASSES, "no event is to blame for what Redis refuses")
_IN_SCRIPT = re.compile(r"(?<=-)[A-Z]{3,}(?= )")
"""Redis before 7 answers ERR when a command inside a script is refused, and quotes the refusal."""


@outlook_of.register
def _(error: RedisError) -> Outlook:
    """Without an answer of Redis, the connection is lost, refused or too slow, and all of these pass."""
    if isinstance(error, DataError):
        return Outlook.LASTS  # the client cannot encode the value
    return ruling_of_reply(error).outlook


def ruling_of_reply(error: RedisError) -> Ruling:
    text = str(error)
    code = error.status_code or text.partition(" ")[0]
    if code == "ERR":
        if "max number of clients" in text:
            return Ruling(_PASSES, "maxclients is reached, until connections are closed")
        quoted = _IN_SCRIPT.search(text)
        code = quoted[0] if quoted else code
    return REPLIES.get(code, _UNKNOWN_REPLY)


class Client(Redis):
    """A Redis client that opens our streams."""

    def stream(self, name: str, groups: Sequence[str]) -> RedisStream:
        return RedisStream(self, name, groups)

    async def ring(self, outbox: str) -> None:
        await self.publish(BELL + outbox, b"")

    async def rings(self, outbox: str) -> AsyncIterator[None]:
        async with self.pubsub(ignore_subscribe_messages=True) as bell:
            await bell.subscribe(BELL + outbox)
            yield
            while True:
                if await bell.get_message(timeout=_LISTEN_SECONDS) is not None:
                    yield

    async def write_nothing(self) -> None:
        """Overwrite one small key, which needs what an entry needs: a server that takes writes, and memory."""
        await self.set(PROBE_KEY, b"." * 1000, px=60_000)

    async def server_version(self) -> str:
        """Such as `7.0.15`."""
        return str((await self.info("server"))["redis_version"])

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

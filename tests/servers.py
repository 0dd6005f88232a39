"""The servers that tests run on, and databases of one's own on them.

All processes of a test run share one Redis and one PostgreSQL. A module that flushes or kills a server, counts what it
does, or waits for every transaction of it, has one of its own.
"""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

from sqlalchemy import text
from sqlalchemy.engine import make_url

from services.cli.embedded import Servers, erase
from services.cli.embedded.data_folder import open_data
from services.cli.embedded.postgres import Postgres
from services.cli.embedded.redis import Redis
from shared import messaging
from shared.database import connect
from tests.keeper import ask

REDIS_DATABASES = 4096


class QuickPostgres(Postgres):
    """For data that nobody needs after the machine crashed: the disk is the slow part.

    A commit reaches the operating system before it is answered, so a killed server still loses nothing.
    """

    stop_signals = ((signal.SIGQUIT, 10.0),)

    def command(self) -> list[str | Path]:
        settings = ("fsync=off", "full_page_writes=off", "max_connections=500")
        return [*super().command(), *(part for setting in settings for part in ("-c", setting))]


class WideRedis(Redis):
    def command(self) -> list[str | Path]:
        return [*super().command(), "--databases", str(REDIS_DATABASES)]


@asynccontextmanager
async def quick_servers(data: Path) -> AsyncGenerator[Servers]:
    """On a new data folder, which is removed afterwards."""
    folder = open_data(data)
    redis, postgres = WideRedis(folder), QuickPostgres(folder)
    try:
        await asyncio.gather(redis.start(), postgres.start())
        yield Servers(redis.url, postgres.url)
    finally:
        await asyncio.gather(redis.stop(), postgres.stop())
        erase(folder)


def told_of(servers: Servers) -> bytes:
    """As a keeper tells of them."""
    return json.dumps({"redis_url": servers.redis_url, "database_url": servers.database_url}).encode()


def shared_servers(keeper: Path) -> Servers:
    """Those of all processes of this test run."""
    return Servers(**json.loads(ask(keeper)))


async def new_database(servers: Servers, template: str = "template1") -> str:
    """The URL of a new database that holds what the template holds: nothing, unless one is named."""
    name = f"test_{token_hex(6)}"
    await administer(servers, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")  # without a WAL
    return url_of(servers, name)


async def administer(servers: Servers, statement: str) -> None:
    """What cannot be done in a transaction."""
    engine = connect(servers.database_url, pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(statement))
    await engine.dispose()


def url_of(servers: Servers, database: str) -> str:
    return make_url(servers.database_url).set(database=database).render_as_string(hide_password=False)


async def new_redis(servers: Servers) -> str:
    """The URL of a Redis database that nobody has used yet."""
    redis = messaging.connect(servers.redis_url)
    number = await redis.incr("databases given out")
    await redis.aclose()
    return f"{servers.redis_url}?db={number}"

"""A process that holds the embedded servers, and what was written to them."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.engine import make_url

from services.cli.embedded import Servers
from services.cli.embedded.account import Account

ROOT = Path(__file__).parent.parent.parent

PARENT = """
import asyncio, concurrent.futures.thread, json, os, signal, sys
from pathlib import Path
from services.cli.embedded import EmbeddedError, embedded_servers

data, uid, gid = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if uid != os.geteuid():  # only now: that user need not reach this Python
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background is started with SIGINT ignored

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    async with embedded_servers(data) as servers:
        told = [servers.redis_url, servers.database_url, servers.redis_pid, servers.postgres_pid]
        print(json.dumps(told), flush=True)
        await asyncio.Event().wait()

try:
    asyncio.run(main())
except EmbeddedError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
except asyncio.CancelledError:
    pass
"""


class Parent:
    """A process of its own that holds the servers."""

    def __init__(self, data: Path, account: Account | None = None) -> None:
        account = account or Account.own()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, data, str(account.uid), str(account.gid)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def up(self) -> tuple[Servers, list[int]]:
        """Addresses and process ids, once both servers answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the parent ended: {self.finish()}"
        redis_url, database_url, *pids = json.loads(line)
        return Servers(redis_url, database_url), pids

    def end(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> str:
        """What it said on stderr."""
        return self.process.communicate(timeout=30)[1]


@asynccontextmanager
async def clients(servers: Servers) -> AsyncGenerator[tuple[Redis, asyncpg.Connection]]:
    redis = Redis.from_url(servers.redis_url, decode_responses=True)
    url = make_url(servers.database_url)
    host, port = str(url.query["host"]), int(str(url.query["port"]))
    postgres = await asyncpg.connect(host=host, port=port, user=url.username, database=url.database)
    try:
        yield redis, postgres
    finally:
        if not postgres.is_closed():
            await postgres.close()
        await redis.aclose()


async def write(servers: Servers, value: str) -> None:
    async with clients(servers) as (redis, postgres):
        await redis.set("note", value)
        await postgres.execute("DROP TABLE IF EXISTS note")
        await postgres.execute("CREATE TABLE note AS SELECT $1::text AS value", value)


async def read(servers: Servers) -> tuple[str, str]:
    async with clients(servers) as (redis, postgres):
        return str(await redis.get("note")), str(await postgres.fetchval("SELECT value FROM note"))


async def is_running(servers: Servers, statement: str) -> None:
    """Return once PostgreSQL works on `statement`, a LIKE pattern."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
    async with asyncio.timeout(20), clients(servers) as (_, postgres):
        while True:
            if await postgres.fetchval(count, statement):
                return
            await asyncio.sleep(0.01)


async def read_once_back(servers: Servers) -> tuple[str, str]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await read(servers)
            except (OSError, RedisError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about in 20 s"
        time.sleep(0.005)

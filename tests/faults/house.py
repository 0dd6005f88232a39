"""The whole system as an operator runs it: own servers, each service a process that is started again when it dies."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.cli.importing import import_file
from shared.embedded import Servers, embedded_servers
from shared.identity import Principal, issuer
from shared.settings import Settings
from tests.faults.city import DIRECTORY, WARDS
from tests.support import passable_folder

SERVICES = ("intake", "escalation", "ledger")
TRUCBAN = Path(sys.executable).parent / "trucban"
LEAP = timedelta(seconds=90)
"""How much further ahead each new life of escalation has its clock: past the lease of what the last one was sending."""

Fault = Literal["intake", "escalation", "ledger", "redis", "postgres", "flush"]
FAULTS: tuple[Fault, ...] = ("intake", "escalation", "ledger", "redis", "postgres", "flush")


class House:
    """Enter with `running_house`. Faults are done to it with `strike`; it comes back by itself."""

    def __init__(self, data: Path, servers: Servers) -> None:
        self.servers = servers
        self.settings = Settings().model_copy(
            update={"data": data, "redis_url": servers.redis_url, "database_url": servers.database_url}
        )
        self.urls = {name: f"http://127.0.0.1:{_free_port()}" for name in SERVICES}
        self.ahead = timedelta(0)
        self.deaths: list[str] = []
        """Services that ended without having been struck."""
        self._struck: set[int] = set()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def header(self, principal: Principal) -> dict[str, str]:
        return {"authorization": f"Bearer {issuer(self.settings.keys_dir).issue(principal, days=1)}"}

    @property
    def outbox(self) -> Path:
        return self.settings.data / "outbox.ndjson"

    def now(self) -> datetime:
        """What the clock of escalation says."""
        return datetime.now(UTC) + self.ahead

    async def strike(self, fault: Fault) -> None:
        if fault == "flush":
            await self._flush()
        elif fault in ("redis", "postgres"):
            pid = self.servers.redis_pid if fault == "redis" else self.servers.postgres_pid
            with suppress(ProcessLookupError):  # struck a moment ago, and not yet back
                os.kill(pid, signal.SIGKILL)
        else:
            process = self._processes[fault]
            self._struck.add(process.pid)
            process.kill()

    async def _flush(self) -> None:
        while True:
            try:
                async with Redis.from_url(self.servers.redis_url) as redis:
                    await redis.flushall()
                return
            except (RedisError, OSError):
                await asyncio.sleep(0.05)  # it has just been killed, and is coming back

    async def keep(self, name: str) -> None:
        """What `restart: always` does. Ends by cancellation, and ends the process with it."""
        try:
            while True:
                if name == "escalation":
                    self.ahead += LEAP
                process = self._spawn(name)
                while process.poll() is None:  # noqa: ASYNC110 - a process's end sets no asyncio.Event
                    await asyncio.sleep(0.02)
                if process.pid not in self._struck:
                    self.deaths.append(f"{name} ended by itself with {process.returncode}: {self.last_words(name)}")
                await asyncio.sleep(0.2)
        finally:
            self._processes[name].kill()
            self._processes[name].wait()

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "REDIS_URL": self.servers.redis_url,
            "DATABASE_URL": self.servers.database_url,
            "TRUCBAN_DATA": str(self.settings.data),
            "TRUCBAN_CLAIM_IDLE_SECONDS": "2",
        }
        if name == "escalation":
            environment["TRUCBAN_CLOCK"] = self.now().isoformat()
        port = self.urls[name].rpartition(":")[2]
        with self._log(name).open("ab") as log:
            process = subprocess.Popen([TRUCBAN, "serve", name, "--port", port], env=environment, stderr=log)
        self._processes[name] = process
        return process

    def _log(self, name: str) -> Path:
        return self.settings.data / "log" / f"{name}.log"

    def last_words(self, name: str, lines: int = 1) -> str:
        written = self._log(name).read_text(encoding="utf-8", errors="replace").strip()
        return "\n".join(written.splitlines()[-lines:])

    async def not_ready(self) -> list[str]:
        """Each service whose /readyz is not 200, with what it complains about."""
        found: list[str] = []
        async with httpx.AsyncClient(timeout=10) as client:
            for name, url in self.urls.items():
                try:
                    answer = await client.get(f"{url}/{name}/readyz")
                except httpx.HTTPError as error:
                    found.append(f"{name} does not answer: {type(error).__name__}")
                else:
                    if answer.status_code != 200:
                        found.append(f"{name} is not ready: {answer.text}")
        return found

    async def until_ready(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while await self.not_ready():  # noqa: ASYNC110 - the event is in other processes
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running_house() -> AsyncGenerator[House]:
    """All processes running, wards and post-holders imported, every service ready."""
    with passable_folder("faults") as data:
        async with embedded_servers(data) as servers:
            house = House(data, servers)
            await _import(house, "wards", WARDS)
            await _import(house, "directory", DIRECTORY)
            keepers = [asyncio.create_task(house.keep(name)) for name in SERVICES]
            try:
                await house.until_ready(30)
                yield house
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)


async def _import(house: House, what: Literal["wards", "directory"], content: str) -> None:
    path = house.settings.data / f"{what}.csv"
    path.write_text(content, encoding="utf-8")
    done = await import_file(house.settings, what, path, keep_going=False)
    assert not done.errors, f"{what} of the fault run: {done.errors}"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]

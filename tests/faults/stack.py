"""The whole system as an operator runs it: own servers, each service a process that is started again when it dies.

Escalation runs in several processes at once, as replicas behind a load balancer.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Literal, get_args

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from services.cli.embedded import Servers, embedded_servers
from services.cli.import_file import import_file
from services.escalation.app import connect_escalation
from services.escalation.application.adopt_rulebooks import adopt_rulebooks
from shared.clock import Clock
from shared.http.identity import Principal, issuer
from shared.settings import Settings
from tests.faults.city import DIRECTORY, RULEBOOK, WARDS
from tests.support import passable_folder

TRUCBAN = Path(sys.executable).parent / "trucban"
FROZEN_SECONDS = 3.0
"""Longer than another replica waits before it takes over what the frozen one had in hand."""
READY_SECONDS = 60.0

Fault = Literal["intake", "escalation", "ledger", "redis", "postgres", "flush", "freeze", "outage", "lull"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
"""escalation: one of its processes; flush: Redis forgets all; freeze: a process of escalation stands still for a while
and then goes on where it was; outage: all of escalation, and minutes pass before it is back; lull: nothing, until all
are well again."""


@dataclass
class Member:
    """A place for a process, under its own name in the consumer groups."""

    name: str
    service: str
    url: str
    process: subprocess.Popen[bytes] | None = None
    struck: set[int] = field(default_factory=set[int])

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            if number is signal.SIGKILL:
                self.struck.add(self.process.pid)
            self.process.send_signal(number)


class House:
    """Enter with `running_house`. Faults are done to it with `strike`; it comes back by itself."""

    def __init__(self, data: Path, servers: Servers, replicas: int, random: Random) -> None:
        self.servers = servers
        self.settings = Settings().model_copy(
            update={"data": data, "redis_url": servers.redis_url, "database_url": servers.database_url}
        )
        self.ahead = timedelta(0)
        """Of the clocks of escalation before the real time; the same for all its processes, but for their start-up."""
        self.deaths: list[str] = []
        """Processes that ended without having been struck."""
        self._random = random
        names = ("intake", "ledger", *(f"escalation-{n + 1}" for n in range(replicas)))
        self._members = [Member(n, n.partition("-")[0], f"http://127.0.0.1:{_free_port()}") for n in names]
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._thaws: set[asyncio.Task[None]] = set()

    def header(self, principal: Principal) -> dict[str, str]:
        return {"authorization": f"Bearer {issuer(self.settings.keys_dir).issue(principal, days=1)}"}

    def url(self, service: str) -> str:
        """Of one of its processes."""
        return self._random.choice(self._of(service)).url

    def _of(self, service: str) -> list[Member]:
        return [m for m in self._members if m.service == service]

    @property
    def outbox(self) -> Path:
        return self.settings.data / "outbox.ndjson"

    def now(self) -> datetime:
        """What the clocks of escalation say; no process is ahead of it."""
        return datetime.now(UTC) + self.ahead

    async def strike(self, fault: Fault) -> None:
        if fault == "flush":
            await self._flush()
        elif fault in ("redis", "postgres"):
            pid = self.servers.redis_pid if fault == "redis" else self.servers.postgres_pid
            with suppress(ProcessLookupError):  # struck a moment ago, and not yet back
                os.kill(pid, signal.SIGKILL)
        elif fault == "freeze":
            self._freeze(self._random.choice(self._of("escalation")))
        elif fault == "lull":
            await self.until_ready(READY_SECONDS)
        elif fault == "outage":
            self.leap(timedelta(seconds=self._random.randrange(60, 240)))
        else:
            self._random.choice(self._of(fault)).signal(signal.SIGKILL)

    def leap(self, ahead: timedelta) -> None:
        """All processes of escalation end at once, and are back when so much more time has passed."""
        self.ahead += ahead
        for member in self._of("escalation"):
            member.signal(signal.SIGKILL)

    def _freeze(self, member: Member) -> None:
        member.signal(signal.SIGSTOP)
        task = asyncio.create_task(self._thaw(member))
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)

    async def _thaw(self, member: Member) -> None:
        await asyncio.sleep(FROZEN_SECONDS)
        member.signal(signal.SIGCONT)

    async def _flush(self) -> None:
        while True:
            try:
                async with Redis.from_url(self.servers.redis_url) as redis:
                    await redis.flushall()
                return
            except (RedisError, OSError):
                await asyncio.sleep(0.05)  # it has just been killed, and is coming back

    def start(self) -> None:
        self._keepers = {m.name: asyncio.create_task(self._keep(m)) for m in self._members}

    async def end(self, service: str | None = None) -> datetime:
        """For good, all processes or those of one service; what the clocks of escalation said then."""
        ended = [m for m in self._members if service in (None, m.service)]
        keepers = [self._keepers.pop(m.name) for m in ended if m.name in self._keepers]
        for keeper in keepers:
            keeper.cancel()
        at = self.now()
        await asyncio.gather(*keepers, return_exceptions=True)
        return at

    async def _keep(self, member: Member) -> None:
        """What `restart: always` does. Ends by cancellation, and ends the process with it."""
        try:
            while True:
                member.process = process = self._spawn(member)
                while process.poll() is None:  # noqa: ASYNC110 - a process's end sets no asyncio.Event
                    await asyncio.sleep(0.02)
                if process.pid not in member.struck:
                    words = self.last_words(member.name)
                    self.deaths.append(f"{member.name} ended by itself with {process.returncode}: {words}")
                await asyncio.sleep(0.2)
        finally:
            if member.process is not None:
                member.process.kill()
                member.process.wait()

    def _spawn(self, member: Member) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "REDIS_URL": self.servers.redis_url,
            "DATABASE_URL": self.servers.database_url,
            "TRUCBAN_DATA": str(self.settings.data),
            "TRUCBAN_CLAIM_IDLE_SECONDS": "2",
            "TRUCBAN_CONSUMER": member.name,
        }
        if member.service == "escalation":
            environment["TRUCBAN_CLOCK"] = self.now().isoformat()
        port = member.url.rpartition(":")[2]
        with self._log(member.name).open("ab") as log:
            return subprocess.Popen([TRUCBAN, "serve", member.service, "--port", port], env=environment, stderr=log)

    def _log(self, name: str) -> Path:
        return self.settings.data / "log" / f"{name}.log"

    def said(self) -> dict[str, list[str]]:
        """Lines of the log of each process's place."""
        return {m.name: self._lines(m.name) for m in self._members}

    def _lines(self, name: str) -> list[str]:
        return self._log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()

    def database_log(self) -> list[str]:
        return self._lines("postgres")

    def last_words(self, name: str, lines: int = 1) -> str:
        return "\n".join(self._lines(name)[-lines:])

    async def not_ready(self) -> list[str]:
        """Each process that runs and whose /readyz is not 200, with what it complains about."""
        found: list[str] = []
        async with httpx.AsyncClient(timeout=10) as client:
            for member in self._members:
                if member.name not in self._keepers:
                    continue
                try:
                    answer = await client.get(f"{member.url}/{member.service}/readyz")
                except httpx.HTTPError as error:
                    found.append(f"{member.name} does not answer: {type(error).__name__}")
                else:
                    if answer.status_code != 200:
                        found.append(f"{member.name} is not ready: {answer.text}")
        return found

    async def until_ready(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while await self.not_ready():  # noqa: ASYNC110 - the event is in other processes
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running_house(replicas: int, random: Random) -> AsyncGenerator[House]:
    """All processes running, wards, post-holders and the rule there, every process ready."""
    with passable_folder("faults") as data:
        async with embedded_servers(data) as servers:
            house = House(data, servers, replicas, random)
            await _import(house, "wards", WARDS)
            await _import(house, "directory", DIRECTORY)
            await _adopt(house)
            house.start()
            try:
                await house.until_ready(READY_SECONDS)
                yield house
            finally:
                await house.end()


async def _import(house: House, what: Literal["wards", "directory"], content: str) -> None:
    path = house.settings.data / f"{what}.csv"
    path.write_text(content, encoding="utf-8")
    done = await import_file(house.settings, what, path, keep_going=False)
    assert not done.errors, f"{what} of the fault run: {done.errors}"


async def _adopt(house: House) -> None:
    escalation = connect_escalation(house.settings, Clock())
    await adopt_rulebooks(escalation, [RULEBOOK])
    async with escalation.database.begin() as connection:
        name = await connection.scalar(text("SELECT current_database()"))
        await connection.execute(text(f"ALTER DATABASE {name} SET log_error_verbosity = 'default'"))
    await escalation.database.dispose()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]

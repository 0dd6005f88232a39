"""The whole system as an operator runs it: own servers, each service a process that is started again when it dies.

Escalation runs in several processes at once, as replicas behind a load balancer.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Literal

import httpx
from sqlalchemy import text

from services.cli.embedded import Servers, embedded_servers
from services.cli.import_file import import_file
from services.escalation.app import connect_escalation
from services.escalation.application.adopt_rulebooks import adopt_rulebooks
from shared.clock import Clock
from shared.http.identity import Principal, issuer
from shared.settings import Settings
from tests.faults.administration import restart_postgres
from tests.faults.city import RULEBOOK, WARDS, directory
from tests.faults.disks import Disks, running_disks
from tests.faults.proxy import running_proxy
from tests.faults.receiver import Receiver, running_receiver
from tests.integration.landed import Left, left_city
from tests.support import passable_folder

TRUCBAN = Path(sys.executable).parent / "trucban"
READY_SECONDS = 60.0
SERVICES = ("intake", "escalation", "ledger")


@dataclass(frozen=True)
class Shape:
    """How the system is installed."""

    intakes: int = 1
    escalations: int = 2
    ledgers: int = 1
    partitions: int = 1
    one_name: bool = False
    """All replicas of a service have the same name in their consumer groups."""
    proxied: bool = False
    """Senders come through the shipped nginx."""
    small_disks: bool = False
    """The data of both servers are on small disks of their own, which can be filled."""
    upgraded_from: str = ""
    """The landed state (tests/integration/landed) whose data is there when the run begins; "" for a new city."""
    migrations_killed: int = 0
    """How often its migration is killed before one comes to its end."""

    def __str__(self) -> str:
        parts = [f"{self.intakes} intake", f"{self.escalations} escalation", f"{self.ledgers} ledger"]
        parts.append(f"{self.partitions} partition{'s' if self.partitions > 1 else ''}")
        parts += ["one consumer name"] if self.one_name else []
        parts += ["nginx"] if self.proxied else []
        parts += [f"upgraded from {self.upgraded_from}"] if self.upgraded_from else []
        parts += [f"{self.migrations_killed} of its migrations killed"] if self.migrations_killed else []
        return ", ".join(parts)


@dataclass
class Member:
    """A place for a process, under its own name in the consumer groups."""

    name: str
    service: str
    url: str
    consumer: str
    process: subprocess.Popen[bytes] | None = None
    struck: set[int] = field(default_factory=set[int])

    @property
    def ready_url(self) -> str:
        return f"{self.url}/{self.service}/readyz"

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            if number in (signal.SIGKILL, signal.SIGTERM):
                self.struck.add(self.process.pid)
            self.process.send_signal(number)


class House:
    """Enter with `running_house`. Faults are done to its members and servers; it comes back by itself."""

    def __init__(
        self, data: Path, servers: Servers, shape: Shape, random: Random, receiver: Receiver, disks: Disks
    ) -> None:
        self.servers, self.shape, self.receiver, self.disks = servers, shape, receiver, disks
        self.settings = Settings().model_copy(
            update={
                "data": data,
                "redis_url": servers.redis_url,
                "database_url": servers.database_url,
                "partitions": shape.partitions,
                "channel_hosts": "127.0.0.1",
            }
        )
        self.left: Left | None = None
        """What the city had promised before it was upgraded, if it was."""
        self.proxy: str | None = None
        """Address of the proxy, if there is one."""
        self.clocks: list[tuple[datetime, timedelta]] = [(datetime.now(UTC), timedelta(0))]
        """Real times at which the clocks of escalation were set, and how far ahead of the real time."""
        self.deaths: list[str] = []
        """Processes that ended without having been struck."""
        self.started: list[float] = []
        """When all processes were started, in seconds since 1970."""
        self.stopped = asyncio.Lock()
        """Held by who ends all processes and starts them again."""
        self._random = random
        counts = zip(SERVICES, (shape.intakes, shape.escalations, shape.ledgers), strict=True)
        self.members = [self._member(service, n + 1) for service, count in counts for n in range(count)]
        self._keepers: dict[str, asyncio.Task[None]] = {}

    def _member(self, service: str, number: int) -> Member:
        name = f"{service}-{number}"
        return Member(name, service, f"http://127.0.0.1:{free_port()}", service if self.shape.one_name else name)

    def header(self, principal: Principal) -> dict[str, str]:
        return {"authorization": f"Bearer {issuer(self.settings.keys_dir).issue(principal, days=1)}"}

    def address(self, service: str) -> tuple[str, str]:
        """Name and address of one of its processes; those of the proxy and the service's name where there is one."""
        member = self._random.choice(self.of(service))
        return (service, self.proxy) if self.proxy else (member.name, member.url)

    def of(self, service: str) -> list[Member]:
        return [m for m in self.members if m.service == service]

    @property
    def outbox(self) -> Path:
        return self.settings.data / "outbox.ndjson"

    # --- the clocks of escalation ---

    @property
    def ahead(self) -> timedelta:
        """Of the clocks of escalation before the real time; the same for all its processes, but for their start-up."""
        return self.clocks[-1][1]

    @property
    def set_back(self) -> timedelta:
        """The furthest that the clocks were behind a time that they had shown before."""
        shown, most = timedelta(0), timedelta(0)
        for _, ahead in self.clocks:
            shown = max(shown, ahead)
            most = max(most, shown - ahead)
        return most

    def now(self) -> datetime:
        """What the clocks of escalation say; no process is ahead of it."""
        return datetime.now(UTC) + self.ahead

    def leap(self, ahead: timedelta) -> None:
        """All processes of escalation end at once, and come back with clocks that are so much ahead, or behind."""
        self.clocks.append((datetime.now(UTC), self.ahead + ahead))
        for member in self.of("escalation"):
            member.signal(signal.SIGKILL)

    def leap_past(self, most: timedelta) -> None:
        """The same, to so much after the latest time that the clocks have shown."""
        self.leap(max(ahead for _, ahead in self.clocks) - self.ahead + most)

    # --- processes ---

    def start(self) -> None:
        self.started.append(datetime.now(UTC).timestamp())
        self._keepers = {m.name: asyncio.create_task(self._keep(m)) for m in self.members}

    async def end(self, service: str | None = None) -> datetime:
        """For good, all processes or those of one service; what the clocks of escalation said then."""
        ended = [m for m in self.members if service in (None, m.service)]
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

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "REDIS_URL": self.servers.redis_url,
            "DATABASE_URL": self.servers.database_url,
            "TRUCBAN_DATA": str(self.settings.data),
            "TRUCBAN_CHANNEL_HOSTS": self.settings.channel_hosts,
        }

    async def runs_command(self, *arguments: str) -> bool:
        """Whether this command of `trucban` does its work."""
        return await (await self.begin_command(*arguments)).wait() == 0

    async def begin_command(self, *arguments: str) -> asyncio.subprocess.Process:
        with self._log("commands").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                TRUCBAN, *arguments, env=self._environment(), stdout=log, stderr=log
            )

    def _spawn(self, member: Member) -> subprocess.Popen[bytes]:
        own = {name.upper(): url for name, url in self.servers.of(member.service).items()}
        environment = (
            self._environment()
            | own
            | {
                "TRUCBAN_CLAIM_IDLE_SECONDS": "2",
                "TRUCBAN_CONSUMER": member.consumer,
                "TRUCBAN_PARTITIONS": str(self.shape.partitions),
            }
        )
        if member.service == "escalation":
            environment["TRUCBAN_CLOCK"] = self.now().isoformat()
        port = member.url.rpartition(":")[2]
        with self._log(member.name).open("ab") as log:
            # A session of its own: the kernel shares the processors out among sessions, and a service has its share.
            return subprocess.Popen(
                [TRUCBAN, "serve", member.service, "--port", port], env=environment, stderr=log, start_new_session=True
            )

    def starved(self) -> int:
        """Per cent of the time in which its processes wanted to run and waited for a processor."""
        ran, waited = 0, 0
        for member in self.members:
            if member.process is not None and member.runs:
                told = Path(f"/proc/{member.process.pid}/schedstat").read_text().split()
                ran, waited = ran + int(told[0]), waited + int(told[1])
        return round(100 * waited / (ran + waited)) if ran else 0

    def _log(self, name: str) -> Path:
        return self.settings.data / "log" / f"{name}.log"

    def said(self) -> dict[str, list[str]]:
        """Lines of the log of each process's place."""
        return {m.name: self._lines(m.name) for m in self.members}

    def _lines(self, name: str) -> list[str]:
        return self._log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()

    def database_log(self) -> list[str]:
        return self._lines("postgres")

    def last_words(self, name: str, lines: int = 1) -> str:
        return "\n".join(self._lines(name)[-lines:])

    async def not_ready(self, members: Sequence[Member] | None = None) -> list[str]:
        """Each process that runs and whose /readyz is not 200, with what it complains about."""
        asked = [m for m in members or self.members if m.name in self._keepers]
        # verify: reading the certificates, which nothing here has, would take longer than the answer
        async with httpx.AsyncClient(timeout=10, verify=False) as client:
            found = await asyncio.gather(*(_complaint(client, member) for member in asked))
        return [complaint for complaint in found if complaint]

    async def until_ready(self, seconds: float, members: Sequence[Member] | None = None) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while await self.not_ready(members):  # noqa: ASYNC110 - the event is in other processes
                await asyncio.sleep(0.1)


async def _complaint(client: httpx.AsyncClient, member: Member) -> str | None:
    try:
        answer = await client.get(member.ready_url)
    except httpx.HTTPError as error:
        return f"{member.name} does not answer: {type(error).__name__}"
    if answer.status_code == 200:
        return None
    said = [f"{check['name']}: {check['detail']}" for check in answer.json()["checks"] if not check["ok"]]
    return f"{member.name} is not ready: {'; '.join(said)}"


@asynccontextmanager
async def running_house(shape: Shape, random: Random) -> AsyncGenerator[House]:
    """All processes running, wards, post-holders and the rule there, every process ready.

    Of a city to be upgraded only the servers run, with what was left in them: upgrade.py does the rest.
    """
    with passable_folder("faults") as data, running_disks(data, shape.small_disks) as disks:
        async with embedded_servers(data) as servers, running_receiver() as receiver:
            await restart_postgres(servers)
            house = House(data, servers, shape, random, receiver, disks)
            if shape.upgraded_from:
                house.left = await left_city(servers.database_url, data, shape.upgraded_from)
            else:
                await furnish(house)
                house.start()
            try:
                await house.until_ready(READY_SECONDS)
                upstreams = {service: [m.url for m in house.of(service)] for service in SERVICES}
                async with running_proxy(data, upstreams if shape.proxied else {}) as house.proxy:
                    yield house
            finally:
                await house.end()


async def furnish(house: House) -> None:
    """Wards, post-holders and the rule, and the schemas for them. Can be repeated."""
    await _import(house, "wards", WARDS)
    await _import(house, "directory", directory(house.receiver))
    await _adopt(house)


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


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]

"""One service as a process of its own: watched, and started again when it dies."""

import asyncio
import sys
from asyncio import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import structlog

from services.cli.front.orders import Orders
from shared.clock import monotonic

log = structlog.get_logger()

ADDRESS = "http://service"
"""The host is not looked up: all goes over the socket."""
POLL_SECONDS = 0.05
"""While it starts."""
WATCH_SECONDS = 1.0
ANSWER_SECONDS = 5.0
"""A service that does not answer /healthz for so long hangs."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 20.0
"""Before it is started again; each time twice as long."""
WELL_SECONDS = 60.0
"""Who ran so long begins with the first pause again."""
STOP_SECONDS = 30.0
"""As long as a delivery may take, and more; then it is killed."""


class ServiceEndedError(Exception):
    """A service ended by itself when it was first started. It has said why, in one line."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(name, code)
        self.code = code


class ServiceProcess:
    """Requests to the service go through `client`, within `abortable`."""

    def __init__(self, name: str, socket: Path) -> None:
        self.name, self.socket = name, socket
        self.failure: str | None = "is starting"
        """Why requests cannot be answered, or None."""
        self.started = asyncio.Event()
        """Set once it answered for the first time."""
        self._process: subprocess.Process | None = None
        self._limits: set[asyncio.Timeout] = set()
        self.client = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket), limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer, or for the rest of it."""
        return len(self._limits)

    async def spawn(self) -> None:
        """Start the process. It imports its service, and waits for its orders."""
        # -P: a folder `services` where somebody happens to stand is not ours
        command = (sys.executable, "-P", "-m", "services.cli", "serve", self.name, "--behind-front")
        # a session of its own: a terminal's Ctrl-C is for the front, which stops the services in order
        self._process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, start_new_session=True)

    async def keep_running(self, orders: Callable[[Path], Orders]) -> None:
        """Give the orders, and start the service again whenever it dies. Ends by cancellation.

        Raises ServiceEndedError if it ends by itself before it ever answered: starting it again would not mend that.
        """
        pause = FIRST_PAUSE
        while True:
            began = monotonic()
            if self._process is None:
                await self.spawn()
            assert self._process is not None
            code = await self._live(self._process, orders(self.socket))
            if code > 0 and not self.started.is_set():
                raise ServiceEndedError(self.name, code)
            if monotonic() - began > WELL_SECONDS:
                pause = FIRST_PAUSE
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            log.warning("service died, starting it again", service=self.name, how=how, again_in=f"{pause:g} s")
            self.fail(f"{how} and is started again")
            self._process = None
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _live(self, process: subprocess.Process, orders: Orders) -> int:
        """Watch the process until it ends. Returns its exit code; below 0, it is that of a signal."""
        assert process.stdin is not None
        with suppress(ConnectionError):  # it ended already
            process.stdin.write(orders.as_bytes())
            await process.stdin.drain()
        wait, is_new = POLL_SECONDS, True
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    return await process.wait()
            if await self.ask("/healthz", ANSWER_SECONDS) is not None:
                if is_new and self.started.is_set():
                    log.info("service is back", service=self.name, pid=process.pid)
                self.failure, wait, is_new = None, WATCH_SECONDS, False
                self.started.set()
            elif not is_new:
                self.fail(f"process {process.pid} does not answer within {ANSWER_SECONDS:.0f} s")

    @asynccontextmanager
    async def abortable(self) -> AsyncGenerator[asyncio.Timeout]:
        """A block that raises TimeoutError when the service fails meanwhile."""
        async with asyncio.timeout(None) as limit:
            self._limits.add(limit)
            try:
                yield limit
            finally:
                self._limits.discard(limit)

    def fail(self, failure: str) -> None:
        """From now on requests are refused, and those that wait for an answer wait no longer."""
        self.failure = failure
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(0.0)

    async def ask(self, path: str, seconds: float) -> tuple[int, bytes] | None:
        """Status and body of the answer to a GET, as to a caller on this machine; None if there is none in time."""
        try:
            async with (
                asyncio.timeout(seconds),
                self.client.get(ADDRESS + path, headers={"X-Forwarded-For": "127.0.0.1"}) as answer,
            ):
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError):  # TimeoutError too
            return None

    async def stop(self) -> None:
        """Have the service end in order; kill it if it does not."""
        await self.client.close()
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):  # it ended before
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS if self.failure is None else ANSWER_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("service does not stop, killing it", service=self.name, pid=process.pid)
            process.kill()
            await process.wait()

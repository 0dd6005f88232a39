"""One server as a child process: ready when it answers, started again when it dies, ended with its parent."""

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import structlog

from services.cli.embedded.account import Account
from services.cli.embedded.data_folder import private_home, socket_folder
from services.cli.embedded.errors import EmbeddedError

log = structlog.get_logger()

READY_SECONDS = 120.0
"""Long, because recovery after a crash is work in proportion to what had been written."""
START_ATTEMPTS = 3
"""A server that is killed while it starts is started again. One that cannot start fails as often in a second."""
_PROC = Path("/proc")
_ERROR_WORDS = re.compile(r"FATAL|PANIC|rror|annot|an't|denied|Bad ")


class Child(ABC):
    """What both servers have in common; a subclass knows its files, its command line and its protocol."""

    name: ClassVar[str]
    executable: ClassVar[str]
    """The name of its processes, as in /proc/PID/comm."""
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]
    """Signals to the leading process, gentlest first, with the seconds each is given; SIGKILL follows."""

    def __init__(self, data: Path, account: Account) -> None:
        self.account = account
        self.home = private_home(data, self.name, account)
        self.sockets = socket_folder(self.home, data / f"{self.name}-socket", account)
        self.log_file = data / "log" / f"{self.name}.log"
        # In the title of each process of the server: so a process that was left behind is known as ours.
        self.mark = f"trucban-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """For the owner, in any process of this account, or of root."""

    @abstractmethod
    def url_of(self, service: str) -> str:
        """The same, with what this service may do and no more."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what the first start needs. Blocks; no server runs on `home` meanwhile."""

    @abstractmethod
    def command(self) -> list[str | Path]: ...

    @abstractmethod
    async def is_ready(self) -> bool:
        """Ask the server once whether it is ready for work."""

    def leading_pids(self, pids: list[int]) -> list[int]:
        """Those of its processes to which `stop_signals` may go."""
        return pids

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedError(f"embedded {self.name} is not running: read its pid inside embedded_servers")
        return self._process.pid

    async def start(self) -> None:
        """Return when the server is ready. Raises EmbeddedError with the last line of its log."""
        await asyncio.to_thread(self.end_leftovers)
        await asyncio.to_thread(self.prepare)
        await self._launch()

    async def keep_running(self) -> None:
        """Start the server again whenever it dies, soon and then more patiently. Ends by cancellation."""
        pause = 0.1
        while True:
            began = time.monotonic()
            await _until(self._has_ended)
            if time.monotonic() - began > 10:
                pause = 0.1
            log.warning("embedded server died, starting it again", server=self.name, log=str(self.log_file))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            try:
                await asyncio.to_thread(self.end_leftovers)
                await self._launch()
            except Exception as error:  # whatever it was, giving up would leave every service without it
                log.error("embedded server did not start again", server=self.name, error=str(error))
            else:
                log.info("embedded server is back", server=self.name, pid=self.pid)

    async def stop(self) -> None:
        """Stop the server by `stop_signals`, which lose nothing; kill it only if they do not end it."""
        if self._process is None:
            return
        for number, seconds in (*self.stop_signals, (signal.SIGKILL, 10.0)):
            if self._has_ended():
                break
            self._process.send_signal(number)
            await _until(self._has_ended, seconds)
        await asyncio.to_thread(self.end_leftovers)

    def end_leftovers(self) -> None:
        """End what a killed parent or a killed leading process left running on `home`. Blocks."""
        pids = self._leftover_pids()
        if not pids:
            return
        log.warning("ending processes left behind", server=self.name, pids=pids)
        # Without a leader there is no orderly end to wait for, only a backend busy with a query for nobody.
        orderly = self.stop_signals if self.leading_pids(pids) else ()
        for number, seconds in (*orderly, (signal.SIGKILL, 10.0)):
            for pid in pids if number == signal.SIGKILL else self.leading_pids(pids):
                _send(pid, number)
            deadline = time.monotonic() + seconds
            while pids and time.monotonic() < deadline:
                time.sleep(0.01)
                pids = self._leftover_pids()
            if not pids:
                return
        raise EmbeddedError(f"{self.name} left behind does not end: end process {pids[0]}, then start again")

    def _leftover_pids(self) -> list[int]:
        """The processes of this server on `home`, known by account, executable and the mark in their title."""
        if not (_PROC / "self" / "comm").exists():
            raise EmbeddedError("embedded servers need /proc (Linux): set REDIS_URL and DATABASE_URL instead")
        numbered = (entry for entry in _PROC.iterdir() if entry.name.isdigit())
        return [int(entry.name) for entry in numbered if self._is_leftover(entry)]

    def _is_leftover(self, entry: Path) -> bool:
        try:
            return (
                entry.stat().st_uid == self.account.uid
                and (entry / "comm").read_text(errors="replace").strip() == self.executable
                and self.mark.encode() in (entry / "cmdline").read_bytes()
            )
        except (FileNotFoundError, ProcessLookupError):
            return False  # it ended while we looked

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    async def _launch(self) -> None:
        for _ in range(START_ATTEMPTS):
            self.spawn()
            if await self._becomes_ready():
                return
            log.warning("embedded server died while it started", server=self.name, log=str(self.log_file))
            await asyncio.to_thread(self.end_leftovers)
        raise EmbeddedError(f"{self.name} did not start: {self._last_log_line()} (log: {self.log_file})")

    async def _becomes_ready(self) -> bool:
        """False if it has died. Raises EmbeddedError if it takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while not await self.is_ready():
            if self._has_ended():
                return False
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.name} does not answer after {READY_SECONDS:.0f} s: {self._last_log_line()} "
                    f"(log: {self.log_file})"
                )
            await asyncio.sleep(0.02)
        return True

    def spawn(self) -> None:
        """Start the process, which is then not yet ready. It gets its gentlest signal when we are killed."""
        with self.log_file.open("ab") as output:
            self._log_start = output.tell()
            self._process = self.account.spawn(self.command(), output.fileno(), when_we_end=self.stop_signals[0][0])

    def _last_log_line(self) -> str:
        with self.log_file.open("rb") as written:
            written.seek(self._log_start)
            lines = written.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
        return next((line for line in reversed(said) if _ERROR_WORDS.search(line)), said[-1])


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended before the signal came


async def _until(condition: Callable[[], bool], seconds: float = float("inf")) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - a process's end sets no asyncio.Event
        await asyncio.sleep(0.05)

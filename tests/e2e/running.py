"""`trucban` as a user runs it: commands to their end, and the whole system as a process that is told to stop."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

TRUCBAN = Path(sys.executable).parent / "trucban"
PATIENCE_SECONDS = 60
_ADDRESS = re.compile(rb"http://127\.0\.0\.1:\d+")


def environment(data: Path) -> dict[str, str]:
    """Ours, without what would lead to another system than the one in `data`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TRUCBAN_")}
    return {k: v for k, v in kept.items() if k not in ("REDIS_URL", "DATABASE_URL")} | {"TRUCBAN_DATA": str(data)}


def trucban(data: Path, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One command, run to its end."""
    return subprocess.run(
        [TRUCBAN, *arguments],
        env=environment(data),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def until(
    condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS, *, every: float = 0.002
) -> None:
    """Raises AssertionError that says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        threading.Event().wait(every)


@dataclass
class Up:
    """`trucban up --no-sample` on the data folder `data`, answering at `url`; killed on leaving, if it still runs."""

    data: Path
    env: dict[str, str] = field(default_factory=dict[str, str])
    """What is set for it beside TRUCBAN_DATA."""
    log: Path = Path(os.devnull)
    """What its processes write to standard error."""
    url: str = ""
    said: bytes = b""
    _process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        command = [TRUCBAN, "up", "--no-sample", "--port", "0"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment(self.data) | self.env, stdout=subprocess.PIPE, stderr=log
            )
        try:
            self.url = self._address()
        except BaseException:
            self.__exit__()
            raise

    def _address(self) -> str:
        assert self._process.stdout is not None
        for line in iter(self._process.stdout.readline, b""):
            if found := _ADDRESS.search(line):
                return found[0].decode()
        raise AssertionError(f"up on {self.data} ended with {self._process.wait()} before it served")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.end(signal.SIGKILL)

    @property
    def pid(self) -> int:
        return self._process.pid

    def until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while (answer := client.get("/readyz")).status_code != 200:
                assert time.monotonic() < deadline, f"not ready after {PATIENCE_SECONDS} s: {answer.text}"
                time.sleep(0.05)

    def service_pid(self, service: str) -> int:
        """The process of one service."""
        return next(pid for pid in self.children() if f" serve {service} " in _read(pid, "cmdline"))

    def children(self) -> list[int]:
        """Every process below this one, at whatever depth."""
        found = [self.pid]
        for parent in found:
            found += [pid for pid, its_parent in _parents().items() if its_parent == parent]
        return found[1:]

    def end(self, number: signal.Signals) -> int:
        """Its exit code once it has ended."""
        self._process.send_signal(number)
        code = self._process.wait(timeout=PATIENCE_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


def alive(pids: list[int]) -> list[str]:
    """Those of `pids` that still run, with their command lines."""
    return [f"{pid}: {_read(pid, 'cmdline')}" for pid in pids if pid in _parents()]


def _parents() -> dict[int, int]:
    """The parent of each process that has not ended."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            after_name = _read(int(entry.name), "stat").rpartition(")")[2].split()
            if after_name and after_name[0] != "Z":
                found[int(entry.name)] = int(after_name[1])
    return found


def _read(pid: int, entry: str) -> str:
    """ "" when the process has ended in the meantime."""
    try:
        return Path(f"/proc/{pid}/{entry}").read_text(errors="replace").replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""

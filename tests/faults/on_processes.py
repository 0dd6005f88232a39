"""Faults of processes: killed, frozen, restarted one after another, and with other clocks."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

from tests.faults.administration import postgres_pid, send
from tests.faults.stack import READY_SECONDS, House, Member

Do = Callable[[House, Random, float], Awaitable[None]]
END_SECONDS = 30.0
"""How long a process may take to end after SIGTERM."""
CHANGE_SECONDS = 180.0
"""Longer than any other fault keeps an operator from a stopped city."""


# --- killed ---


def kill(service: str) -> Do:
    """One of its processes."""

    async def do(house: House, draw: Random, _: float) -> None:
        draw.choice(house.of(service)).signal(signal.SIGKILL)

    return do


async def kill_redis(house: House, _: Random, __: float) -> None:
    send(house.servers.redis_pid, signal.SIGKILL)


async def kill_postgres(house: House, _: Random, __: float) -> None:
    send(postgres_pid(house.servers), signal.SIGKILL)


# --- frozen ---


def freeze(service: str) -> Do:
    """One of its processes stands still for a while, and then goes on where it was."""

    async def do(house: House, draw: Random, seconds: float) -> None:
        async with frozen([draw.choice(house.of(service))], seconds):
            pass

    return do


@asynccontextmanager
async def frozen(members: Sequence[Member], seconds: float) -> AsyncGenerator[None]:
    """They stand still for so long; the body runs then, just before they go on."""
    processes = [member.process for member in members if member.runs]
    for member in members:
        member.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
        yield
    finally:
        for process in processes:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)


async def freeze_redis(house: House, _: Random, seconds: float) -> None:
    await _freeze_pids([house.servers.redis_pid], seconds)


async def freeze_postmaster(house: House, _: Random, seconds: float) -> None:
    """Sessions go on, and no new one begins."""
    if pid := postgres_pid(house.servers):
        await _freeze_pids([pid], seconds)


async def freeze_postgres(house: House, _: Random, seconds: float) -> None:
    """All of it, as a machine that is suspended."""
    if pid := postgres_pid(house.servers):
        await _freeze_pids([pid, *_children(pid)], seconds)


async def freeze_backend(house: House, draw: Random, seconds: float) -> None:
    """One session stands still, with whatever it has locked."""
    if pid := postgres_pid(house.servers):
        sessions = sorted(child for child in _children(pid) if "[local]" in _title(child))
        if sessions:
            await _freeze_pids([draw.choice(sessions)], seconds)


async def _freeze_pids(pids: Sequence[int], seconds: float) -> None:
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    return [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == pid]


def _parent(stat: Path) -> int | None:
    try:
        return int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _title(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""


# --- restarted ---


async def restart_all(house: House, _: Random, __: float) -> None:
    """Each process is told to end, and the next one when it is back and ready."""
    for member in house.members:
        process = member.process
        if process is None or not member.runs:
            continue
        member.signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while process.poll() is None:  # noqa: ASYNC110 - a process's end sets no asyncio.Event
                    await asyncio.sleep(0.05)
        if member.process is process:
            member.signal(signal.SIGKILL)
        with suppress(TimeoutError):
            await house.until_ready(READY_SECONDS / 2, [member])


async def change_partitions(house: House, draw: Random, _: float) -> None:
    """All processes end, an operator changes the number of partitions, and they start again with it.

    He tries again while the database is away, or somebody else uses it.
    """
    async with house.stopped:
        count = draw.choice([n for n in (1, 2, 4) if n != house.shape.partitions])
        await house.end()
        async with asyncio.timeout(CHANGE_SECONDS):
            while not await house.runs_command("partitions", str(count)):  # noqa: ASYNC110 - the event is elsewhere
                await asyncio.sleep(0.5)
        house.shape = replace(house.shape, partitions=count)
        house.settings = house.settings.model_copy(update={"partitions": count})
        house.start()


# --- with other clocks ---


async def outage(house: House, draw: Random, _: float) -> None:
    """All of escalation ends, and minutes have passed when it is back."""
    house.leap(timedelta(seconds=draw.randrange(60, 240)))


async def clock_forward(house: House, draw: Random, _: float) -> None:
    house.leap(timedelta(seconds=draw.randrange(60, 3600)))


async def clock_back(house: House, draw: Random, _: float) -> None:
    house.leap(-timedelta(seconds=draw.randrange(60, 3600)))

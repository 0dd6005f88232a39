"""`make faults-hostile`: attacks on a whole system, each beside a normal sender.

    make faults-hostile                      # every attack for 10 seconds
    make faults-hostile SECONDS=30 ONLY=many # the attacks whose names hold the word, for longer

The system is `trucban up` on embedded servers, in its own folder. A normal sender sends ten reports a second, first
alone ("idle"), then during each attack; sender and attackers are processes of their own. The table says how long the
sender waited, how often it failed, how much memory the system's processes held together, and what the attackers were
told. The figures are of this machine and this moment: no test asserts them. Exit code 1: the sender failed, the desk
got no place on the stream, or the system was not ready afterwards.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.measure import free_port, process
from benchmarks.path import imported
from services.cli.embedded import erase
from shared.http.identity import Principal, issuer
from tests.faults.hostile.attacks import ATTACKS, Attack, Target
from tests.faults.hostile.sender import Measured
from tests.faults.run import say

BOUND = 5.0
MEMORY_MB = 600
READY_SECONDS = 60.0
REST_SECONDS = 2.0
"""After an attack, before the next."""
SERVERS = ("postgres", "redis-server")


@dataclass
class Line:
    """What one attack came to."""

    name: str
    measured: Measured
    memory_mb: float
    answers: dict[int, int]
    largest: int
    desk_has_a_place: bool


def main() -> None:
    asking = argparse.ArgumentParser(prog="make faults-hostile")
    asking.add_argument("--seconds", type=float, default=10.0)
    asking.add_argument("--only", default="")
    asked = asking.parse_args()
    attacks = [attack for attack in ATTACKS if asked.only in attack.__name__]
    with tempfile.TemporaryDirectory(prefix="trucban-hostile-") as folder:
        Path(folder).chmod(0o711)
        data = Path(folder) / "data"
        try:
            lines, is_ready = asyncio.run(_run(data, attacks, asked.seconds))
        finally:
            erase(data)
    sys.exit(_told(lines, is_ready=is_ready))


async def _run(data: Path, attacks: Sequence[Attack], seconds: float) -> tuple[list[Line], bool]:
    await imported(data)
    port = free_port()
    tokens = issuer(data / "keys")
    target = Target(
        port,
        device=tokens.issue(Principal("hostile-device", "device")),
        officer=tokens.issue(Principal("hostile-officer", "officer", "14776")),
    )
    up = ("-m", "services.cli", "up", "--no-sample", "--data", str(data), "--port", str(port))
    # no proxy that is believed: clients of this machine are bounded like those of any other address
    environment = {"FORWARDED_ALLOW_IPS": "192.0.2.1", "TRUCBAN_LOG_LEVEL": "error"}
    async with process(*up, port=port, ready="/readyz", environment=environment) as pid:
        lines = [
            await _one(attack, target, pid, tokens.issue(Principal("normal", "device")), desk, seconds)
            for desk in [tokens.issue(Principal("truc-ban", "desk"))]
            for attack in (None, *attacks)
        ]
        return lines, await _is_ready(port)


async def _one(attack: Attack | None, target: Target, pid: int, token: str, desk: str, seconds: float) -> Line:
    name = attack.__name__ if attack else "idle"
    say(f"{name} …")
    given = (str(target.port), token, f"normal-{name}", str(seconds))
    attacker = await _start("attacker", name, json.dumps([target.port, target.device, target.officer]), str(seconds))
    sender = await _start("sender", *given)
    most, has_place = 0.0, True
    told = asyncio.gather(sender.communicate(), attacker.communicate())
    while not told.done():
        await asyncio.wait({told}, timeout=0.5)
        most = max(most, _memory_mb(pid))
    has_place = await _follows(target.port, desk)
    (of_sender, _), (of_attacker, _) = await told
    answers, largest = json.loads(of_attacker)
    await asyncio.sleep(REST_SECONDS)
    counted = {int(status): count for status, count in answers.items()}
    line = Line(name, Measured(**json.loads(of_sender)), most, counted, largest, has_place)
    say(f"{name}: p50 {line.measured.p(50):.0f} ms, p99 {line.measured.p(99):.0f} ms, {most:.0f} MB, {answers}")
    return line


async def _start(module: str, *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", f"tests.faults.hostile.{module}", *arguments)
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


async def _follows(port: int, token: str) -> bool:
    """Whether the desk gets a place on the stream."""
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=READY_SECONDS) as client,
        client.stream("GET", "/escalation/v1/stream", headers=headers) as answer,
    ):
        return answer.status_code == 200


async def _is_ready(port: int) -> bool:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=READY_SECONDS) as client:
        for _ in range(round(READY_SECONDS)):
            if (await client.get("/readyz")).status_code == 200:
                return True
            await asyncio.sleep(1)
    return False


def _memory_mb(pid: int) -> float:
    """Of our processes from `pid` down, without the servers; what they share is divided between them (PSS)."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = status.read_text().rsplit(")", 1)
        except OSError:
            continue
        if not any(server in name for server in SERVERS):
            parents.setdefault(int(rest.split()[1]), []).append(int(status.parent.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return sum(map(_pss_kb, found)) / 1_024


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _told(lines: Sequence[Line], *, is_ready: bool) -> int:
    """Print the table. Returns the exit code."""
    idle = lines[0].measured.p(99)
    table = Table(
        "attack",
        "p50 ms",
        "p99 ms",
        f"x idle (< {BOUND:g})",
        "failed",
        f"MB (< {MEMORY_MB})",
        "answers to it",
        "largest",
    )
    for line in lines:
        answers = "  ".join(f"{status or 'hung up'}: {count}" for status, count in sorted(line.answers.items()))
        table.add_row(
            line.name,
            f"{line.measured.p(50):.1f}",
            f"{line.measured.p(99):.1f}",
            f"{line.measured.p(99) / idle:.1f}",
            f"{line.measured.failed} of {len(line.measured.milliseconds)}",
            f"{line.memory_mb:.0f}",
            answers,
            f"{line.largest:,}",
        )
    Console(width=150).print(table)
    without = [line.name for line in lines if not line.desk_has_a_place]
    failed = [line.name for line in lines if line.measured.failed]
    say(f"the sender failed during: {', '.join(failed) or 'none of them'}")
    say(f"the desk had no place on the stream after: {', '.join(without) or 'none of them'}")
    say("ready afterwards" if is_ready else "NOT ready afterwards")
    return 1 if failed or without or not is_ready else 0


if __name__ == "__main__":
    main()

"""`python -m tests.faults.hostile.sender PORT TOKEN PREFIX SECONDS`: a normal sender, in a process of its own.

Ten reports a second, each measured from the moment at which it was due. Tells as JSON what it measured.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field

import orjson

from benchmarks.measure import Connection
from benchmarks.stack import reports

EVERY_SECONDS = 0.1
CONNECTIONS = 16
PATIENCE_SECONDS = 60.0


@dataclass
class Measured:
    milliseconds: list[float] = field(default_factory=list[float])
    failed: int = 0
    """Answered with something else than 201, or not at all."""

    def p(self, percent: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("inf")


async def send(port: int, token: str, prefix: str, seconds: float) -> Measured:
    """Over several connections, so that a slow answer does not hold up the next report."""
    loop, found = asyncio.get_running_loop(), Measured()
    bodies = [orjson.dumps(report) for report in reports(round(seconds / EVERY_SECONDS), prefix)]
    begin = loop.time()
    due = iter(enumerate(bodies))

    async def work() -> None:
        connection: Connection | None = None
        for number, body in due:
            at = begin + number * EVERY_SECONDS
            await asyncio.sleep(at - loop.time())
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    connection = connection or await Connection.open(port)
                    status, _ = await connection.request("POST", "/intake/v1/reports", body, token)
            except (OSError, asyncio.IncompleteReadError):  # TimeoutError too
                status, connection = 0, None
            found.milliseconds.append((loop.time() - at) * 1_000)
            found.failed += status != 201
        if connection is not None:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())
    return found


if __name__ == "__main__":
    _, at_port, bearer, name, duration = sys.argv
    sys.stdout.write(json.dumps(asdict(asyncio.run(send(int(at_port), bearer, name, float(duration))))))

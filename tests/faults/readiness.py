"""What every process's /readyz said, about once a second, for as long as a run lasts."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from tests.faults.stack import House, Member

EVERY_SECONDS = 1.0
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Said:
    """An answer of a process: that it is ready, or what it complains about. No answer is not kept."""

    at: float
    """Seconds since 1970, when the answer came."""
    name: str
    service: str
    ready: bool
    complaints: str = ""
    """What it complains about."""

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at, UTC).strftime("%H:%M:%S.%f")[:-4]
        return f"{at} {self.name} {'ready' if self.ready else f'not ready: {self.complaints}'}"


@dataclass
class Watcher:
    said: list[Said] = field(default_factory=list[Said])

    def of(self, service: str) -> Sequence[Said]:
        return [said for said in self.said if said.service == service]


@asynccontextmanager
async def watching(house: House) -> AsyncGenerator[Watcher]:
    watcher = Watcher()
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
        tasks = [asyncio.create_task(_follow(client, watcher, member)) for member in house.members]
        try:
            yield watcher
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(client: httpx.AsyncClient, watcher: Watcher, member: Member) -> None:
    while True:
        try:
            answer = await client.get(member.ready_url)
        except httpx.HTTPError:
            pass
        else:
            at = datetime.now(UTC).timestamp()
            watcher.said.append(Said(at, member.name, member.service, answer.status_code == 200, _complaints(answer)))
        await asyncio.sleep(EVERY_SECONDS)


def _complaints(answer: httpx.Response) -> str:
    if answer.status_code == 200:
        return ""
    try:
        checks = answer.json()["checks"]
    except (ValueError, LookupError):
        return f"{answer.status_code} {answer.text[:100]}"
    return "; ".join(f"{check['name']}: {check['detail']}" for check in checks if not check["ok"])

"""Senders who do not give up: each report goes out until it is accepted, under the same id. And people at work."""

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx

from tests.faults.asking import PATIENCE_SECONDS, Asking, is_served, now, pause
from tests.faults.city import DESK, Submitted
from tests.faults.people import People
from tests.faults.stack import House

SENDERS = 8
BATCHERS = 2
UNTIL_ACCEPTED_SECONDS = 180.0
"""Longer than any recovery takes: a report that is not accepted by then is an error of its own."""


class Load:
    """Runs while faults happen. `accepted` holds only what was answered with success."""

    def __init__(self, house: House, reports: Iterator[Submitted], random: Random) -> None:
        self.accepted: dict[str, float] = dict.fromkeys(house.left.accepted if house.left else (), now())
        """When each report was first answered with success, in seconds since 1970; of what was answered before an
        upgrade, when the run began."""
        self.refused: list[str] = []
        """Answers that no fault explains."""
        self._house, self._reports, self._random = house, reports, random
        self._progress = asyncio.Event()
        self._stop = asyncio.Event()
        self.asking = Asking(house)
        self.people = People(house, random, self._stop, self.asking)

    async def run(self) -> None:
        """Until `stop`; what is under way then is brought to its end."""
        limits = httpx.Limits(max_keepalive_connections=SENDERS)
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, limits=limits) as client, asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send_singly(client))
            for _ in range(BATCHERS):
                group.create_task(self._send_batches(client))
            self.people.start(group, client)

    def stop(self) -> None:
        self._stop.set()

    async def more_accepted(self, count: int, seconds: float) -> None:
        """Wait until `count` further reports have been accepted. Raises TimeoutError."""
        wanted = len(self.accepted) + count
        async with asyncio.timeout(seconds):
            while len(self.accepted) < wanted:
                self._progress.clear()
                await self._progress.wait()

    async def _send_singly(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            report = next(self._reports)
            await self._until_accepted(client, [report], "reports")
            if self._random.random() < 0.2:  # a sender who has not heard our answer
                await self._until_accepted(client, [report], "reports")
            await pause(self._random, 0.2, 1.2)

    async def _send_batches(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            first = next(self._reports)
            others = (next(self._reports).body for _ in range(self._random.randrange(2, 12)))
            # a batch has one sender, and officers are held to their ward
            batch = [Submitted(DESK, body) for body in (first.body, *others)]
            await self._until_accepted(client, batch, "reports:batch")
            await pause(self._random, 0.4, 2.4)

    async def _until_accepted(self, client: httpx.AsyncClient, reports: list[Submitted], route: str) -> None:
        left = {report.report_id: report for report in reports}
        try:
            async with asyncio.timeout(UNTIL_ACCEPTED_SECONDS):
                while left:
                    for report_id in await self._attempt(client, list(left.values()), route):
                        del left[report_id]
                    if left:
                        await asyncio.sleep(self._random.uniform(0.05, 0.2))
        except TimeoutError:
            self.refused.append(f"{', '.join(left)} not accepted within {UNTIL_ACCEPTED_SECONDS:.0f} s")

    async def _attempt(self, client: httpx.AsyncClient, reports: list[Submitted], route: str) -> set[str]:
        """Ids that need not be sent again."""
        is_single = route == "reports"
        body: Any = reports[0].body if is_single else [report.body for report in reports]
        answer = await self.asking.ask(
            client, "POST", f"intake/v1/{route}", reports[0].sender, body, served=_any_served
        )
        if answer is None:
            return set()
        return self._sort(_results(reports, answer, is_single), answer)

    def _sort(self, results: list[dict[str, Any]], answer: httpx.Response) -> set[str]:
        done: set[str] = set()
        for result in results:
            report_id, status = result["report_id"], result["status"]
            if status in (200, 201):
                self.accepted.setdefault(report_id, now())
                done.add(report_id)
            elif status < 500:
                self.refused.append(f"{report_id} was answered {status}: {answer.text[:300]}")
                done.add(report_id)
        self._progress.set()
        return done


def _results(reports: list[Submitted], answer: httpx.Response, is_single: bool) -> list[dict[str, Any]]:
    """What became of each report, with its id and a status."""
    if is_single:
        return [{"report_id": reports[0].report_id, "status": answer.status_code}]
    if answer.status_code == 200:
        return answer.json()["results"]
    return [{"report_id": None, "status": answer.status_code}]


def _any_served(answer: httpx.Response) -> bool:
    """A batch is answered 200, whatever became of its reports."""
    if answer.status_code != 200 or "results" not in answer.text:
        return is_served(answer)
    return any(result["status"] < 500 for result in answer.json()["results"])

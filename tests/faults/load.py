"""Senders who do not give up: each report goes out until it is accepted, under the same id. And people at work."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx

from shared.http.identity import Principal
from tests.faults.city import DESK, Submitted
from tests.faults.people import People
from tests.faults.stack import House

SENDERS = 8
BATCHERS = 2
PATIENCE_SECONDS = 120.0
"""Longer than any recovery takes: a report that is not accepted by then is an error of its own."""


class Load:
    """Runs while faults happen. `accepted` holds only what was answered with success."""

    def __init__(self, house: House, reports: Iterator[Submitted], random: Random) -> None:
        self.accepted: set[str] = set()
        self.refused: list[str] = []
        """Answers that no fault explains."""
        self.setbacks: Counter[str] = Counter()
        """What senders met before they were accepted."""
        self._house, self._reports, self._random = house, reports, random
        self._tokens: dict[Principal, dict[str, str]] = {}
        self._progress = asyncio.Event()
        self._stop = asyncio.Event()
        self.people = People(house, random, self._stop)

    async def run(self) -> None:
        """Until `stop`; what is under way then is brought to its end."""
        limits = httpx.Limits(max_keepalive_connections=SENDERS)
        async with httpx.AsyncClient(timeout=10, limits=limits) as client, asyncio.TaskGroup() as group:
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
            await self._pause()

    async def _send_batches(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            first = next(self._reports)
            others = (next(self._reports).body for _ in range(self._random.randrange(2, 12)))
            # a batch has one sender, and officers are held to their ward
            batch = [Submitted(DESK, body) for body in (first.body, *others)]
            await self._until_accepted(client, batch, "reports:batch")
            await self._pause()
            await self._pause()

    async def _pause(self) -> None:
        """Keeps the load at a rate that two processors bear, so that recovery is seen and not a backlog."""
        await asyncio.sleep(self._random.uniform(0.05, 0.45))

    async def _until_accepted(self, client: httpx.AsyncClient, reports: list[Submitted], route: str) -> None:
        left = {report.report_id: report for report in reports}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while left:
                    for report_id in await self._attempt(client, list(left.values()), route):
                        del left[report_id]
                    if left:
                        await asyncio.sleep(self._random.uniform(0.05, 0.2))
        except TimeoutError:
            self.refused.append(f"{', '.join(left)} not accepted within {PATIENCE_SECONDS:.0f} s")

    async def _attempt(self, client: httpx.AsyncClient, reports: list[Submitted], route: str) -> set[str]:
        """Ids that need not be sent again."""
        is_single = route == "reports"
        body: Any = reports[0].body if is_single else [report.body for report in reports]
        url = f"{self._house.url('intake')}/intake/v1/{route}"
        answer = await self._post(client, url, reports[0].sender, body)
        if answer is None:
            return set()
        if is_single:
            results = [{"report_id": reports[0].report_id, "status": answer.status_code}]
        elif answer.status_code == 200:
            results = answer.json()["results"]
        else:
            results = [{"report_id": None, "status": answer.status_code}]
        return self._sort(results, answer)

    def _sort(self, results: list[dict[str, Any]], answer: httpx.Response) -> set[str]:
        done: set[str] = set()
        for result in results:
            report_id, status = result["report_id"], result["status"]
            if status in (200, 201):
                self.accepted.add(report_id)
                done.add(report_id)
            elif status in (500, 503):
                self.setbacks[f"answer {status}"] += 1
            else:
                self.refused.append(f"{report_id} was answered {status}: {answer.text[:300]}")
                done.add(report_id)
        self._progress.set()
        return done

    async def _post(self, client: httpx.AsyncClient, url: str, sender: Principal, body: Any) -> httpx.Response | None:
        """None when no answer came, and nobody knows what became of it."""
        header = self._tokens.setdefault(sender, self._house.header(sender))
        try:
            return await client.post(url, json=body, headers=header)
        except httpx.HTTPError as error:
            self.setbacks[type(error).__name__] += 1
            return None

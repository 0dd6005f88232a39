"""Requests to the services, each by whichever process is picked, and what became of each."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx

from shared.http.identity import Principal
from tests.faults.stack import House
from tests.faults.truth import Attempt

PATIENCE_SECONDS = 10.0
"""How long a sender waits for an answer, before they ask again."""


BUSY = 2.0
"""Processes that want to run, for each core: what a run alone on two cores comes to."""


def now() -> float:
    """Seconds since 1970, as the database's records of its commits count them."""
    return datetime.now(UTC).timestamp()


async def pause(random: Random, least: float, most: float) -> None:
    """Longer on a machine that has other work: recovery is to be seen, and not a backlog."""
    await asyncio.sleep(
        random.uniform(least, most) * max(1.0, os.getloadavg()[0] / BUSY / len(os.sched_getaffinity(0)))
    )


def is_served(answer: httpx.Response) -> bool:
    return answer.status_code < 500


class Asking:
    def __init__(self, house: House) -> None:
        self.attempts: list[Attempt] = []
        """Every request that asks for something to be done."""
        self.setbacks: Counter[str] = Counter()
        """What was met before an answer with success."""
        self.unexplained: Counter[str] = Counter()
        """Failures that were answered otherwise than by 503 with Retry-After."""
        self._house = house
        self._tokens: dict[Principal, dict[str, str]] = {}

    async def ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        caller: Principal,
        body: Any = None,
        params: dict[str, str] | None = None,
        served: Callable[[httpx.Response], bool] = is_served,
    ) -> httpx.Response | None:
        """`path`: from the service's name on. None when no answer came, and nobody knows what became of it."""
        service = path.partition("/")[0]
        process, url = self._house.address(service)
        header = self._tokens.setdefault(caller, self._house.header(caller))
        began = now()
        try:
            answer = await client.request(method, f"{url}/{path}", json=body, params=params, headers=header)
        except httpx.HTTPError as error:
            self.setbacks[type(error).__name__] += 1
            answer = None
        else:
            self._note(f"{method} {service} {path.rpartition('/')[2]}", answer)
        if method != "GET":
            self.attempts.append(Attempt(process, began, now(), answer is not None and served(answer)))
        return answer

    def _note(self, what: str, answer: httpx.Response) -> None:
        status = answer.status_code
        if status < 500:
            return
        self.setbacks[f"answer {status}"] += 1
        if status != 503:
            self.unexplained[f"{what} was answered {status}"] += 1
        elif "retry-after" not in answer.headers:
            self.unexplained[f"{what} was answered 503 without Retry-After"] += 1

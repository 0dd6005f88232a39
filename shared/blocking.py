"""How long the event loop was blocked: nothing else of the process is answered or done meanwhile."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from time import monotonic
from typing import TypeVar

from prometheus_client import Gauge

T = TypeVar("T")
AT_ONCE_SECONDS = 0.02
"""How long long work goes on before it lets other tasks run."""
EVERY_SECONDS = 0.1
WITHIN_SECONDS = 60.0
_blocked = Gauge(
    "trucban_event_loop_blocked_seconds", "Longest time within the last minute in which the process did one thing only"
)


class Longest:
    """The largest of the values of the last `WITHIN_SECONDS`."""

    def __init__(self) -> None:
        self._falling: deque[tuple[float, float]] = deque()
        """Times and values. Each value is larger than those after it."""

    def add(self, at: float, value: float) -> float:
        """Add a value, at a time that is no earlier than those before. Returns the largest."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((at, value))
        while self._falling[0][0] < at - WITHIN_SECONDS:
            self._falling.popleft()
        return self._falling[0][1]


async def watch_blocking() -> None:
    """Measure again and again, until cancelled: how late a short sleep ends."""
    longest = Longest()
    while True:
        due = monotonic() + EVERY_SECONDS
        await asyncio.sleep(EVERY_SECONDS)
        now = monotonic()
        _blocked.set(longest.add(now, now - due))


async def letting_others_run(items: Iterable[T]) -> AsyncGenerator[T]:
    """Yield the items. Between two of them other tasks run, every `AT_ONCE_SECONDS`."""
    since = monotonic()
    for item in items:
        yield item
        if monotonic() - since > AT_ONCE_SECONDS:
            await asyncio.sleep(0)
            since = monotonic()

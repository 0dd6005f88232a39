"""Waiting that can be cut short: after an error, and between two rounds of a loop."""

import asyncio
from contextlib import suppress
from random import SystemRandom

_jitter = SystemRandom()


class Backoff:
    """Waits after errors: from 50 ms, doubled each time, up to 2 s, with jitter. Setting `stop` ends a wait."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self.attempt = 0

    def reset(self) -> None:
        self.attempt = 0

    async def wait(self) -> None:
        ceiling = min(2.0, 0.05 * 2 ** min(self.attempt, 10))
        self.attempt += 1
        await pause(self._stop, ceiling * _jitter.uniform(0.5, 1.0))


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Wait until `event` is set, at most `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

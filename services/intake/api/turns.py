"""Batches of one sender wait for one another, so that many of them hold neither memory nor the process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turns:
    """At most so many at a time of one sender; those of another sender do not wait for them."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._gates: dict[str, tuple[asyncio.Semaphore, int]] = {}
        """Of each sender that has or waits for a turn, with how many those are."""

    @asynccontextmanager
    async def of(self, sender: str) -> AsyncGenerator[None]:
        """A turn for the block, in the order in which they were asked for."""
        gate, count = self._gates.get(sender, (asyncio.Semaphore(self._at_once), 0))
        self._gates[sender] = gate, count + 1
        try:
            async with gate:
                yield
        finally:
            gate, count = self._gates.pop(sender)
            if count > 1:
                self._gates[sender] = gate, count - 1

    def __len__(self) -> int:
        """How many senders have or wait for a turn."""
        return len(self._gates)

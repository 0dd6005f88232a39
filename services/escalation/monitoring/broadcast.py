"""Following the timeline: one reader a process, whose entries go to everybody who listens there."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncEngine

from services.escalation.application import metrics
from services.escalation.monitoring.loop import Loop
from services.escalation.store import timeline
from services.escalation.store.timeline import START, Place, TimelineEntry

POLL_SECONDS = 0.5
"""What other processes write wakes nobody here."""
SPACING_SECONDS = 0.05
"""Between two readings, however often we are woken."""
PAGE = 500
BACKLOG = 2_000
"""Entries that may wait for one listener; whoever is slower has to come again, and loses nothing."""


class Listener:
    """One who follows the timeline: of one `ward`, or all of it."""

    def __init__(self, ward: str | None) -> None:
        self.ward = ward
        self.ended = asyncio.Event()
        """Set when it is to be sent away: too slow, or the service stops."""
        self._waiting: deque[TimelineEntry] = deque()
        self._changed = asyncio.Event()

    def offer(self, entry: TimelineEntry) -> None:
        if self.ward is not None and self.ward not in entry.wards:
            return
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            self.ended.set()
            return
        self._waiting.append(entry)
        self._changed.set()

    async def take(self, patience: float) -> list[TimelineEntry]:
        """All that wait, once any do; none if none came within `patience` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):  # wait_for may swallow a cancellation (Python 3.11)
                await self._changed.wait()
        self._changed.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class Broadcast:
    """Reads only while somebody listens. `wake` after a commit; `close` before the server waits for its connections."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._loop = Loop("stream", self._step, POLL_SECONDS)
        self._listeners: set[Listener] = set()
        self._live: set[Listener] = set()
        self._read: Place | None = None
        """Up to where all has been given to the live listeners; None while there are none."""
        self._is_closed = False

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @property
    def live(self) -> int:
        """Those among them who have caught up."""
        return len(self._live)

    @property
    def place(self) -> Place | None:
        return self._read

    def wake(self) -> None:
        if self._live:
            self._loop.wake()

    def health_failure(self) -> str | None:
        return self._loop.health_failure()

    def close(self) -> None:
        """Send everybody away, and whoever comes later."""
        self._is_closed = True
        for listener in self._listeners:
            listener.ended.set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with self._loop.running():
            try:
                yield
            finally:
                self.close()

    @asynccontextmanager
    async def listening(self, ward: str | None) -> AsyncGenerator[Listener]:
        listener = Listener(ward)
        self._listeners.add(listener)
        metrics.stream_listeners.inc()
        if self._is_closed:
            listener.ended.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            metrics.stream_listeners.dec()
            self._live.discard(listener)

    async def begin(self, seen: Place | None) -> Place:
        """Where a listener begins: behind what it has `seen`, or now. Raises ValueError if that is yet to come."""
        async with self._engine.connect() as connection:
            if seen is None:
                return await timeline.newest(connection)
            if await timeline.is_to_come(connection, seen):
                raise ValueError("a place of another database")
            return seen

    async def follow(
        self, listener: Listener, begin: Place, patience: float
    ) -> AsyncIterator[tuple[list[TimelineEntry], Place]]:
        """What comes after `begin`, each entry once and in order, with the place up to which nothing is left out.

        What is there already is read from the database; then what this process reads for all. When nothing came for
        `patience` seconds, no entries, but the place.
        """
        async with self._engine.connect() as connection:
            there = await timeline.newest(connection)
        async for found in self._between(listener, begin, there):
            yield found
        begin = max(begin, there)
        joined = await self._join(listener)
        async for found in self._between(listener, begin, joined):
            yield found
        begin = max(begin, joined)
        while True:
            taken = await listener.take(patience)
            fresh = [entry for entry in taken if entry.place > begin]
            if fresh:
                begin = fresh[-1].place
            elif not taken:
                begin = max(begin, self._read or START)
            yield fresh, begin

    async def _between(
        self, listener: Listener, seen: Place, until: Place
    ) -> AsyncIterator[tuple[list[TimelineEntry], Place]]:
        while seen < until:
            async with self._engine.connect() as connection:
                found = await timeline.after(connection, seen, PAGE, until=until, ward=listener.ward)
            seen = found[-1].place if len(found) == PAGE else until
            yield found, seen

    async def _join(self, listener: Listener) -> Place:
        """From here on the listener is given what is read; returns the place up to which it was not."""
        if self._read is None:
            async with self._engine.connect() as connection:
                newest = await timeline.newest(connection)
            self._read = self._read or newest
        self._live.add(listener)
        self._loop.wake()
        return self._read

    async def _step(self) -> bool:
        if not self._live:
            self._read = None
            return False
        assert self._read is not None
        async with self._engine.connect() as connection:
            found = await timeline.after(connection, self._read, PAGE)
        for entry in found:
            for listener in self._live:
                listener.offer(entry)
        if found:
            self._read = found[-1].place
        await asyncio.sleep(SPACING_SECONDS)
        return len(found) == PAGE

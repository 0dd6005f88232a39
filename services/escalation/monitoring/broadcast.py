"""Following the timeline: one reader a process, which gives its entries to all listeners there."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.ext.asyncio import AsyncEngine

from services.escalation.application import metrics
from services.escalation.domain.directory.model import UnitKey
from services.escalation.monitoring.loop import Loop
from services.escalation.store import timeline
from services.escalation.store.timeline import START, Place, TimelineEntry

POLL_SECONDS = 0.5
"""A commit of another process does not wake this one."""
SPACING_SECONDS = 0.05
"""Least time between two reads, however often the reader is woken."""
PAGE = 500
BACKLOG = 2_000
"""How many entries may wait for one listener. A slower one is sent away; it loses nothing when it comes back."""


class Listener:
    """Somebody who follows the timeline: the entries of some `units`, or all of them."""

    def __init__(self, units: frozenset[UnitKey] | None) -> None:
        self.units = units
        self.ended = asyncio.Event()
        """Set when the listener must be sent away: it is too slow, or the service stops."""
        self._waiting: deque[TimelineEntry] = deque()
        self._changed = asyncio.Event()

    def wants(self, entry: TimelineEntry) -> bool:
        return self.units is None or bool(self.units & entry.units)

    def offer(self, entry: TimelineEntry) -> None:
        """Give an entry to the listener, if it is one of its units."""
        if not self.wants(entry):
            return
        if len(self._waiting) >= BACKLOG:
            self._waiting.clear()
            self.ended.set()
            return
        self._waiting.append(entry)
        self._changed.set()

    async def take(self, patience: float) -> list[TimelineEntry]:
        """Wait until entries are there, and return all of them. Returns none after `patience` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):  # wait_for may swallow a cancellation (Python 3.11)
                await self._changed.wait()
        self._changed.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class Broadcast:
    """Reads the timeline while somebody listens.

    Call `wake` after each commit. Call `close` before the server waits for its connections to end.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._loop = Loop("stream", self._step, POLL_SECONDS)
        self._listeners: set[Listener] = set()
        self._subjects = Counter[str]()
        self._live: set[Listener] = set()
        self._read: Place | None = None
        """The place up to which all live listeners have been given everything. None while there are none."""
        self._is_closed = False

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def listeners_of(self, subject: str) -> int:
        return self._subjects[subject]

    @property
    def live(self) -> int:
        """Number of listeners that have caught up."""
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
        """Send all listeners away, and all that come later."""
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
    async def listening(self, units: frozenset[UnitKey] | None, subject: str) -> AsyncGenerator[Listener]:
        """A listener for the block.

        `units`: those whose entries are asked for; None: all entries. `subject`: of the credential of whoever listens.
        """
        listener = Listener(units)
        self._listeners.add(listener)
        self._subjects[subject] += 1
        metrics.stream_listeners.inc()
        if self._is_closed:
            listener.ended.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._subjects[subject] -= 1
            if not self._subjects[subject]:
                del self._subjects[subject]
            metrics.stream_listeners.dec()
            self._live.discard(listener)

    async def begin(self, seen: Place | None) -> Place:
        """Return where a listener begins: after what it has `seen`, or else now.

        Raises ValueError if that place is not of this database.
        """
        async with self._engine.connect() as connection:
            if seen is None:
                return await timeline.newest(connection)
            if await timeline.is_to_come(connection, seen):
                raise ValueError("a place of another database")
            return seen

    async def follow(
        self, listener: Listener, begin: Place, patience: float
    ) -> AsyncIterator[tuple[list[TimelineEntry], Place]]:
        """Yield entries after `begin`, each once and in order, with the place up to which none is left out.

        Earlier entries are read from the database. Later ones are those that this process reads for all listeners. If
        none comes for `patience` seconds, no entries are yielded, with the place.
        """
        async with self._engine.connect() as connection:
            there = await timeline.newest(connection)
        async for found in self._between(listener, begin, there):
            yield found
        begin = max(begin, there)
        live_from = await self._go_live(listener)
        async for found in self._between(listener, begin, live_from):
            yield found
        begin = max(begin, live_from)
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
        codes = None if listener.units is None else {code for code, _ in listener.units}
        while seen < until:
            async with self._engine.connect() as connection:
                found = await timeline.after(connection, seen, PAGE, until=until, codes=codes)
            seen = found[-1].place if len(found) == PAGE else until
            yield [entry for entry in found if listener.wants(entry)], seen

    async def _go_live(self, listener: Listener) -> Place:
        """Make the listener live: it is given whatever is read from here on.

        Returns the place up to which it was not given anything.
        """
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

"""What becomes of entries that a consumer has: handled and acknowledged, tried again, or dead letters."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from time import monotonic, time
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.halving import work_in_halves
from shared.messaging.backoff import Backoff
from shared.messaging.dead_letters import keep_dead_letter
from shared.messaging.errors import describe_error, is_transient
from shared.messaging.left import Left
from shared.messaging.refused import Refusals
from shared.messaging.signing import Seals
from shared.messaging.stream import StoredEntry
from shared.messaging.topology import producer_of

log = structlog.get_logger()
T = TypeVar("T")
_LEFT_AGAIN = 0.02
_LEFT_AGAIN_AT_MOST = 0.5
"""Seconds until what was left is tried again: the first is doubled each time, up to the second."""
OVERLAP = 3.0
"""Seconds. What is not handled for longer is held up by more than short transactions, or the end of an outage."""
_FAILED_SECONDS = 60.0
"""After this time a failed entry was tried again, by this consumer or by another."""
REFUSED = b"entries that no service has signed"
"""The body of a dead letter that stands for such entries. The same for all, so that each group has one a stream."""
_LEFT_LOUD_ROUND = 6
"""From this round on it is no mere overlap of two short transactions."""


class Entry(NamedTuple):
    """One entry of a stream, as it was delivered to a consumer."""

    id: str
    stored: StoredEntry
    times_delivered: int
    """This delivery included."""
    since: float | None = None
    """When the sender stored the event, in seconds since 1970. Some of the time since may have passed in an outage of
    another part."""


class Waiting(NamedTuple):
    """An entry that is not handled, as this process knows it."""

    at: float
    """Since when, on the monotonic clock."""
    since: float | None
    """As of its entry."""

    @property
    def seconds(self) -> float:
        """For how many seconds the event has waited, here and before."""
        here = monotonic() - self.at
        return here if self.since is None else max(here, time() - self.since)

    def is_too_long(self, after: float, here: float) -> bool:
        """Whether the event has waited for more than `after` seconds, and for more than `here` of that in this process.

        An overlap of short transactions is no failure, however old the event is: after an outage many are.
        """
        return monotonic() - self.at >= min(after, here) and self.seconds > after


class ConsumerGroup(Protocol):
    """What a delivery needs of the broker: one group of one stream. Methods raise what the broker's client raises."""

    @property
    def stream(self) -> str: ...

    @property
    def name(self) -> str: ...

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """The group has handled these entries."""
        ...

    async def let_go(self, ids: Sequence[str]) -> None:
        """Have them no longer pending, without saying that they were handled. If one is ours, it comes again."""
        ...

    async def bury(self, entry_id: str, error: str) -> None:
        """Add to the broker's own list of dead letters, and acknowledge, both or neither."""
        ...


class Delivery(Generic[T]):
    """Delivers the entries of one stream to the handler of one consumer. Calls of the handler never overlap."""

    def __init__(
        self,
        group: ConsumerGroup,
        seals: Seals,
        parse: Callable[[bytes, str], T],
        handle: Callable[[Sequence[T]], Awaitable[Left[T] | None]],
        engine: AsyncEngine,
        dead_letters: Table,
        dead_after: int,
        stop: asyncio.Event,
    ) -> None:
        self.in_hand: set[str] = set()
        """Ids of the entries that are being handled, or wait for their turn, or were left."""
        self.postponed: set[str] = set()
        """Ids of the entries that failed and will be claimed and tried again."""
        self.progress_at = monotonic()
        """When an entry was last handled, or nothing was there to handle."""
        self.handled_at = float("-inf")
        """When an entry was last handled."""
        self.finished_at = monotonic()
        """When `take` last returned."""
        self.last_error = ""
        self._group = group
        self._seals = seals
        self._refusals = Refusals(group.stream, group.name)
        self._parse = parse
        self._handle = handle
        self._engine = engine
        self._dead_letters = dead_letters
        self._dead_after = dead_after
        self._stop = stop
        self._turn = asyncio.Lock()
        self._left: list[tuple[Entry, T]] = []
        self._failed_at = float("-inf")
        """When an entry last failed."""
        self._left_why = ""
        self._left_rounds = 0
        self._held: dict[str, Waiting] = {}
        """The entries of `in_hand` and `postponed`, by id."""

    @property
    def left_due_in(self) -> float | None:
        """In how many seconds `take` should be called again, with or without new entries; None: nothing is left."""
        if not self._left:
            return None
        delay = min(_LEFT_AGAIN_AT_MOST, _LEFT_AGAIN * 2.0 ** min(self._left_rounds, 10))
        return max(0.0, self.finished_at + delay - monotonic())

    def note_idle(self) -> None:
        """The broker has nothing for this consumer."""
        if not self.in_hand:
            self.progress_at = monotonic()

    def grace(self, after: float) -> float:
        """How long an event that has waited more than `after` seconds may be here before it counts.

        0 if nothing was handled for as long: that it is being handled now is no excuse then.
        """
        return 0.0 if monotonic() - self.handled_at > after else OVERLAP

    def waiting_failure(self, after: float) -> str | None:
        """Why some events have waited more than `after` seconds, or None.

        What is being handled while others get through is no failure.
        """
        left = {entry.id for entry, _ in self._left}
        failed = self.postponed if monotonic() - self._failed_at < _FAILED_SECONDS else set[str]()
        here = self.grace(after)
        stuck = self.in_hand - left if monotonic() - self.progress_at >= min(after, here) else set[str]()
        reasons = (
            (left, OVERLAP, self._left_why),
            (failed, OVERLAP, self.last_error),
            (stuck, here, self.last_error or "they are being handled for that long"),
        )
        found = (self._waiting(ids, after, seconds, why) for ids, seconds, why in reasons)
        return next((failure for failure in found if failure), None)

    def _waiting(self, ids: Collection[str], after: float, here: float, why: str) -> str | None:
        """What is wrong with these entries, if one of them waits for too long."""
        held = [found for entry_id in ids if (found := self._held.get(entry_id))]
        if not any(one.is_too_long(after, here) for one in held):
            return None
        longest = max(one.seconds for one in held)
        return f"{len(ids)} events have waited, the longest for {longest:.0f} s: {why}"

    async def take(self, entries: Sequence[Entry]) -> None:
        """Returns when each entry is acknowledged, dead, left, or pending to be claimed. Raises nothing.

        What was left before comes first, so that it keeps its place.
        """
        ids = {entry.id for entry in entries}
        self.in_hand |= ids
        self.postponed -= ids
        now = monotonic()
        for entry in entries:
            self._held.setdefault(entry.id, Waiting(now, entry.since))
        try:
            async with self._turn:
                left, self._left = self._left, []
                ids |= {entry.id for entry, _ in left}
                signed = await self._signed(entries)
                parsed = [found for entry in signed if (found := await self._parsed(entry))]
                if handled := await self._handled([*left, *parsed]):
                    self.progress_at = self.handled_at = monotonic()
                await self._acknowledge(handled)
                self.finished_at = monotonic()
                self._left_rounds = self._left_rounds + 1 if self._left else 0
        except Exception as error:
            # the broker's framework, which calls this, may say nothing
            self.last_error = describe_error(error)
            log.error("delivery failed, its entries stay pending", **self._context(), error=self.last_error)
        finally:
            self.in_hand -= ids
            self.in_hand |= {entry.id for entry, _ in self._left}
            for entry_id in ids - self.in_hand - self.postponed:
                self._held.pop(entry_id, None)

    async def _signed(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those that a service has signed. The others are let go.

        They are not acknowledged as handled: the number of one may be that of an event which is still to come.
        """
        signed = [entry for entry in entries if self._seals.is_signed(self._group.stream, *entry.stored)]
        if len(signed) < len(entries):
            kept = {entry.id for entry in signed}
            refused = [entry.id for entry in entries if entry.id not in kept]
            self._refusals.note(refused)
            await self.tell_refused()
            await self._patiently(partial(self._group.let_go, refused))
            self.progress_at = monotonic()
        return signed

    async def tell_refused(self) -> None:
        """Tell the log once a minute at most, and keep one dead letter, until somebody has discarded it.

        It does not hold what was refused, so that no retry can handle that.
        """
        if (last := self._refusals.tell()) is None:
            return
        try:
            await keep_dead_letter(
                self._engine,
                self._dead_letters,
                group=self._group.name,
                stream=self._group.stream,
                entry_id=last,
                body=REFUSED,
                error="entries were refused: no service has signed them",
                deliveries=1,
            )
        except Exception as failure:
            log.warning("dead letter is not kept", **self._context(last), error=describe_error(failure))

    async def _parsed(self, entry: Entry) -> tuple[Entry, T] | None:
        """None if there is no event in the entry. It is a dead letter then."""
        try:
            return entry, self._parse(entry.stored.body, producer_of(self._group.stream))
        except Exception as error:
            await self._bury(entry, error)
            return None

    async def _handled(self, parsed: Sequence[tuple[Entry, T]]) -> list[str]:
        """Ids to acknowledge. A batch that fails for good is halved until the guilty event is alone."""
        handled = await work_in_halves(parsed, self._handle_patiently, self._on_guilty, is_transient)
        return [entry_id for ids in handled for entry_id in ids]

    async def _handle_patiently(self, parsed: Sequence[tuple[Entry, T]]) -> list[str]:
        """Ids of the handled entries: all of them, or none if we stop during an outage. Raises lasting errors only."""
        backoff = Backoff(self._stop)
        while True:
            try:
                left = await self._handle([event for _, event in parsed])
                return [entry.id for entry, _ in self._without_left(parsed, left)]
            except Exception as error:
                self.last_error = describe_error(error)
                if not is_transient(error):
                    raise
                log.warning("handler waits", **self._context(), error=self.last_error, attempt=backoff.attempt)
                if self._stop.is_set():
                    return []
                await backoff.wait()

    def _without_left(self, parsed: Sequence[tuple[Entry, T]], left: Left[T] | None) -> Sequence[tuple[Entry, T]]:
        """Keep what the handler has left, and return the rest."""
        if left is None:
            return parsed
        if self._left_rounds == _LEFT_LOUD_ROUND:
            log.warning("some events wait", **self._context(), count=len(left.events), why=left.why)
        self._left_why = left.why
        places = {id(event) for event in left.events}
        self._left += [one for one in parsed if id(one[1]) in places]
        return [one for one in parsed if id(one[1]) not in places]

    async def _on_guilty(self, guilty: tuple[Entry, T], error: Exception) -> None:
        """The entry stays pending, and is claimed and tried again, until it has been delivered often enough."""
        entry, _ = guilty
        context = self._context(entry.id)
        log.error("event failed", **context, error=self.last_error, delivery=entry.times_delivered)
        self.postponed.add(entry.id)
        self._failed_at = monotonic()
        if entry.times_delivered >= self._dead_after:
            await self._bury(entry, error)

    async def _bury(self, entry: Entry, error: Exception) -> None:
        """The row first: the broker may lose its half. If this fails, the entry stays pending and is tried again."""
        described = describe_error(error)
        try:
            await keep_dead_letter(
                self._engine,
                self._dead_letters,
                group=self._group.name,
                stream=self._group.stream,
                entry_id=entry.id,
                body=entry.stored.body,
                error=described,
                deliveries=entry.times_delivered,
            )
            await self._group.bury(entry.id, described)
        except Exception as failure:
            self.postponed.add(entry.id)
            log.warning("dead letter waits", **self._context(entry.id), error=describe_error(failure))
        else:
            self.postponed.discard(entry.id)
            self.progress_at = monotonic()
            log.error("event is dead", **self._context(entry.id), error=described)

    async def _acknowledge(self, ids: Sequence[str]) -> None:
        if ids:
            await self._patiently(partial(self._group.acknowledge, ids))

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait out an outage of the broker, unless we stop: then the entries stay pending."""
        backoff = Backoff(self._stop)
        while True:
            try:
                await work()
                return
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("acknowledgement waits", **self._context(), error=describe_error(error))
                if self._stop.is_set():
                    return
                await backoff.wait()

    def _context(self, entry_id: str | None = None) -> dict[str, str]:
        context = {"stream": self._group.stream, "group": self._group.name}
        return context if entry_id is None else {**context, "entry": entry_id}

"""What a consumer has and has not handled: when its waiting is a failure, with the clocks of a process faked."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.messaging import Left, Seals, delivery
from shared.messaging.delivery import OVERLAP, Delivery, Entry
from shared.messaging.stream import StoredEntry

AFTER = 9.0
SEALS = Seals({"stream": b"key"})


class Group:
    """A consumer group whose broker is always well."""

    stream = "stream"
    name = "group"

    async def acknowledge(self, ids: Sequence[str]) -> None: ...

    async def let_go(self, ids: Sequence[str]) -> None: ...

    async def bury(self, entry_id: str, error: str) -> None: ...


@dataclass
class Clock:
    now: float = 1_000.0


@dataclass
class Handler:
    """Does with events, given as numbers, what the test says."""

    does: Callable[[Sequence[int]], Awaitable[Left[int] | None]] | None = None
    seen: list[int] = field(default_factory=list[int])

    async def __call__(self, events: Sequence[int]) -> Left[int] | None:
        self.seen += events
        return None if self.does is None else await self.does(events)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return patched(monkeypatch)


def patched(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(delivery, "monotonic", lambda: clock.now)
    monkeypatch.setattr(delivery, "time", lambda: clock.now)
    return clock


def delivering(handler: Handler) -> Delivery[int]:
    engine, table = cast("AsyncEngine", None), cast("Table", None)  # dead letters only
    return Delivery(Group(), SEALS, parse, handler, engine, table, 5, stop=delivery.asyncio.Event())


def parse(body: bytes, _producer: str) -> int:
    return int(body)


async def after_one(handler: Handler, clock: Clock) -> Delivery[int]:
    """A delivery that has just handled something."""
    deliveries = delivering(Handler())
    await deliveries.take([entry(0, clock.now)])
    deliveries._handle = handler  # pyright: ignore[reportPrivateUsage]
    return deliveries


def entry(number: int, since: float | None) -> Entry:
    body = str(number).encode()
    return Entry(f"{number}-0", StoredEntry(number, body, SEALS.sign(Group.stream, number, body)), 1, since=since)


async def test_the_time_before_an_entry_came_counts(clock: Clock) -> None:
    """A relay was in the way for 10 s, then a lock: nobody waits 9 s more until it is said."""

    async def hangs(_events: Sequence[int]) -> None:
        assert deliveries.waiting_failure(AFTER) is None, "an overlap is no failure"
        clock.now += OVERLAP + 0.1
        said.append(deliveries.waiting_failure(AFTER))

    said: list[str | None] = []
    deliveries = await after_one(Handler(hangs), clock)
    await deliveries.take([entry(1, clock.now - 10)])
    assert said[0] is not None
    assert said[0].startswith("1 events have waited, the longest for 13 s")
    assert deliveries.waiting_failure(AFTER) is None, "it was handled"


async def test_an_entry_without_a_time_counts_from_when_it_came(clock: Clock) -> None:
    async def hangs(_events: Sequence[int]) -> None:
        clock.now += AFTER - 0.1
        assert deliveries.waiting_failure(AFTER) is None
        clock.now += 0.2
        assert deliveries.waiting_failure(AFTER) is not None
        clock.now += 1

    deliveries = delivering(Handler(hangs))
    await deliveries.take([entry(1, None)])


async def test_old_events_that_are_being_worked_off_are_no_failure(clock: Clock) -> None:
    """After an outage of an hour all are old, and each batch takes 2 s."""
    said: list[str | None] = []

    async def works(_events: Sequence[int]) -> None:
        clock.now += 2
        said.append(deliveries.waiting_failure(AFTER))

    deliveries = await after_one(Handler(works), clock)
    for number in range(10):
        await deliveries.take([entry(number, clock.now - 3600)])
    assert set(said) == {None}


async def test_what_is_left_is_named_though_others_get_through(clock: Clock) -> None:
    async def leaves_the_first(events: Sequence[int]) -> Left[int] | None:
        return Left([1], "ward 1 is locked") if 1 in events else None

    deliveries = delivering(Handler(leaves_the_first))
    await deliveries.take([entry(1, clock.now - 8)])
    for number in range(2, 6):
        clock.now += 1
        assert deliveries.waiting_failure(AFTER) is None or number > 3
        await deliveries.take([entry(number, clock.now)])
    said = deliveries.waiting_failure(AFTER)
    assert said is not None
    assert said.endswith("ward 1 is locked")


async def test_an_event_that_failed_is_named_until_it_was_tried_again(clock: Clock) -> None:
    handler = Handler()

    async def fails(_events: Sequence[int]) -> None:
        raise ValueError("no such ward")

    deliveries = delivering(handler)
    handler.does = fails
    await deliveries.take([entry(1, clock.now)])
    assert deliveries.waiting_failure(AFTER) is None
    clock.now += AFTER + 1
    said = deliveries.waiting_failure(AFTER)
    assert said is not None
    assert "ValueError" in said
    handler.does = None
    await deliveries.take([entry(1, clock.now)])
    assert deliveries.waiting_failure(AFTER) is None


@pytest.mark.parametrize("is_held", [False, True])
async def test_an_empty_stream_is_progress_only_where_nothing_is_held(clock: Clock, *, is_held: bool) -> None:
    async def leaves(events: Sequence[int]) -> Left[int] | None:
        return Left(events, "all are locked") if is_held else None

    deliveries = delivering(Handler(leaves))
    await deliveries.take([entry(1, clock.now)])
    before = deliveries.progress_at
    clock.now += 5
    deliveries.note_idle()
    assert (deliveries.progress_at == before) is is_held


@given(steps=st.lists(st.tuples(st.sampled_from(["left", "handled"]), st.floats(0, 30)), min_size=1, max_size=20))
async def test_whatever_waits_for_long_is_named(steps: list[tuple[str, float]]) -> None:
    """Event 0 is left in each round; others are handled or left. Once it waits for AFTER, and longer than an overlap,
    health says so."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = patched(monkeypatch)

        async def handles(events: Sequence[int]) -> Left[int]:
            return Left([n for n in events if n == 0 or steps[n - 1][0] == "left"], "locked")

        deliveries = delivering(Handler(handles))
        began = clock.now
        await deliveries.take([entry(0, began)])
        for number, (_, seconds) in enumerate(steps, start=1):
            clock.now += seconds
            assert (deliveries.waiting_failure(AFTER) is not None) == (clock.now - began > AFTER)
            await deliveries.take([entry(number, clock.now)])


async def test_what_waited_while_nothing_was_handled_is_named_at_once(clock: Clock) -> None:
    """No grace where the time has run out elsewhere."""
    said: list[str | None] = []

    async def begins(_events: Sequence[int]) -> None:
        said.append(deliveries.waiting_failure(AFTER))
        clock.now += 1

    deliveries = delivering(Handler(begins))
    await deliveries.take([entry(1, clock.now - 10)])
    await deliveries.take([entry(2, clock.now - 10)])
    assert said[0] is not None
    assert said[1] is None, "the first was handled: the backlog is being worked off"

"""One who listens: gets what is theirs, is sent away when too slow, and can always be stopped."""

import asyncio
from datetime import date

import pytest

from services.escalation.domain.directory.model import UnitKey
from services.escalation.monitoring import broadcast
from services.escalation.monitoring.broadcast import Listener
from services.escalation.store.timeline import Place, TimelineEntry

HERE, THERE, BEFORE = ("14776", date(2025, 7, 1)), ("14779", date(2021, 2, 1)), ("14776", date(2021, 2, 1))


def entry(number: int, *units: UnitKey) -> TimelineEntry:
    return TimelineEntry(Place(1, number), frozenset(units), b"{}")


async def test_all_that_waits_is_taken_at_once_and_in_order() -> None:
    listener = Listener(None)
    for number in range(3):
        listener.offer(entry(number))
    assert [e.place.position for e in await listener.take(1)] == [0, 1, 2]
    assert await listener.take(0.01) == []


async def test_one_of_a_ward_is_given_what_is_of_that_ward() -> None:
    listener = Listener(frozenset({HERE}))
    for number, units in enumerate([(HERE,), (THERE,), (), (THERE, HERE), (BEFORE,)]):
        listener.offer(entry(number, *units))
    assert [e.place.position for e in await listener.take(1)] == [0, 3]


async def test_one_who_is_too_slow_is_sent_away_and_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "BACKLOG", 2)
    listener = Listener(None)
    for number in range(2):
        listener.offer(entry(number))
    assert not listener.ended.is_set()
    listener.offer(entry(2))
    assert listener.ended.is_set()
    assert await listener.take(0.01) == []


@pytest.mark.parametrize("turns", range(4))
async def test_one_who_is_stopped_at_the_very_moment_when_something_comes_is_stopped(turns: int) -> None:
    """`asyncio.wait_for` of Python 3.11 would take what came and forget that it was cancelled."""
    listener = Listener(None)

    async def follow() -> None:
        while True:
            await listener.take(10)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    listener.offer(entry(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    following.cancel()
    await asyncio.wait({following}, timeout=1)
    assert following.cancelled()

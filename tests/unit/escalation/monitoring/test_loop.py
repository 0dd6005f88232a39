"""A loop: it waits for what falls due, for a wake, and for no longer than its poll."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from services.escalation.monitoring import loop as module
from services.escalation.monitoring.loop import Loop


class Steps:
    """Counts the steps. Each says that nothing is left."""

    def __init__(self) -> None:
        self.taken = 0
        self.fails = False
        self._changed = asyncio.Event()

    async def step(self) -> bool:
        self.taken += 1
        self._changed.set()
        if self.fails:
            raise ConnectionError
        return False

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.taken < count:
                self._changed.clear()
                await self._changed.wait()


def due_in(seconds: float) -> Callable[[], Awaitable[float]]:
    """What is asked every second time is due in a millisecond."""
    answers = itertools.cycle((0.001, seconds))

    async def next_in() -> float:
        return next(answers)

    return next_in


@pytest.mark.parametrize("seconds", [0.0, -60.0])
async def test_it_waits_no_longer_than_until_something_is_due(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OTHERS_SECONDS", 0.001)
    steps = Steps()
    async with Loop("test", steps.step, 600.0, next_in=due_in(seconds)).running():
        await steps.until(3)


async def test_what_others_hold_is_not_asked_for_without_a_pause() -> None:
    steps = Steps()
    async with Loop("test", steps.step, 600.0, next_in=due_in(0.0)).running():
        await steps.until(1)
        for _ in range(100):
            await asyncio.sleep(0)
    assert steps.taken == 1


async def test_it_waits_no_longer_than_its_poll() -> None:
    steps = Steps()
    async with Loop("test", steps.step, 0.001).running():
        await steps.until(3)


async def test_it_asks_at_each_poll_and_takes_no_step_while_nothing_is_due() -> None:
    asked, steps = Steps(), Steps()

    async def next_in() -> float:
        await asked.step()
        return float("inf")

    async with Loop("test", steps.step, 0.001, next_in=next_in).running():
        await asked.until(3)
    assert steps.taken == 0


async def test_a_wake_ends_the_wait() -> None:
    steps = Steps()
    loop = Loop("test", steps.step, 600.0)
    async with loop.running():
        await steps.until(1)
        loop.wake()
        await steps.until(2)


async def test_a_wake_during_a_step_is_not_lost() -> None:
    steps = Steps()

    async def wakes_itself() -> bool:
        loop.wake()
        await asyncio.sleep(0)
        return await steps.step()

    loop = Loop("test", wakes_itself, 600.0, next_in=due_in(0.0))
    async with loop.running():
        await steps.until(3)


async def test_a_failing_step_is_repeated_and_complained_of_once_it_lasts() -> None:
    steps = Steps()
    steps.fails = True
    loop = Loop("test", steps.step, 600.0, stall_after=0.05)
    async with loop.running():
        await steps.until(3)
        assert "test has not succeeded" in (loop.health_failure() or "")

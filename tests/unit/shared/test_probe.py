"""A probe: what was tried last decides, and what nobody tried for long is no success."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared import probe
from shared.probe import Probe


class Job:
    """Something to prove. It succeeds, fails or hangs, as it is told."""

    def __init__(self) -> None:
        self.tries = 0
        self.does: Callable[[], Awaitable[None]] = self.well

    async def __call__(self) -> None:
        self.tries += 1
        await self.does()

    async def well(self) -> None: ...

    async def fail(self) -> None:
        raise ConnectionRefusedError

    async def hang(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(probe, "AFTER_FAILURE_SECONDS", 0.001)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the probe sets no event
            await asyncio.sleep(0.001)


async def test_what_was_never_tried_is_not_well() -> None:
    tried = Probe(Job())
    assert tried.health_failure() is not None
    async with tried.running():
        await until(lambda: tried.health_failure() is None)


@pytest.mark.parametrize("trouble", ["fail", "hang"])
async def test_a_job_that_fails_or_hangs_is_reported_until_it_succeeds_again(trouble: str) -> None:
    job = Job()
    tried = Probe(job)
    async with tried.running():
        await until(lambda: tried.health_failure() is None)
        job.does = getattr(job, trouble)
        await until(lambda: tried.health_failure() is not None)
        job.does = job.well
        await until(lambda: tried.health_failure() is None)


async def test_real_work_that_fails_is_reported_at_once_and_needs_a_new_success() -> None:
    tried = Probe(Job())
    tried.succeeded()
    assert tried.health_failure() is None
    tried.failed(OSError("disk full"))
    assert "OSError" in (tried.health_failure() or "")
    tried.succeeded()
    assert tried.health_failure() is None


async def test_nothing_is_tried_beside_real_work_that_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 3600.0)
    job = Job()
    tried = Probe(job)
    tried.succeeded()
    async with tried.running():
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert job.tries == 0


async def test_a_success_of_long_ago_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Probe(Job())
    tried.succeeded()
    monkeypatch.setattr(probe, "STALL_SECONDS", -1.0)
    assert "nothing has succeeded" in (tried.health_failure() or "")

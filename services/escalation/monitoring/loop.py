"""A background loop. It wakes when told, backs off on errors, and reports when it makes no progress."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from shared.background import in_background
from shared.clock import monotonic

log = structlog.get_logger()
LONGEST_BACK_OFF_SECONDS = 5.0
STALL_SECONDS = 12.0
OTHERS_SECONDS = 0.2
"""From one look at work that others have locked to the next."""


class Loop:
    """Repeats `step` until it returns False (nothing is left), then waits for `wake`, but at most `poll` seconds.

    `next_in`: in how many seconds something falls due, a question that costs far less than a step. It is asked before
    each step that `wake` did not ask for, which is left out where nothing is due, and after each, to shorten the wait.
    `stall_after`: after so many seconds without a successful turn, `health_failure` reports it.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[bool]],
        poll: float,
        *,
        next_in: Callable[[], Awaitable[float]] | None = None,
        stall_after: float = STALL_SECONDS,
    ) -> None:
        self._name, self._step, self._poll, self._next_in, self._stall_after = name, step, poll, next_in, stall_after
        self._awake = asyncio.Event()
        self._last_good = monotonic()

    def wake(self) -> None:
        self._awake.set()

    def health_failure(self) -> str | None:
        """Return what is wrong, or None while steps succeed."""
        silent = monotonic() - self._last_good
        return f"{self._name} has not succeeded for {silent:.0f} s" if silent > self._stall_after else None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the loop until the context is left. A step that is under way is then cancelled."""
        async with in_background(self._run(), self._name):
            yield

    async def _run(self) -> None:
        back_off = 0.1
        while True:
            is_told = self._awake.is_set()
            self._awake.clear()
            try:
                wait = await self._turn(is_told=is_told)
            except Exception as error:
                log.warning("loop step failed, trying again", loop=self._name, error=type(error).__name__)
                await asyncio.sleep(back_off)
                back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)
                continue
            back_off = 0.1
            self._last_good = monotonic()
            if wait:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):  # wait_for may swallow a cancellation (Python 3.11)
                        await self._awake.wait()

    async def _turn(self, *, is_told: bool) -> float:
        """Do what is due. Returns for how many seconds to wait then."""
        if self._next_in is not None and not is_told and (wait := await self._next_in()) > 0:
            return min(self._poll, wait)
        if await self._step():
            return 0.0
        if self._next_in is None or self._awake.is_set():
            return self._poll
        # what is due now and was not taken is locked by others, or left alone after a failure
        return min(self._poll, max(OTHERS_SECONDS, await self._next_in()))

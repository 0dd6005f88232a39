"""A background loop. It can be woken, backs off on errors, and says when it makes no progress."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from shared.clock import monotonic

log = structlog.get_logger()
LONGEST_BACK_OFF_SECONDS = 5.0


class Loop:
    """Calls `step` until it returns False, for nothing left to do; then waits for `wake`, or for `poll` seconds."""

    def __init__(self, name: str, step: Callable[[], Awaitable[bool]], poll: float, stall_after: float = 30.0) -> None:
        self._name, self._step, self._poll, self._stall_after = name, step, poll, stall_after
        self._awake = asyncio.Event()
        self._last_good = monotonic()

    def wake(self) -> None:
        self._awake.set()

    def health_failure(self) -> str | None:
        """None while the loop does its work; else what is wrong."""
        silent = monotonic() - self._last_good
        return f"{self._name} has not succeeded for {silent:.0f} s" if silent > self._stall_after else None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        task = asyncio.create_task(self._run(), name=self._name)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        back_off = 0.1
        while True:
            self._awake.clear()
            try:
                more = await self._step()
            except Exception as error:
                log.warning("loop step failed, trying again", loop=self._name, error=type(error).__name__)
                await asyncio.sleep(back_off)
                back_off = min(back_off * 2, LONGEST_BACK_OFF_SECONDS)
                continue
            back_off = 0.1
            self._last_good = monotonic()
            if not more:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll):  # wait_for may swallow a cancellation (Python 3.11)
                        await self._awake.wait()

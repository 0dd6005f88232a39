"""Probes: a service proves that it can do its job by doing it, also while nobody asks for it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.background import in_background
from shared.clock import monotonic
from shared.messaging import describe_error

log = structlog.get_logger()
PROBE_SECONDS = 5.0
"""From one probe to the next, and how long one may take."""
AFTER_FAILURE_SECONDS = 1.0
STALL_SECONDS = 12.0
"""Two probes and a little more."""


class Probe:
    """Whether `prove` succeeded when it was last tried. It is tried again and again.

    Real work of the same kind reports here as well. While it succeeds, nothing is tried beside it.
    """

    def __init__(self, prove: Callable[[], Awaitable[None]]) -> None:
        """`prove` does what real work does, and leaves nothing behind. It raises whatever is in the way."""
        self._prove = prove
        self._succeeded_at = monotonic()
        self._error: str | None = "nothing was tried yet"

    def succeeded(self) -> None:
        self._succeeded_at, self._error = monotonic(), None

    def failed(self, error: BaseException) -> None:
        self._error = describe_error(error)

    def health_failure(self) -> str | None:
        """What is wrong, or None if the last try succeeded, and not long ago."""
        silent = monotonic() - self._succeeded_at
        if self._error is not None:
            return f"the last try failed, the last success was {silent:.0f} s ago: {self._error}"
        return f"nothing has succeeded for {silent:.0f} s" if silent > STALL_SECONDS else None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with in_background(self._run(), "probe"):
            yield

    async def _run(self) -> None:
        while True:
            if self._error is not None or monotonic() - self._succeeded_at >= PROBE_SECONDS:
                await self._try()
            await asyncio.sleep(AFTER_FAILURE_SECONDS)

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._prove()
        except Exception as error:
            self.failed(error)
        else:
            self.succeeded()


async def commit_nothing(database: AsyncEngine, metadata: MetaData) -> None:
    """Commit a transaction that needs what real ones need, and leaves nothing behind.

    It takes a writer's lock on each table of `metadata`, 256 KiB of new blocks on the disk, and the commit itself.
    Raises what the database raises.
    """
    names = ", ".join(table.fullname for table in metadata.sorted_tables)
    async with database.begin() as connection:
        await connection.execute(text(f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE"))
        # a temporary table: what a table of ours deletes would be room for the next probe on a disk that is full
        await connection.execute(
            text(
                "CREATE TEMPORARY TABLE probe ON COMMIT DROP AS "
                "SELECT repeat('.', 1000) AS filler FROM generate_series(1, 256)"
            )
        )

"""Following the revocations: what the database holds comes into memory within half a second."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import MetaData, Table
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.background import in_background
from shared.clock import monotonic
from shared.credentials.refusals import Observed, Seen
from shared.credentials.revocation import Revoked
from shared.credentials.store import credential_tables, revocations_since
from shared.database import reading
from shared.messaging import describe_error

log = structlog.get_logger()
POLL_SECONDS = 0.3
OVERLAP = timedelta(seconds=60)
"""A row that was stored so long before the newest one may be seen only now: its transaction ended later."""
STALE_SECONDS = 10.0
OWNERS: Table = credential_tables(MetaData(schema="escalation")).revocation
"""Where revocations come from. Only read where the stream does not bring them."""
TAKE_SECONDS = 5.0


class Following:
    """Keeps `revoked` at what the table says, and hands over what was observed.

    `stream_failure`: why the stream brings no revocations, or None. Then, and at the start, the table of their owner is
    read too, where the database is shared; where it is not, `health_failure` says so.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        table: Table,
        revoked: Revoked,
        *,
        stream_failure: Callable[[], str | None] = lambda: None,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_poll`: called before each look."""
        self._engine, self._own, self._revoked = engine, table, revoked
        self._newest: dict[str, datetime] = {}
        """When the newest row that was read was stored, by table."""
        self.stream_failure, self._on_poll = stream_failure, on_poll
        self._woken = asyncio.Event()
        self._good_at = monotonic()
        self._asked_owner = False
        self._blind: str | None = None

    def wake(self) -> None:
        """A revocation was just stored by this process."""
        self._woken.set()

    def health_failure(self) -> str | None:
        """Why a revoked credential might be accepted here, or None."""
        if (silent := monotonic() - self._good_at) > STALE_SECONDS:
            return f"revoked credentials have not been looked up for {silent:.0f} s: is the database reachable?"
        return self._blind if self.stream_failure() is not None else None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Looks once before the block begins, unless the database is away."""
        with suppress(Exception):
            await self.look()
        async with in_background(self._run(), "revocations"):
            yield

    async def look(self) -> None:
        """Raises what the database's client raises."""
        self._on_poll()
        await self._read(self._own)
        if self._own.fullname != OWNERS.fullname:
            await self._look_at_owner()
        self._good_at = monotonic()

    async def _look_at_owner(self) -> None:
        failure = self.stream_failure()
        if failure is None and self._asked_owner:
            self._blind = None
            return
        try:
            await self._read(OWNERS)
            self._blind = None
        except ProgrammingError:  # it lies elsewhere, or is not for us
            missing = "revocations may be missing, and their owner's table cannot be read here"
            self._blind = f"{missing}: {failure}" if failure else None
        self._asked_owner = True

    async def _read(self, table: Table) -> None:
        newest = self._newest.get(table.fullname)
        async with reading(self._engine).connect() as connection:
            found = await revocations_since(connection, table, newest - OVERLAP if newest else None)
        if found:
            self._newest[table.fullname] = found[-1][1]
            self._revoked.add(*(revocation for revocation, _ in found))

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self.look()
            except Exception as error:
                log.warning("revocations are not looked up", error=describe_error(error))
                await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def handing_over(observed: Observed, take: Callable[[Seen], Awaitable[None]]) -> AsyncGenerator[None]:
    """Hand over what was observed, a minute of it once it has passed, and all that is left at the end."""

    async def run() -> None:
        while True:
            await asyncio.sleep(TAKE_SECONDS)
            await _hand_over(observed, take, datetime.now(UTC).replace(second=0, microsecond=0))

    async with in_background(run(), "refusals"):
        yield
    await _hand_over(observed, take, None)


async def _hand_over(observed: Observed, take: Callable[[Seen], Awaitable[None]], up_to: datetime | None) -> None:
    try:
        await observed.hand_over(take, up_to=up_to)
    except Exception as error:
        log.warning("refusals wait", error=describe_error(error))

"""Dead letters: events that a group could not handle, kept whole until somebody has decided what becomes of them.

Each is retried or discarded, by `trucban dead-letters`. The command only marks a letter to be retried: the service
whose letter it is handles it, with its own keys and clock, at once or when it runs next.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar

import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import reading
from shared.messaging.backoff import Backoff, pause
from shared.messaging.errors import describe_error, is_transient
from shared.messaging.left import Left
from shared.messaging.topology import producer_of

log = structlog.get_logger()
T = TypeVar("T")
_MARKED = 0
"""Deliveries of a letter that is to be retried. They are counted anew from then on."""


class DeadLetter(NamedTuple):
    """One row. `body` may hold personal data: show it to nobody."""

    id: int
    group: str
    stream: str
    entry_id: str
    digest: str
    body: bytes
    error: str
    deliveries: int
    at: datetime

    @property
    def is_marked(self) -> bool:
        """To be retried, and not yet retried."""
        return self.deliveries == _MARKED


def dead_letter_table(metadata: MetaData) -> Table:
    """Events that a group could not handle. `body` may hold personal data: erasure deletes here too."""
    return Table(
        "dead_letter",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("group", Text, nullable=False),
        Column("stream", Text, nullable=False),
        Column("entry_id", Text, nullable=False),
        Column("digest", Text, nullable=False, comment="SHA-256 of the body"),
        Column("body", LargeBinary, nullable=False),
        Column("error", Text, nullable=False, comment="type and place of the error, never its text"),
        Column("deliveries", Integer, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
        UniqueConstraint("group", "stream", "digest"),
    )


async def dead_letter_health_failure(engine: AsyncEngine, dead_letters: Table) -> str | None:
    """For /readyz: why the service is not healthy, or None. A dead letter stays until somebody has looked at it."""
    async with reading(engine).connect() as connection:
        count = await connection.scalar(select(func.count()).select_from(dead_letters))
    return f"{count} events in {dead_letters.fullname}: see trucban dead-letters list" if count else None


async def keep_dead_letter(
    engine: AsyncEngine,
    dead_letters: Table,
    *,
    group: str,
    stream: str,
    entry_id: str,
    body: bytes,
    error: str,
    deliveries: int,
) -> None:
    """Commit one dead letter. Does nothing if the group has one of this body from this stream."""
    row = {
        "group": group,
        "stream": stream,
        "entry_id": entry_id,
        "digest": sha256(body).hexdigest(),
        "body": body,
        "error": error,
        "deliveries": deliveries,
    }
    async with engine.begin() as connection:
        await connection.execute(insert(dead_letters).values(row).on_conflict_do_nothing())


async def dead_letters_in(
    connection: AsyncConnection, dead_letters: Table, *, only_marked: bool = False
) -> list[DeadLetter]:
    """The oldest first."""
    query = select(dead_letters).order_by(dead_letters.c.id)
    rows = await connection.execute(query.where(dead_letters.c.deliveries == _MARKED) if only_marked else query)
    return [DeadLetter(*row) for row in rows]


async def mark_dead_letter(connection: AsyncConnection, dead_letters: Table, letter_id: int) -> None:
    """Have it retried. Does nothing if it is gone."""
    await connection.execute(update(dead_letters).where(dead_letters.c.id == letter_id).values(deliveries=_MARKED))


async def take_dead_letter(connection: AsyncConnection, dead_letters: Table, letter_id: int) -> DeadLetter | None:
    """Delete it in the caller's transaction, and return what it was; None if it is gone."""
    taken = delete(dead_letters).where(dead_letters.c.id == letter_id).returning(*dead_letters.c)
    row = (await connection.execute(taken)).one_or_none()
    return DeadLetter(*row) if row else None


class DeadLetterRetries(Generic[T]):
    """Handles the dead letters of one service again that are marked, in their order.

    `handle` must ignore an event that it has seen: it may get one that the group has after all, and one that another
    replica retries at the same moment. A letter that is handled is deleted. One that fails again keeps its new error
    and is left alone. An outage is waited out.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        dead_letters: Table,
        parse: Callable[[bytes, str], T],
        handle: Callable[[Sequence[T]], Awaitable[Left[T] | None]],
        *,
        poll: float = 5.0,
    ) -> None:
        self._engine = engine
        self._dead_letters = dead_letters
        self._parse = parse
        self._handle = handle
        self._poll = poll
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        self._stop.clear()
        task = asyncio.create_task(self._run(), name=f"retries of {self._dead_letters.fullname}")
        try:
            yield
        finally:
            self._stop.set()
            await task

    async def _run(self) -> None:
        backoff = Backoff(self._stop)
        while not self._stop.is_set():
            try:
                await self._retry_marked()
                backoff.reset()
                await pause(self._stop, self._poll)
            except Exception as error:
                log.warning("retries wait", table=self._dead_letters.fullname, error=describe_error(error))
                await backoff.wait()

    async def _retry_marked(self) -> None:
        async with reading(self._engine).connect() as connection:
            marked = await dead_letters_in(connection, self._dead_letters, only_marked=True)
        for letter in marked:
            try:
                left = await self._handle([self._parse(letter.body, producer_of(letter.stream))])
            except Exception as error:
                if is_transient(error):
                    raise
                await self._keep(letter, describe_error(error))
            else:
                if left is None:  # else it stays marked, and comes again
                    await self._forget(letter)
            if self._stop.is_set():
                return

    async def _keep(self, letter: DeadLetter, error: str) -> None:
        rows = self._dead_letters
        kept = update(rows).where(rows.c.id == letter.id).values(deliveries=1, error=error)
        async with self._engine.begin() as connection:
            await connection.execute(kept)
        log.error("event is still dead", table=rows.fullname, letter=letter.id, error=error)

    async def _forget(self, letter: DeadLetter) -> None:
        async with self._engine.begin() as connection:
            await take_dead_letter(connection, self._dead_letters, letter.id)
        log.info("dead letter was handled", table=self._dead_letters.fullname, letter=letter.id)

"""A process that is killed at a statement of our choice, and what its database looks like afterwards.

Killed: its connection closes, PostgreSQL rolls back, and nothing more is done by that process.
"""

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self

import asyncpg
import orjson
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.escalation.handlers import Escalation
from shared.clock import Clock
from shared.database import connect
from tests.support import CHANNELS

Act = Callable[[Escalation], Awaitable[Any]]
"""What a process does, given its core."""
COMMIT = "COMMIT;"
OF_INCIDENTS = (
    "deadline",
    "delivery",
    "notice",
    "decision",
    "finding",
    "link",
    "report",
    "incident",
    "timeline",
    "pace",
    "outbox",
)
OF_DIRECTORY = ("unit", "tenure", "roster", "contact", "rulebook")
PLACES = frozenset({"position", "transaction", "seq", "number", "created_at"})
"""Columns that the database gives by itself. An incident's own order is in its events' sequence."""
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{64}\b")
"""Ids, salts and hashes."""


class StoppedClock(Clock):
    """Two runs that take unequal time come to the same times."""

    def set(self, instant: datetime) -> None:
        self._at = instant.astimezone(UTC)

    def now(self) -> datetime:
        return self._at


class Mortal:
    """A process that dies before its n-th statement, for each `arm(n)` anew. COMMIT is two: before it is sent, and
    after it was done but before the answer came."""

    def __init__(self) -> None:
        self._dies_at, self._count = 0, 0
        self.is_dead = False

    def arm(self, statement: int) -> None:
        self._dies_at, self._count, self.is_dead = statement, 0, False

    def disarm(self) -> None:
        self.arm(0)

    def step(self, driver: asyncpg.Connection) -> None:
        """Called before each statement; with a closed connection that statement fails."""
        self._count += 1
        if self.is_dead or self._count == self._dies_at:
            self.is_dead = True
            driver.terminate()

    async def does(self, act: Act, escalation: Escalation) -> bool:
        """Whether it came to the end of `act` alive."""
        try:
            await act(escalation)
        except Exception:
            if not self.is_dead:
                raise
        return not self.is_dead


@asynccontextmanager
async def mortal(database_url: str, clock: Clock) -> AsyncGenerator[tuple[Mortal, Escalation]]:
    """A process on a database, with the core that it works with."""
    process, engine = Mortal(), connect(database_url, pool_size=4)

    class Watched(asyncpg.Connection):  # pyright: ignore[reportUntypedBaseClass]
        """Sees what SQLAlchemy has no event for."""

        async def copy_records_to_table(self, *args: Any, **more: Any) -> Any:
            process.step(self)
            return await super().copy_records_to_table(*args, **more)

        async def execute(self, query: str, *args: Any, **more: Any) -> Any:
            if query != COMMIT:
                return await super().execute(query, *args, **more)
            process.step(self)
            done = await super().execute(query, *args, **more)
            process.step(self)
            return await super().execute("SELECT 1") and done  # fails where the answer is not to come

    def on_connect(*given: Any) -> None:
        *_, options = given
        options["connection_class"] = Watched

    def on_statement(connection: Any, *_: Any) -> None:
        process.step(connection.connection.driver_connection)

    event.listen(engine.sync_engine, "do_connect", on_connect)
    event.listen(engine.sync_engine, "before_cursor_execute", on_statement)
    try:
        yield process, Escalation(engine, clock, 1, CHANNELS)
    finally:
        await engine.dispose()


class Snapshot:
    """All rows of some tables: as they are, or (`canonical`) whatever ids were drawn."""

    def __init__(self, rows: list[tuple[str, Any]]) -> None:
        self.rows = rows

    @classmethod
    async def of(cls, engine: AsyncEngine, tables: Collection[str]) -> Self:
        parts = (f"SELECT '{name}', to_jsonb(t) FROM escalation.{name} t" for name in tables)  # noqa: S608
        async with engine.connect() as connection:
            found = await connection.execute(text(" UNION ALL ".join(parts)))
        rows = [(name, {k: _read(v) for k, v in row.items() if k not in PLACES}) for name, row in found]
        return cls(sorted(rows, key=repr))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self.rows == other.rows

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def canonical(self, ignored: Collection[str] = ()) -> dict[str, list[str]]:
        """By table. An id is named by all that is said of it, and of what is said with it, some steps far."""
        shown = [(name, orjson.dumps(_without(row, ignored), option=orjson.OPT_SORT_KEYS).decode()) for name, row in self.rows]
        names: dict[str, str] = defaultdict(str)
        for _ in range(5):
            said: dict[str, list[str]] = defaultdict(list)
            for table, row in shown:
                named = _RANDOM.sub(lambda m: names[m[0]], row)
                for place, found in enumerate(_RANDOM.findall(row)):
                    said[found].append(f"{table} {place} {named}")
            names = {id_: _digest(sorted(lines)) for id_, lines in said.items()}
        result: dict[str, list[str]] = defaultdict(list)
        for table, row in shown:
            result[table].append(_RANDOM.sub(lambda m: names[m[0]], row))
        return {table: sorted(rows) for table, rows in result.items()}

"""A process that is killed at a statement of our choice, and what its database looks like afterwards.

Killed: its connection closes, PostgreSQL rolls back, and nothing more is done by that process.
"""

import asyncio
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from weakref import WeakSet

import asyncpg
import orjson
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.escalation.application.escalation import Escalation
from shared.clock import Clock
from shared.database import connect
from tests.support import CHANNELS

Act = Callable[[Escalation], Awaitable[Any]]
"""What a process does, given its core."""
Rows = Sequence[tuple[str, dict[str, Any]]]
TABLES = (
    "incident",
    "report",
    "decision",
    "finding",
    "link",
    "notice",
    "delivery",
    "deadline",
    "channel_test",
    "shift",
    "timeline",
    "outbox",
    "pace",
)
DIRECTORY = ("unit", "tenure", "roster", "contact", "rulebook")
PLACES = frozenset({"position", "transaction", "seq", "number", "created_at"})
"""Columns that the database gives by itself. An incident's own order is in its events' sequence."""
_DRAWN = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|tin-bao-[0-9a-f]{12}|\b[0-9a-f]{64}\b"
    r"|\b[0-9]{4}-[A-Z][0-9][A-Z][0-9][A-Z]\b)"
)
"""Ids, salts, hashes, and short numbers of incidents: others each time."""
LAST_MOMENT_SECONDS = 0.05
"""In which the tasks of a dead process find that their connections are closed, before they are ended as well."""
STEPS = 4
"""So far from a row, what hangs on it tells its id from others."""


class StoppedClock(Clock):
    """Two runs that take unequal time come to the same times."""

    def set(self, instant: datetime) -> None:
        self._at = instant.astimezone(UTC)

    def now(self) -> datetime:
        return self._at


class Mortal:
    """A process that dies before its n-th statement from `arm(n)` on; `arm(0)`: lives. COMMIT counts as two: one dies
    before it is sent, or after it was done and before the answer came."""

    def __init__(self) -> None:
        self.connections = WeakSet[Any]()
        self.arm(0)

    count: int
    """Statements since `arm`."""
    commits: list[int]
    """Which of them were a COMMIT that had not been sent yet."""

    def arm(self, statement: int, *, survives: bool = False) -> None:
        """`survives`: only the connection is lost, and the process goes on with another."""
        self._fails_at, self.count, self._survives = statement, 0, survives
        self.commits = []
        self._dead = asyncio.Event()
        self.has_failed = False

    def step(self, driver: Any) -> None:
        """Raises ConnectionError where the connection is lost."""
        self.count += 1
        if self.count == self._fails_at or self._dead.is_set():
            self.has_failed = True
            driver.terminate()
            if not self._survives:
                self._die()
            raise ConnectionError("the connection was lost")

    def check(self) -> None:
        """Raises ConnectionError: the dead open no connections."""
        if self._dead.is_set():
            raise ConnectionError("the process was killed")

    def _die(self) -> None:
        self._dead.set()
        for each in self.connections:
            each.terminate()

    async def does(self, act: Act, escalation: Escalation) -> bool:
        """Whether nothing failed until the end of `act`. Who dies leaves all tasks where they are."""
        others = asyncio.all_tasks()
        doing = asyncio.ensure_future(act(escalation))
        dying = asyncio.create_task(self._dead.wait())
        await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        left = asyncio.all_tasks() - others
        if self._dead.is_set():
            _, late = await asyncio.wait({doing, *left}, timeout=LAST_MOMENT_SECONDS)
            for task in late:
                task.cancel()
        await asyncio.gather(doing, *left, return_exceptions=True)
        if not self.has_failed:
            await doing
        return not self.has_failed


@asynccontextmanager
async def mortal_process(database_url: str, clock: Clock) -> AsyncGenerator[tuple[Mortal, Escalation]]:
    """With the core that it works with."""
    process, engine = Mortal(), connect(database_url, pool_size=4)

    class Watched(asyncpg.Connection):
        """Sees what SQLAlchemy has no event for."""

        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            process.connections.add(self)

        async def execute(self, query: str, *given: Any, **more: Any) -> Any:
            if query != "COMMIT;":
                return await super().execute(query, *given, **more)
            process.commits.append(process.count + 1)
            process.step(self)
            done = await super().execute(query)
            process.step(self)
            return done

    def on_connect(_: Any, __: Any, ___: Any, options: dict[str, Any]) -> None:
        process.check()
        options["connection_class"] = Watched

    def on_statement(connection: Any, *_: Any) -> None:
        process.step(connection.connection.driver_connection)

    event.listen(engine.sync_engine, "do_connect", on_connect)
    event.listen(engine.sync_engine, "before_cursor_execute", on_statement)
    try:
        yield process, Escalation(engine, clock, 1, CHANNELS, bytes(32))
    finally:
        await engine.dispose()


async def rows_of(engine: AsyncEngine, tables: Collection[str]) -> Rows:
    """Every row of these, by table."""
    parts = " UNION ALL ".join(f"SELECT '{name}', to_jsonb(t) FROM escalation.{name} t" for name in tables)
    async with engine.connect() as connection:
        found = await connection.execute(text(parts))
        rows = [(name, {k: _read(v) for k, v in row.items() if k not in PLACES}) for name, row in found]
    return sorted(rows, key=repr)


def _read(value: Any) -> Any:
    """Bytes are JSON."""
    if isinstance(value, str) and value.startswith("\\x"):
        content = bytes.fromhex(value[2:])
        return orjson.loads(content) if content.startswith(b"{") else hashlib.sha256(content).hexdigest()
    return value


def differences(found: Rows, expected: Rows, ignored: Collection[str] = ()) -> list[str]:
    """Rows of only one of two runs that may differ in the ids that they drew, and in fields that are `ignored`."""
    mine, theirs = _canonical(found, ignored), _canonical(expected, ignored)
    return [*(f"+ {row}" for row in (mine - theirs).elements()), *(f"- {row}" for row in (theirs - mine).elements())]


def _canonical(rows: Rows, ignored: Collection[str]) -> Counter[str]:
    """An id is named by all that is said of it, `STEPS` far."""
    shown = [(table, orjson.dumps(_without(row, ignored), option=orjson.OPT_SORT_KEYS).decode()) for table, row in rows]
    split = [(table, _DRAWN.split(row)) for table, row in shown]
    taken_apart = [(table, parts[::2], parts[1::2]) for table, parts in split]
    names: dict[str, str] = defaultdict(str)
    for _ in range(STEPS):
        said: dict[str, list[str]] = defaultdict(list)
        for table, between, ids in taken_apart:
            named = _named(between, ids, names)
            for place, found in enumerate(ids):
                said[found].append(f"{table} {place} {named}")
        names = {id_: hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:8] for id_, lines in said.items()}
    return Counter(f"{table} {_named(between, ids, names)}" for table, between, ids in taken_apart)


def _named(between: Sequence[str], ids: Sequence[str], names: dict[str, str]) -> str:
    """The row again, with names for its ids."""
    first, *others = between
    return first + "".join(names[id_] + text for id_, text in zip(ids, others, strict=True))


def _without(value: Any, ignored: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner, ignored) for name, inner in value.items() if name not in ignored}
    if isinstance(value, list):
        return [_without(inner, ignored) for inner in value]
    return value

"""Recording events: each event of both streams becomes exactly one entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ledger.domain.checkpoint import Signer
from services.ledger.store import queries, tables
from services.ledger.store.append import LogError as LogError
from services.ledger.store.append import append, open_log
from services.ledger.store.queries import Head
from shared.clock import Clock
from shared.credentials.refusals import Seen, refusal_event
from shared.credentials.store import put_old_tokens
from shared.events import Event

NAME = "ledger"
log = structlog.get_logger()
_recorded = Counter("trucban_ledger_recorded", "Events that became an entry")
_repeated = Counter("trucban_ledger_repeated", "Events that came again and were dropped")
_size = Gauge("trucban_ledger_size", "Entries in the log")


@dataclass(frozen=True)
class Ledger:
    """The ledger on its database, with the key that signs its checkpoints."""

    database: AsyncEngine
    clock: Clock
    signer: Signer

    async def open(self) -> None:
        """Make sure that the stored log is ours. Call it before anything else. Raises LogError."""
        async with self.database.begin() as connection:
            head = await open_log(connection, self.signer, self.clock)
        _size.set(head.size)

    async def record(self, events: Sequence[Event]) -> None:
        """Append what is not yet in the log, in one transaction; safe to repeat, whole or in part.

        Raises CanonicalError for an event that cannot be an entry, LogError if the stored tree is damaged.
        """
        async with self.database.begin() as connection:
            done = await append(connection, events, self.signer, self.clock)
        _recorded.inc(done.added)
        _repeated.inc(len(events) - done.added)
        _size.set(done.size)
        log.debug("recorded", events=len(events), added=done.added, size=done.size)

    async def record_seen(self, seen: Seen) -> None:
        """Record uses of revoked credentials here: the ledger's own events need no stream."""
        now = self.clock.now()
        async with self.database.begin() as connection:
            await put_old_tokens(connection, tables.credentials, seen.old)
            if events := [refusal_event(NAME, refused, count, now) for refused, count in seen.refused]:
                await append(connection, events, self.signer, self.clock)


async def newest_head(connection: AsyncConnection) -> Head | None:
    """The newest checkpoint, as the caller's transaction sees it; None before the first start."""
    return await queries.newest_checkpoint(connection)


async def newest_recorded_at(database: AsyncEngine) -> datetime | None:
    """When the newest entry was recorded; None for an empty ledger."""
    async with database.connect() as connection:
        return await queries.newest_recorded_at(connection)

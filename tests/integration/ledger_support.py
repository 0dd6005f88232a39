"""A ledger of its own, in an empty database of a real PostgreSQL, for each test."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy import text

from services.ledger.api import export_lines
from services.ledger.application import Ledger
from services.ledger.domain.verify import Verification, verify_export
from services.ledger.store import queries
from shared.clock import Clock
from shared.database import connect, migrate
from tests.unit.ledger.sample import AT, SIGNER


@asynccontextmanager
async def opened(database_url: str) -> AsyncGenerator[Ledger]:
    """A ledger on a migrated database, as one process of the service would have it."""
    await migrate(database_url, "ledger")
    ledger = Ledger(connect(database_url), Clock(AT), SIGNER)
    await ledger.open()
    yield ledger
    await ledger.database.dispose()


async def exported(ledger: Ledger) -> list[bytes]:
    """The lines of the export, as a client receives them."""
    async with ledger.database.connect() as connection:
        head = await queries.newest_checkpoint(connection)
    assert head is not None
    return b"".join([part async for part in export_lines(ledger, head)]).splitlines(keepends=True)


async def verified(ledger: Ledger) -> Verification:
    return verify_export(await exported(ledger), SIGNER.verifier.vkey())


async def indexes_by_event(ledger: Ledger) -> dict[str, int]:
    async with ledger.database.connect() as connection:
        rows = await connection.execute(text("SELECT event_id, idx FROM ledger.entry ORDER BY idx"))
        return {row.event_id: row.idx for row in rows}


async def as_intruder(ledger: Ledger, statement: str) -> None:
    """What a database superuser can do who switches the triggers off first."""
    async with ledger.database.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(text(statement))

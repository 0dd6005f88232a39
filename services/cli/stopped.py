"""What commands need that change a city whose services are stopped."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.cli.errors import CommandError
from shared import messaging
from shared.database import SERVICES

NEVER_IDLE_TOO_LONG = "SET LOCAL idle_in_transaction_session_timeout = 0"
"""While files are read or the broker is emptied, the transaction is idle."""
LOCK_NOT_AVAILABLE = "55P03"
LOCK_SECONDS = 5


@asynccontextmanager
async def stopped_city(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    """A transaction that has the tables of all services to itself until its end.

    Raises CommandError while anybody else uses the database. A service that starts meanwhile waits at its first
    statement, and sees what was changed.
    """
    async with engine.begin() as connection:
        await connection.execute(text(NEVER_IDLE_TOO_LONG))
        await _refuse_company(connection)
        await _lock_tables(connection)
        await _refuse_company(connection)  # who came in between waits for us, or did not see the locks
        yield connection


async def empty_broker(redis_url: str) -> None:
    """Delete what the broker holds of ours. The outboxes publish anew what is still owed.

    Call it just before the commit: whoever is killed in between has changed nothing.
    """
    redis = messaging.connect(redis_url)
    try:
        await redis.forget_all()
    finally:
        await redis.aclose()


async def _refuse_company(connection: AsyncConnection) -> None:
    others = await connection.scalar(
        text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            # an owner who is no superuser is not told the type of another role's session
            " AND pid <> pg_backend_pid() AND usesysid IS NOT NULL"
            " AND coalesce(backend_type, 'client backend') = 'client backend'"
        )
    )
    if others:
        raise CommandError(f"{others} other sessions use the database: stop the services first")


async def _lock_tables(connection: AsyncConnection) -> None:
    query = text(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = ANY(:names) ORDER BY 1"
    )
    tables = (await connection.scalars(query, {"names": list(SERVICES)})).all()
    if not tables:
        return
    await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    try:
        await connection.execute(text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))
    except DBAPIError as error:
        if messaging.sqlstate_of(error) != LOCK_NOT_AVAILABLE:
            raise
        raise CommandError("another session holds a table of the services: stop the services first") from error

"""PostgreSQL: one engine for each process, one schema and one alembic history for each service."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import asyncpg
import orjson
from alembic import command, context
from alembic.config import Config
from sqlalchemy import JSON, ColumnElement, Connection, MetaData, Table, Text, any_, literal, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

SERVICES = ("intake", "escalation", "ledger")
_MIGRATION_LOCK = 0x7472_6261


class DatabaseError(Exception):
    """A database cannot be used. The text is one line, with the way out."""


def async_url(url: str) -> str:
    """Return the URL with the driver that we use. Takes `postgres://` and `postgresql://`, as operators write them.

    Raises DatabaseError for any other URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgres", "postgresql"}:
        raise DatabaseError(f"DATABASE_URL {scheme}://… is not PostgreSQL: use postgresql://user@host/database")
    return f"postgresql+asyncpg://{rest}"


def connect(url: str, pool_size: int = 10) -> AsyncEngine:
    """The database at `url`. Connects with its first use; dispose of it in the end."""
    return create_async_engine(
        async_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=_json_text,
        json_deserializer=orjson.loads,
        connect_args={"server_settings": {"timezone": "UTC"}},
    )


def _json(value: object) -> object:
    return value if value is None or isinstance(value, str) else _json_text(value)


def _json_text(value: object) -> str:
    return orjson.dumps(value).decode()


def any_of(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    """Return `column = ANY(values)`, which has one parameter. `IN` would have one for each value."""
    return column == any_(literal(list(values), ARRAY(Text)))


async def copy(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows by COPY in the caller's transaction. All rows have the same keys.

    A str for a JSON column must already be JSON. Raises IntegrityError as an INSERT would, and ConnectionError if the
    connection is lost.
    """
    if rows:
        columns = list(rows[0])
        json = {name for name in columns if isinstance(table.c[name].type, JSON)}
        records = [tuple(_json(row[n]) if n in json else row[n] for n in columns) for row in rows]
        await copy_records(connection, table, columns, records)


async def copy_records(
    connection: AsyncConnection, table: Table, columns: Sequence[str], records: Sequence[tuple[object, ...]]
) -> None:
    """Insert tuples by COPY, as `copy` does. Their values must be of the types that asyncpg takes."""
    if not records:
        return
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    if not driver.is_in_transaction():  # SQLAlchemy begins the transaction with its first statement
        await connection.execute(text("SELECT 1"))
    try:
        await driver.copy_records_to_table(table.name, schema_name=table.schema, columns=list(columns), records=records)
    except asyncpg.IntegrityConstraintViolationError as error:
        raise IntegrityError(f"COPY {table.name}", None, error) from error
    except asyncpg.InterfaceError as error:
        raise ConnectionError(f"the connection was lost in a COPY to {table.name}") from error


async def migrate(url: str, service: str) -> None:
    """Bring the schema of one service to its newest version. Idempotent, and safe to run twice at once.

    Raises DatabaseError if the database is not encoded in UTF-8.
    """
    engine = connect(url, pool_size=1)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            encoding = await connection.scalar(text("SHOW server_encoding"))
            if encoding != "UTF8":
                raise DatabaseError(f"the database is encoded in {encoding}: make it anew with ENCODING 'UTF8'")
            await upgrade(connection, service)
    finally:
        await engine.dispose()


async def upgrade(connection: AsyncConnection, service: str, revision: str = "head") -> None:
    """Bring the schema of one service to `revision`, in the caller's transaction."""
    await connection.run_sync(_upgrade, service, revision)


def _upgrade(connection: Connection, service: str, revision: str) -> None:
    config = Config()
    folder = Path(__file__).parent.parent / "services" / service / "migrations"
    config.set_main_option("script_location", str(folder))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def run_migrations(schema: str, metadata: MetaData) -> None:
    """Run the migrations of a schema. The `migrations/env.py` of each service calls it."""
    connection: Connection = context.config.attributes["connection"]
    connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=schema,
        include_schemas=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()

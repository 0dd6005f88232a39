"""PostgreSQL: one engine for each process, one schema and one alembic history for each service."""

import socket
from asyncio import BaseTransport
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    MetaData,
    Text,
    any_,
    bindparam,
    event,
    func,
    literal,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from shared.roles import grant_role, share_revocations

if TYPE_CHECKING:
    from alembic.config import Config

SERVICES = ("intake", "escalation", "ledger")
_MIGRATION_LOCK = 0x7472_6261


DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
CONNECT_SECONDS = 10.0
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 10, 5, 3
VANISHED_SECONDS = KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_COUNT
"""After so long without a sign of the other host, client and server end a TCP connection, each for itself.

Otherwise the session of a host that lost its power would keep its locks for two hours.
"""


@dataclass(frozen=True)
class TimeLimits:
    """How long PostgreSQL lets a session do something, in seconds; 0 is for ever."""

    statement: float
    """For one statement, its waits for locks included."""
    lock: float
    """For one wait for a lock."""
    idle_in_transaction: float
    """Between two statements of a transaction; then the session ends, and with it its locks."""
    transaction: float
    """For a whole transaction; then the session ends. PostgreSQL 17 and newer; an older one has no such limit.

    A process that is frozen between the parts of one statement does not count as idle. Only this ends its session.
    """


SERVICE = TimeLimits(statement=20, lock=15, idle_in_transaction=10, transaction=30)
"""For work that others wait for. The figures grow: whoever waits for a frozen holder's lock gets it in the end.

Routing 2,000 reports of one incident computes for 4.5 s between two statements. A machine with other work may need
several times as long, and a limit below that would undo the same batch for ever.
"""
PATIENT = TimeLimits(statement=0, lock=0, idle_in_transaction=60, transaction=0)
"""For migrations, imports, exports and computing again, which may take minutes. Still, a command that was stopped with
Ctrl-Z in a transaction must not hold a lock for ever."""


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


class _Connection(asyncpg.Connection):
    """Notices when the server's host has vanished."""

    def __init__(self, protocol: Any, transport: BaseTransport, *more: Any) -> None:
        super().__init__(protocol, transport, *more)
        _keep_alive(transport.get_extra_info("socket"))


def _keep_alive(transport_socket: socket.socket) -> None:
    """Does nothing to a socket of Unix. Where the system lacks an option, its own figure counts."""
    if transport_socket.family == socket.AF_UNIX:
        return
    options = {
        "TCP_KEEPIDLE": KEEPALIVE_IDLE,
        "TCP_KEEPINTVL": KEEPALIVE_INTERVAL,
        "TCP_KEEPCNT": KEEPALIVE_COUNT,
        "TCP_USER_TIMEOUT": VANISHED_SECONDS * 1000,
    }
    # a transport's socket may lack setsockopt; one of our own on the same file does not
    with socket.fromfd(transport_socket.fileno(), transport_socket.family, transport_socket.type) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _server_settings(limits: TimeLimits) -> dict[str, str]:
    def milliseconds(seconds: float) -> str:
        return str(round(seconds * 1000))

    return {
        "timezone": "UTC",
        "jit": "off",  # no query of ours runs long enough to be worth compiling
        "statement_timeout": milliseconds(limits.statement),
        "lock_timeout": milliseconds(limits.lock),
        "idle_in_transaction_session_timeout": milliseconds(limits.idle_in_transaction),
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL),
        "tcp_keepalives_count": str(KEEPALIVE_COUNT),
        "tcp_user_timeout": milliseconds(VANISHED_SECONDS),
    }


def connect(url: str, pool_size: int = 10, *, limits: TimeLimits = SERVICE) -> AsyncEngine:
    """The database at `url`. Connects with its first use; dispose of it in the end."""
    engine = create_async_engine(
        async_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=CONNECT_SECONDS,
        pool_use_lifo=True,  # a few connections, which know the statements already, do all of a quiet night's work
        hide_parameters=True,
        json_serializer=_json_text,
        json_deserializer=orjson.loads,
        connect_args={
            "server_settings": _server_settings(limits),
            "timeout": CONNECT_SECONDS,
            "connection_class": _Connection,
        },
    )
    event.listen(engine.sync_engine, "checkout", _check_open)
    event.listen(engine.sync_engine, "connect", _prepare_session(limits.transaction))
    return engine


@lru_cache(maxsize=8)
def reading(engine: AsyncEngine) -> AsyncEngine:
    """The same connections, for queries alone: each statement is a transaction of its own.

    A query sees what is committed when it begins, here as in any transaction of ours. It costs one message to the
    server and not three.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _check_open(connection: Any, *_: object) -> None:
    """Have a connection of the pool that the server has closed replaced before it is used.

    The driver knows it. `pool_pre_ping` would ask the server, in a transaction: three messages for each use.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server has closed it")


ARRAYS = ("bool", "bytea", "date", "float8", "int2", "int4", "int8", "timestamptz")
"""Types of which statements take arrays. The driver knows text[] alone."""


def _prepare_session(transaction_seconds: float) -> Callable[[Any, object], None]:
    """For each new connection: limit its transactions, and have the driver learn all array types with one question.

    Else it would ask, in the middle of a transaction, for each type when a statement first has it. A server before 17
    would refuse a session that asks for `transaction_timeout` at its start.

    What the driver raises becomes SQLAlchemy's error, as that of a statement does.
    """
    limit = (
        f"SELECT set_config(name, '{round(transaction_seconds * 1000)}', false) FROM pg_settings"  # noqa: S608 - a number
        " WHERE name = 'transaction_timeout'"
    )
    arrays = "SELECT " + ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(ARRAYS, 1))

    async def ask(driver: Any) -> None:
        if transaction_seconds:
            await driver.execute(limit)
        await driver.fetch(arrays, *([] for _ in ARRAYS))

    def prepare(connection: Any, _: object) -> None:
        try:
            connection.run_async(ask)  # not as a transaction of SQLAlchemy's
        except BaseException as error:
            connection.terminate()
            if isinstance(error, DRIVER_ERRORS):
                raise _not_connected(error) from error
            raise

    return prepare


def _json_text(value: object) -> str:
    return orjson.dumps(value).decode()


def any_of(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    """Return `column = ANY(values)`, which has one parameter. `IN` would have one for each value."""
    return column == any_(literal(list(values), ARRAY(Text)))


def given_rows(**columns: TypeEngine[Any]) -> FromClause:
    """Return a table with these columns, for a statement that is built once. Each column is one parameter: see `given`.

    So the statement is the same for any number of rows.
    """
    arrays = [bindparam(f"given_{name}", type_=ARRAY(kind)) for name, kind in columns.items()]
    return func.unnest(*arrays).table_valued(*columns).render_derived()


def given(**columns: Sequence[object]) -> dict[str, list[object]]:
    """Return the parameters of `given_rows`: the values of each column."""
    return {f"given_{name}": list(values) for name, values in columns.items()}


def _not_connected(error: Exception) -> DBAPIError:
    """As SQLAlchemy raises the driver's errors of its own statements."""
    kind = InterfaceError if isinstance(error, asyncpg.InterfaceError) else DBAPIError
    return kind("connect", None, error, hide_parameters=True, connection_invalidated=True)


async def migrate(url: str, service: str) -> None:
    """Bring the schema of one service to its newest version. Idempotent, and safe to run twice at once.

    Raises DatabaseError if the database is not encoded in UTF-8.
    """
    engine = connect(url, pool_size=1, limits=PATIENT)
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
    """Bring the schema of one service to `revision`, in the caller's transaction, and let its role work in it."""
    await connection.run_sync(_upgrade, service, revision)
    await grant_role(connection, service)
    await share_revocations(connection)


async def schema_version(connection: AsyncConnection, service: str) -> tuple[str | None, str | None]:
    """Return the version that the schema of one service has, and the newest. None where there is none."""
    return await connection.run_sync(_schema_version, service)


def _schema_version(connection: Connection, service: str) -> tuple[str | None, str | None]:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    stored = MigrationContext.configure(connection, opts={"version_table_schema": service})
    return stored.get_current_revision(), ScriptDirectory.from_config(_config(service)).get_current_head()


def _config(service: str) -> "Config":
    from alembic.config import Config  # takes long to import, and a service that runs needs none

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "services" / service / "migrations"))
    return config


def _upgrade(connection: Connection, service: str, revision: str) -> None:
    from alembic import command

    config = _config(service)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def run_migrations(schema: str, metadata: MetaData) -> None:
    """Run the migrations of a schema. The `migrations/env.py` of each service calls it."""
    from alembic import context

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

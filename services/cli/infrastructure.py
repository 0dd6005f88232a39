"""PostgreSQL and Redis for a command: those configured, embedded ones, or those of a running `trucban up`."""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

import structlog
from sqlalchemy import MetaData
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.cli.embedded import InUseError, embedded_servers
from services.cli.errors import CommandError
from shared import messaging
from shared.database import PATIENT, SERVICES, connect, migrate
from shared.messaging import NOT_MIGRATED, sqlstate_of
from shared.roles import set_password
from shared.settings import Settings

log = structlog.get_logger()
ADDRESSES = "addresses.json"
PRODUCERS = {messaging.producer_of(base) for base in messaging.GROUPS}


@asynccontextmanager
async def infrastructure(settings: Settings) -> AsyncGenerator[Settings]:
    """Settings with both addresses set: as configured, or of embedded servers that run until the block is left.

    The addresses of embedded servers stand in `data`/addresses.json meanwhile, for `shared_infrastructure`.
    """
    needs_redis, needs_postgres = settings.redis_url is None, settings.database_url is None
    if not (needs_redis or needs_postgres):
        yield settings
        return
    async with embedded_servers(settings.data, redis=needs_redis, postgres=needs_postgres) as servers:
        found = {"redis_url": servers.redis_url, "database_url": servers.database_url}
        found = {name: url for name, url in found.items() if url}
        addresses = settings.data / ADDRESSES
        _write_addresses(addresses, found)
        of_services = {service: servers.of(service) for service in SERVICES}
        try:
            yield settings.model_copy(update={**found, "of_services": of_services})
        finally:
            addresses.unlink(missing_ok=True)


@asynccontextmanager
async def shared_infrastructure(settings: Settings) -> AsyncGenerator[Settings]:
    """As `infrastructure`; where a running `trucban up` has the data folder, its servers are used."""
    async with AsyncExitStack() as stack:
        try:
            ready = await stack.enter_async_context(infrastructure(settings))
        except InUseError:
            ready = settings.model_copy(update=_read_addresses(settings.data / ADDRESSES))
        yield ready


def _write_addresses(file: Path, addresses: dict[str, str]) -> None:
    """For this user only: they hold the owner's password."""
    draft = file.with_name(f".{file.name}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(addresses), encoding="utf-8")
    draft.replace(file)


def _read_addresses(file: Path) -> dict[str, str]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"the system in {file.parent} is just starting or ending: try again") from error


async def migrate_all(settings: Settings) -> None:
    """Bring the schema of each service to its newest version, and store the number of partitions where none is.

    Raises PartitionsError where another is stored. Streams without signatures, of an older version, are emptied.
    """
    assert settings.database_url is not None
    for service in SERVICES:
        await migrate(settings.database_url, service)
    engine = connect(settings.database_url, pool_size=1, limits=PATIENT)
    try:
        for service in SERVICES:
            counters = messaging.outbox_tables(MetaData(schema=service)).streams if service in PRODUCERS else None
            epochs = messaging.epoch_table(MetaData(schema=service))
            await messaging.settle_partitions(engine, epochs, settings.partitions, counters)
    finally:
        await engine.dispose()
    await _drop_unsigned(settings)


async def set_passwords(settings: Settings) -> None:
    """Give the roles of the services the passwords of the settings."""
    assert settings.database_url is not None
    engine = connect(settings.database_url, pool_size=1, limits=PATIENT)
    try:
        async with engine.begin() as connection:
            for service, password in settings.role_passwords.items():
                await set_password(connection, service, password.get_secret_value())
    finally:
        await engine.dispose()


async def _drop_unsigned(settings: Settings) -> None:
    """Relays do it too, so a broker that is away does not hold up a migration."""
    assert settings.redis_url is not None
    broker = messaging.connect(settings.redis_url)
    try:
        for base in messaging.GROUPS:
            streams = messaging.streams(base, settings.partitions)
            await messaging.drop_unsigned(broker, streams, messaging.seals(settings.keys_dir))
    except (messaging.BrokerError, OSError) as error:
        log.warning("streams are left to their relays", error=messaging.describe_error(error))
    finally:
        await broker.aclose()


def has_database(settings: Settings) -> bool:
    """Whether a database is configured, or the data folder holds one."""
    return settings.database_url is not None or (settings.data / "postgres").exists()


@asynccontextmanager
async def existing_system(settings: Settings) -> AsyncGenerator[Settings]:
    """Settings with the address of a database that is there already. Raises CommandError where there is none."""
    if not has_database(settings):
        where = "name its data folder with --data or TRUCBAN_DATA, or set DATABASE_URL"
        raise CommandError(f"there is no system in {settings.data}: {where}")
    async with nullcontext(settings) if settings.database_url else shared_infrastructure(settings) as ready:
        yield ready


@asynccontextmanager
async def existing_database(settings: Settings) -> AsyncGenerator[AsyncEngine]:
    """The system's database, to read from. Raises CommandError where there is none, or one of an older version."""
    async with existing_system(settings) as ready:
        assert ready.database_url is not None
        database = connect(ready.database_url, pool_size=1, limits=PATIENT)
        try:
            yield database
        except ProgrammingError as error:
            if sqlstate_of(error) not in NOT_MIGRATED:
                raise
            raise CommandError(
                "the database is not of this version: run trucban migrate, or start the system"
            ) from error
        finally:
            await database.dispose()

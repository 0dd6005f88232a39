"""What the migrations make is what the code's tables say; running them again changes nothing."""

from importlib import import_module

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData

from services.cli.embedded import Servers
from shared.database import SERVICES, connect, migrate
from tests.servers import new_database

METADATA = {
    "intake": "services.intake.store",
    "escalation": "services.escalation.store.tables",
    "ledger": "services.ledger.store.tables",
}


def _differences(connection: Connection, schema: str, metadata: MetaData) -> list[object]:
    def of_schema(name: str | None, kind: str, _: object) -> bool:
        return name == schema if kind == "schema" else name != "alembic_version"

    options = {"include_schemas": True, "include_name": of_schema, "version_table_schema": schema}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


@pytest.mark.parametrize("service", SERVICES)
async def test_migrations_make_the_tables_of_the_code(service: str, servers: Servers) -> None:
    url = await new_database(servers)
    await migrate(url, service)
    await migrate(url, service)
    metadata: MetaData = import_module(METADATA[service]).metadata
    engine = connect(url)
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(_differences, service, metadata) == []
    finally:
        await engine.dispose()

"""Making a backup while the system runs: all tables as they were at one moment, and the keys."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, Table, Text, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cli.backup.manifest import FILE, Manifest, Progress, StoredFile, StoredTable, describe_file
from services.cli.errors import CommandError
from services.cli.stopped import NEVER_IDLE_TOO_LONG
from services.ledger.application import newest_head
from shared.database import PATIENT, SERVICES, connect

VERSION_TABLE = "alembic_version"


async def make_backup(database_url: str, keys: Path, folder: Path, progress: Progress) -> Manifest:
    """Write a backup into `folder`, which must be new or empty. Reads everything in one transaction.

    Raises CommandError for a folder that holds something, and for a database without our schemas.
    """
    _make_folder(folder)
    engine = connect(database_url, pool_size=1, limits=PATIENT)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            await connection.execute(text(NEVER_IDLE_TOO_LONG))
            revisions = await _revisions(connection)
            tables = await _dump(connection, folder, progress)
            head = await newest_head(connection)
    finally:
        await engine.dispose()
    manifest = Manifest(
        made_at=datetime.now(UTC),
        revisions=revisions,
        tables=tables,
        keys=_copy_keys(keys, folder),
        ledger_size=head.size if head else 0,
        checkpoint=head.note if head else None,
    )
    _write_last(folder, manifest)
    return manifest


def _make_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} holds something: name a folder that is new or empty")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)  # it will hold keys


async def _revisions(connection: AsyncConnection) -> dict[str, str]:
    found: dict[str, str] = {}
    for service in SERVICES:
        exists = await connection.scalar(text("SELECT to_regclass(:name)"), {"name": f"{service}.{VERSION_TABLE}"})
        if exists is None:
            raise CommandError(f"the database has no schema {service}: run 'trucban migrate', or name another database")
        version = Table(VERSION_TABLE, MetaData(), Column("version_num", Text), schema=service)
        found[service] = str(await connection.scalar(select(version.c.version_num)))
    return found


async def tables_of(connection: AsyncConnection) -> MetaData:
    """The tables that the database really has, without alembic's. `sorted_tables`: what refers to a table after it."""
    metadata = MetaData()

    def reflect(sync: Connection) -> None:
        for service in SERVICES:
            metadata.reflect(sync, schema=service, only=lambda name, _: name != VERSION_TABLE)

    await connection.run_sync(reflect)
    return metadata


async def _dump(connection: AsyncConnection, folder: Path, progress: Progress) -> list[StoredTable]:
    stored: list[StoredTable] = []
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    tables = (await tables_of(connection)).sorted_tables
    for table in tables:
        assert table.schema is not None
        path = folder / "database" / table.schema / f"{table.name}.copy"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        columns = [column.name for column in table.columns]
        status: str = await driver.copy_from_table(
            table.name, schema_name=table.schema, columns=columns, output=path, format="binary"
        )
        _flush(path)
        rows = int(status.rpartition(" ")[2])
        file = describe_file(folder, path)
        stored.append(StoredTable(service=table.schema, name=table.name, columns=columns, rows=rows, file=file))
        progress(len(stored), len(tables))
    return stored


def _copy_keys(keys: Path, folder: Path) -> list[StoredFile]:
    place = folder / "keys"
    place.mkdir(mode=0o700)
    copied: list[StoredFile] = []
    for key in sorted(keys.iterdir()):
        if key.is_file() and not key.name.startswith("."):
            copy = place / key.name
            copy.touch(mode=0o600)
            shutil.copyfile(key, copy)
            _flush(copy)
            copied.append(describe_file(folder, copy))
    return copied


def _write_last(folder: Path, manifest: Manifest) -> None:
    draft = folder / f".{FILE}"
    draft.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    _flush(draft)
    draft.rename(folder / FILE)
    for place in (folder, folder.parent):
        _flush(place)


def _flush(path: Path) -> None:
    """Have the disk keep what was written, before the manifest says that it is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

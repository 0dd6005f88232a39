"""Restoring a backup, while the services are stopped: all of it or nothing."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from sqlalchemy import BigInteger, Column, MetaData, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cli.backup.manifest import Manifest, Progress, StoredTable
from services.cli.errors import CommandError
from services.cli.partitions import EPOCHS, numbers_of_all, stored_in_all
from services.cli.stopped import empty_broker, stopped_city
from services.escalation.app import connect_escalation
from services.escalation.application.record_operation import record_restore
from services.ledger.app import load_signer
from services.ledger.application import newest_head
from services.ledger.domain.checkpoint import Checkpoint, NoteError, Signer, open_checkpoint
from shared.clock import Clock
from shared.database import PATIENT, SERVICES, connect, upgrade
from shared.events import DataRestoredData
from shared.messaging import begin_epoch
from shared.operator import operator
from shared.settings import Settings


@dataclass(frozen=True)
class Restored:
    """What came of a restore."""

    rows: int
    ledger_size: int
    lost: int
    """How many entries the ledger is known to have had, and has no more."""


async def restore_backup(
    settings: Settings,
    folder: Path,
    manifest: Manifest,
    progress: Progress,
    *,
    known: str | None = None,
    replace: bool = False,
    lose_entries: bool = False,
) -> Restored:
    """Put the backup in the place of the database, the keys and the streams of `settings`, whose services are stopped.

    `known`: the newest checkpoint (note) that somebody kept. `replace`: what is there now may be deleted.
    `lose_entries`: a ledger that is known to have been longer may be restored all the same. Raises CommandError, with
    nothing changed.
    """
    assert settings.database_url is not None and settings.redis_url is not None
    engine = connect(settings.database_url, pool_size=1, limits=PATIENT)
    try:
        async with stopped_city(engine) as connection:
            if await _has_schemas(connection) and not replace:
                raise CommandError(
                    "the database holds an installation: name an empty one, or say --replace to delete what it holds"
                )
            _check_keys(folder, manifest, settings.keys_dir, replace=replace)
            longest = _longest_known(
                _signer(settings, folder, manifest), manifest, known, await _present_note(connection)
            )
            lost = longest.size - manifest.ledger_size if longest else 0
            if lost and not lose_entries:
                assert longest is not None
                raise CommandError(
                    f"the ledger is known to have had {longest.size} entries, the backup has {manifest.ledger_size}: "
                    f"restore a newer backup, or say --lose-entries to go on without the last {lost}"
                )
            _put_keys(folder, manifest, settings.keys_dir)
            await _fill(connection, folder, manifest, progress)
            await _record(connection, settings, manifest, longest)
            await empty_broker(settings.redis_url)
    finally:
        await engine.dispose()
    return Restored(sum(table.rows for table in manifest.tables), manifest.ledger_size, lost)


async def _has_schemas(connection: AsyncConnection) -> bool:
    query = text("SELECT count(*) FROM pg_namespace WHERE nspname = ANY(:names)")
    return bool(await connection.scalar(query, {"names": list(SERVICES)}))


async def _present_note(connection: AsyncConnection) -> str | None:
    """The newest checkpoint of the ledger that is there now; None where there is none."""
    if await connection.scalar(text("SELECT to_regclass('ledger.checkpoint')")) is None:
        return None
    head = await newest_head(connection)
    return head.note if head else None


def _signer(settings: Settings, folder: Path, manifest: Manifest) -> Signer:
    """The ledger's name, and its key as the backup has it."""
    if "keys/ledger.pem" not in {stored.path for stored in manifest.keys}:
        raise CommandError(f"{folder} has no key of the ledger (keys/ledger.pem): it is not a whole backup")
    return load_signer(settings.model_copy(update={"keys": folder / "keys"}))


def _longest_known(signer: Signer, manifest: Manifest, known: str | None, present: str | None) -> Checkpoint | None:
    """The longest checkpoint that is known of the ledger, the backup's own included.

    Raises CommandError for a `known` one that is not of this ledger. `present` may be of another one.
    """
    opened: list[Checkpoint] = []
    for whose, way_out, note in (
        ("the backup's checkpoint", "set TRUCBAN_LEDGER_ORIGIN as it was", manifest.checkpoint),
        ("--known", "give a checkpoint of this ledger", known),
        ("", "", present),
    ):
        try:
            if note is not None:
                opened.append(open_checkpoint(note, signer.verifier, signer.verifier.name))
        except NoteError as error:
            if whose:
                ours = f"the ledger {signer.verifier.name} under the backup's key"
                wrong = f"{whose} is not of {ours}, but of {_origin_of(note or '')!r} ({error})"
                raise CommandError(f"{wrong}: {way_out}") from error
    return max(opened, key=lambda checkpoint: checkpoint.size, default=None)


def _origin_of(note: str) -> str:
    """The log that a checkpoint says it is of: its first line."""
    return (note.splitlines() or [""])[0][:100]


def _check_keys(folder: Path, manifest: Manifest, keys: Path, *, replace: bool) -> None:
    for stored in manifest.keys:
        source, target = folder / stored.path, keys / Path(stored.path).name
        if not replace and target.exists() and target.read_bytes() != source.read_bytes():
            raise CommandError(f"{target} is another key than the backup's: move it away, or say --replace")


def _put_keys(folder: Path, manifest: Manifest, keys: Path) -> None:
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stored in manifest.keys:
        target = keys / Path(stored.path).name
        draft = target.with_name(f".{target.name}.restored")
        draft.touch(mode=0o600)
        shutil.copyfile(folder / stored.path, draft)
        draft.rename(target)


async def _fill(connection: AsyncConnection, folder: Path, manifest: Manifest, progress: Progress) -> None:
    for service in SERVICES:
        await connection.execute(text(f"DROP SCHEMA IF EXISTS {service} CASCADE"))
    for service in SERVICES:
        await upgrade(connection, service, manifest.revisions[service])
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    for done, table in enumerate(manifest.tables):
        name = f"{table.service}.{table.name}"
        try:
            status: str = await driver.copy_to_table(
                table.name,
                schema_name=table.service,
                columns=list(table.columns),
                source=folder / table.file.path,
                format="binary",
            )
        except asyncpg.PostgresError as error:
            raise CommandError(
                f"{name} does not take its rows ({type(error).__name__}): nothing was changed"
            ) from error
        if (rows := int(status.rpartition(" ")[2])) != table.rows:
            raise CommandError(f"{name} has {rows} rows after the restore and had {table.rows}: nothing was changed")
        await _continue_numbers(connection, table)
        progress(done + 1, len(manifest.tables))
    for service in SERVICES:
        await upgrade(connection, service)


async def _continue_numbers(connection: AsyncConnection, table: StoredTable) -> None:
    """Have the numbers that the database gives go on above those that were restored."""
    for name in table.columns:
        place = {"table": f"{table.service}.{table.name}", "column": name}
        sequence = await connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), place)
        if sequence is not None:
            column = Column(name, BigInteger)
            filled = Table(table.name, MetaData(), column, schema=table.service)
            highest = await connection.scalar(select(func.max(column)).select_from(filled))
            if highest is not None:
                await connection.execute(text("SELECT setval(:name, :value)"), {"name": sequence, "value": highest})


async def _record(
    connection: AsyncConnection, settings: Settings, manifest: Manifest, longest: Checkpoint | None
) -> None:
    """Record the restore as an event, in the same transaction. Numbers of lost events are given again: a new epoch."""
    partitions = await stored_in_all(connection, settings.partitions)
    numbers = await numbers_of_all(connection)
    epoch = await begin_epoch(connection, list(EPOCHS.values()), partitions)
    restored = settings.model_copy(update={"partitions": partitions})
    escalation = connect_escalation(restored, Clock(settings.clock))
    try:
        data = DataRestoredData(
            backup_made_at=manifest.made_at,
            ledger_size=manifest.ledger_size,
            known_size=longest.size if longest else None,
            known_root=longest.root.hex() if longest else None,
            epoch=epoch,
            streams=tuple(numbers),
        )
        await record_restore(escalation.by(operator()), connection, data)
    finally:
        await escalation.database.dispose()

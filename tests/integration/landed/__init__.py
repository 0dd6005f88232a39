"""Databases as they were: each content that escalation's migration 0002 ever had, with rows that its own code wrote.

0002 was changed four times between 24 and 26 November 2026, after it had been used. The rows of each JSON file were
written by the code of that commit: two reports of setting off in Ba Đình, one of a fire in Ngọc Trạo. Those of
`0001.json` were written before 0002, an hour earlier, and have the directory of the two wards too.

The archive of each state is a whole city, written by the services of that commit (67e4943 for `0001`), with the wards
and post-holders of tests/faults/city.py. It was made in these steps: run the three services on empty servers, send
reports, acknowledge, verify; kill escalation and the ledger; send more reports, which nobody routes; kill intake. In it
are `database.sql` (`pg_dump --inserts --no-owner --no-privileges` of the three schemas, without psql's own commands),
`outbox.ndjson` and the folder `keys`, which were made for it.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sqlalchemy import Connection, text

from services.cli.embedded import Servers
from shared.database import connect
from tests.servers import new_database

_HERE = Path(__file__).parent
_VERSIONS = "services.escalation.migrations.versions"
_NO_SUMMARY = (
    """    ADD COLUMN digest TEXT DEFAULT '{}' NOT NULL,
    ADD COLUMN decided_at TIMESTAMP WITH TIME ZONE,
""",
    "",
)
_NO_PLACE = ("CREATE INDEX incident_by_place ON escalation.incident (unit_code, occurred_at);\n", "")
_JSON_SUMMARY = ("digest TEXT DEFAULT", "digest JSONB DEFAULT")
_ONE_NOTICE = (
    """ALTER TABLE escalation.notice ADD COLUMN withdrawn_at TIMESTAMP WITH TIME ZONE;
CREATE INDEX notice_by_incident ON escalation.notice (incident_id);
CREATE UNIQUE INDEX notice_once ON escalation.notice (incident_id, recipient, purpose, round)
    WHERE purpose IN ('accountable', 'duty', 'reminder', 'still_open');
""",
    "ALTER TABLE escalation.notice ADD UNIQUE (incident_id, recipient, purpose, round);\n",
)
_NO_GIVEN_UP = ("CREATE INDEX delivery_given_up ON escalation.delivery (finished_at) WHERE state = 'given_up';\n", "")
_CHANGES: Mapping[str, tuple[str, Sequence[tuple[str, str]]]] = {
    "6bc886d": (
        "35a788485faf3dbae0de63d3ab39b27a51d0281394c52576fa3a943e5182108f",
        (_NO_SUMMARY, _NO_PLACE, _ONE_NOTICE, _NO_GIVEN_UP),
    ),
    "07c9dee": (
        "623a52553b0acb3d54a309f0e1f9fcef3dd0109f773cd60f5cc2478e853a750a",
        (_JSON_SUMMARY, _ONE_NOTICE, _NO_GIVEN_UP),
    ),
    "abb606f": ("f1d243f821de5c4603bc540a58e9d263fcb2e12c0df3e92c9e00455268189de1", (_ONE_NOTICE, _NO_GIVEN_UP)),
    "493c19c": ("944ffac050443f6aa23b40b7fc30b5e82cd7815372efbb3a8c985c8957ee3091", (_NO_GIVEN_UP,)),
    "fddfe5d": ("3013a16470d2d5c768d5491e74d51d9c16c2e37e47b4ebadab0b338d0838178a", ()),
}
"""By commit: the SHA-256 of that 0002, and what made it of today's. The last one is today's."""
STATES = ("0001", *_CHANGES)
"""The names of the databases that `database_of` makes: before 0002, and after each content of it."""


def content_of_0002(commit: str) -> str:
    """The text of migration 0002 at that commit, to the byte."""
    digest, changes = _CHANGES[commit]
    content = _source(import_module(f"{_VERSIONS}.0002_escalation_in_full"))
    for today, then in changes:
        assert content.count(today) == 1
        content = content.replace(today, then)
    assert hashlib.sha256(content.encode()).hexdigest() == digest
    return content


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Left:
    """What a city had promised when it was left."""

    accepted: Sequence[str]
    """Reports that intake had accepted, by their sender's ids."""
    checkpoint: str
    """The last one that the ledger had signed."""
    entries: int
    """Of the ledger, all of them under that checkpoint."""


async def left_city(url: str, data: Path, state: str) -> Left:
    """Put a whole city as it was left at `state` into an empty database and a data folder."""
    with tarfile.open(_HERE / f"{state}.tar.xz") as archive:
        archive.extractall(data, filter="data")
    dump = data / "database.sql"
    engine = connect(url, pool_size=1)
    async with engine.begin() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute(dump.read_text(encoding="utf-8"))
        accepted = (await connection.scalars(text("SELECT report_id FROM intake.report"))).all()
        last = text("SELECT note, size FROM ledger.checkpoint ORDER BY size DESC LIMIT 1")
        checkpoint, entries = (await connection.execute(last)).one()
    await engine.dispose()
    dump.unlink()
    return Left(accepted, checkpoint, entries)


async def database_of(servers: Servers, state: str) -> str:
    """The URL of a database that was left at `state`, with its rows; its incidents are open."""
    url = await new_database(servers)
    engine = connect(url, pool_size=1)
    async with engine.begin() as connection:
        await connection.run_sync(_make, state)
    await engine.dispose()
    return url


def _make(connection: Connection, state: str) -> None:
    first = import_module(f"{_VERSIONS}.0001_escalation")
    connection.exec_driver_sql("CREATE SCHEMA escalation")
    _run(connection, first.TABLES + first.EXTRA)
    _insert(connection, "0001")
    if state != "0001":
        _run(connection, content_of_0002(state).split('"""')[3])
        _insert(connection, state)
    connection.exec_driver_sql("CREATE TABLE escalation.alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    version = {"version": "0001" if state == "0001" else "0002"}
    connection.execute(text("INSERT INTO escalation.alembic_version VALUES (:version)"), version)


def _run(connection: Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def _insert(connection: Connection, state: str) -> None:
    tables = json.loads((_HERE / f"{state}.json").read_text(encoding="utf-8"))
    for table, rows in tables.items():
        connection.execute(
            text(
                f"INSERT INTO escalation.{table} SELECT * FROM jsonb_populate_recordset(NULL::escalation.{table},"
                " CAST(:rows AS jsonb))"
            ),
            {"rows": json.dumps(rows)},
        )

"""A database of each content that migration 0002 ever had becomes today's, and the service works on in it."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Row, text

from services.cli.embedded import Servers
from services.escalation.application.adopt_rulebooks import adopt_rulebooks, packaged_rulebooks
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.sending.channels import Sender
from services.escalation.sending.delivery_loop import DeliveryLoop
from services.escalation.store import watch
from shared.database import connect, migrate
from shared.events import ReportCorrelated, ReportReceived
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.escalation_support import City, city_in
from tests.integration.landed import STATES, content_of_0002, database_of, left_city
from tests.integration.stored.arranging import due_times_are
from tests.integration.stored.looking import stored, stored_in
from tests.integration.stored.neighbours import Received, Reporter
from tests.integration.stored.records import DueTime, Incident, Notice, Report
from tests.servers import new_database
from tests.support import NIGHT, received

HOUR = timedelta(hours=1)
SCHEMA = """
SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = 'escalation' AND table_name <> 'alembic_version'
UNION ALL SELECT 'index', indexname, indexdef
    FROM pg_indexes WHERE schemaname = 'escalation' AND tablename <> 'alembic_version'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'escalation'::regnamespace AND contype <> 'n'
        AND conrelid::regclass::text <> 'escalation.alembic_version'
ORDER BY 1, 2
"""
"""Every column with its type and default, every index, every constraint. The order of columns is left out."""


async def schema_of(url: str) -> Sequence[Row[Any]]:
    engine = connect(url, pool_size=1)
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text(SCHEMA))).all()
    finally:
        await engine.dispose()


@pytest.mark.parametrize("commit", STATES[1:])
def test_what_0002_was_is_kept_to_the_byte(commit: str) -> None:
    assert 'revision = "0002"' in content_of_0002(commit)


@pytest.fixture(scope="module")
async def schema_of_a_new_one(servers: Servers) -> Sequence[Row[Any]]:
    url = await new_database(servers)
    await migrate(url, "escalation")
    return await schema_of(url)


@pytest.mark.parametrize("state", STATES)
async def test_a_database_of_each_state_gets_the_schema_of_a_new_one(
    state: str, servers: Servers, schema_of_a_new_one: Sequence[Row[Any]]
) -> None:
    old = await database_of(servers, state)
    assert await schema_of(old) != []
    await migrate(old, "escalation")
    assert await schema_of(old) == schema_of_a_new_one


@pytest.mark.parametrize("state", STATES)
async def test_a_whole_city_that_was_left_has_the_schema_of_its_state(
    state: str, servers: Servers, tmp_path: Path
) -> None:
    """So that `make faults` begins with what these tests upgrade."""
    url = await new_database(servers)
    left = await left_city(url, tmp_path, state)
    assert await schema_of(url) == await schema_of(await database_of(servers, state))
    assert len(left.accepted) == (9 if state == "0001" else 18)


async def mended(servers: Servers, state: str) -> str:
    url = await database_of(servers, state)
    await migrate(url, "escalation")
    return url


async def test_what_mends_them_changes_nothing_where_nothing_is_wrong(servers: Servers) -> None:
    url = await mended(servers, "fddfe5d")
    async with city_in(url) as city:
        before = [await stored(city, kind) for kind in (Incident, DueTime)]
        digests = await city.rows("SELECT incident_id, digest FROM escalation.incident ORDER BY incident_id")
        for statement in import_module("services.escalation.migrations.versions.0003_mend_0002").STATEMENTS:
            await city.run(statement)
        assert [await stored(city, kind) for kind in (Incident, DueTime)] == before
        assert await city.rows("SELECT incident_id, digest FROM escalation.incident ORDER BY incident_id") == digests


@pytest.mark.parametrize("state", STATES)
async def test_in_a_database_of_each_state_a_report_joins_its_incident(state: str, servers: Servers) -> None:
    """Those of before 0002 count as well: the report that joins them is their third."""
    async with city_in(await mended(servers, state), NIGHT + timedelta(minutes=5)) as city:
        await adopt_rulebooks(city.escalation, packaged_rulebooks())
        of_ba_dinh = [i for i in await stored(city, Incident) if i.unit_code == "14776"]
        assert len(of_ba_dinh) == (1 if state == "0001" else 2)
        for found in of_ba_dinh:
            await route_reports(city.escalation, [another_report(found.occurred_at)])
            assert len(await stored(city, Report, incident_id=found.incident_id)) == 3
            summary = json.loads(await digest(city, found.incident_id))
            assert summary["count"] == 3
            assert len(summary["sources"]) == 3
        joined = [e.data for e in await city.events() if isinstance(e, ReportCorrelated)]
        assert [data.outcome for data in joined] == ["merged"] * len(of_ba_dinh)


def another_report(occurred_at: datetime) -> ReportReceived:
    """One more, with an id that no stored report has."""
    event, event_id = received(occurred_at=occurred_at, subject="cam-bien-9"), str(uuid4())
    return event.model_copy(update={"id": event_id, "data": event.data.model_copy(update={"report_id": event_id})})


async def digest(city: City, incident_id: str) -> str:
    return await city.one("SELECT digest FROM escalation.incident WHERE incident_id = :id", id=incident_id)


@pytest.mark.parametrize("state", STATES)
async def test_in_a_database_of_each_state_people_are_told_of_every_open_incident(
    state: str, servers: Servers, tmp_path: Path
) -> None:
    url = await database_of(servers, state)
    async with city_in(url, NIGHT + HOUR) as city:
        await due_times_are(city, "passed")
        await migrate(url, "escalation")
        await adopt_rulebooks(city.escalation, packaged_rulebooks())
        async with city.escalation.database.connect() as connection:
            assert (await watch.look(connection, NIGHT + HOUR)).unwatched.count == 0
        later = NIGHT + timedelta(days=4)
        city.clock.set(later)
        while await fire_due_timers(city.escalation):
            pass
        loop = DeliveryLoop(city.escalation, Sender(tmp_path / "outbox.ndjson", TO_THIS_MACHINE))
        while await loop.step() | await loop.drain():
            pass
        incidents = {incident.incident_id for incident in await stored(city, Incident)}
        assert len(incidents) == (2 if state == "0001" else 4)
        assert {n.incident_id for n in await stored(city, Notice) if n.issued_at >= later} == incidents
        lines = (tmp_path / "outbox.ndjson").read_text(encoding="utf-8").splitlines()
        assert {json.loads(line)["incident_id"] for line in lines} == incidents


@pytest.mark.parametrize("state", STATES)
async def test_reports_of_before_keep_their_senders_and_their_sealed_reporters(
    state: str, servers: Servers, tmp_path: Path
) -> None:
    url = await new_database(servers)
    left = await left_city(url, tmp_path, state)
    await migrate(url, "intake")
    engine = connect(url, pool_size=1)
    try:
        reports = await stored_in(engine, Received)
        reporters = await stored_in(engine, Reporter)
    finally:
        await engine.dispose()
    senders = {report.report_id: report.submitter for report in reports}
    assert sorted(senders) == sorted(left.accepted)
    assert {r.report_id: r.submitter for r in reporters}.items() <= senders.items()
    assert len(reporters) > 0

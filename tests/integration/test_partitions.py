"""The number of partitions is stored: another one is refused, and whatever is kept brings its own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from services.cli.backup import make_backup, read_backup, restore_backup
from services.cli.errors import CommandError
from services.cli.partitions import EPOCHS
from shared.database import connect
from shared.messaging import (
    INTAKE,
    PartitionsError,
    stream_name,
)
from tests.integration.cli_support import trucban
from tests.integration.escalation_support import Template, until, whole_city_in
from tests.integration.partitions_support import (
    FOUR,
    WARDS,
    accept,
    change,
    city_with_backlog,
    ignore,
    kept,
    rows,
    until_recorded,
)
from tests.servers import new_database, new_redis
from tests.unit.intake.sample import body


@pytest.mark.parametrize(("stored", "told"), [(FOUR, 1), (1, FOUR)])
async def test_another_number_than_the_stored_one_is_refused_in_one_line(
    template: Template, tmp_path: Path, stored: int, told: int
) -> None:
    async with whole_city_in(template, partitions=stored, keys=tmp_path) as city:
        pass
    again = kept(city.settings)
    said = f"TRUCBAN_PARTITIONS is {told}, and the events of this city have {stored}.*trucban partitions {told}$"
    with pytest.raises(PartitionsError, match=said):
        async with whole_city_in(template, partitions=told, **again):
            pass
    async with whole_city_in(template, partitions=stored, **again):
        pass


async def test_a_city_from_before_the_number_was_stored_keeps_all_partitions_that_it_wrote_to(
    template: Template, tmp_path: Path
) -> None:
    async with whole_city_in(template, partitions=FOUR, keys=tmp_path) as city:
        await accept(city, "a")
    engine = connect(city.database_url)
    async with engine.begin() as connection:
        for schema in EPOCHS:
            await connection.execute(text(f"DELETE FROM {schema}.epoch"))
    await engine.dispose()
    with pytest.raises(PartitionsError, match="set it to 4 or more"):
        async with whole_city_in(template, partitions=1, **kept(city.settings)):
            pass
    async with whole_city_in(template, partitions=FOUR, **kept(city.settings)):
        pass


async def test_migrate_stores_the_number_for_all_services(template: Template, tmp_path: Path) -> None:
    url = await new_database(template.servers)
    environment = {"REDIS_URL": await new_redis(template.servers), "TRUCBAN_DATA": str(tmp_path)}
    done = await trucban(url, "migrate", **environment, TRUCBAN_PARTITIONS="4")
    assert done.exit_code == 0, done.output
    for schema in EPOCHS:
        assert [tuple(row) for row in await rows(url, f"SELECT number, partitions FROM {schema}.epoch")] == [(1, 4)]
    refused = await trucban(url, "migrate", **environment, TRUCBAN_PARTITIONS="2")
    assert isinstance(refused.exception, PartitionsError)


async def test_who_goes_by_another_number_writes_nothing(template: Template, tmp_path: Path) -> None:
    """A process that ran on while the number was changed, and a command that was told another one."""
    async with whole_city_in(template, partitions=FOUR, keys=tmp_path) as city:
        await city.settle()
        stale = replace(city.services.intake.intake, partitions=1)
        city.services.intake.acceptance.intake = stale
        answer = await city.post("/intake/v1/reports", "desk", json=body())
        assert answer.status_code == 503, answer.text
        wards = tmp_path / "wards.csv"
        wards.write_text("code,valid_from,name,type\n99999,2026-01-01,Mới,xã\n", encoding="utf-8")
        imported = await trucban(city.database_url, "import", "wards", wards)
        assert isinstance(imported.exception, PartitionsError)
    assert await rows(city.database_url, "SELECT * FROM intake.report") == []
    assert await rows(city.database_url, "SELECT * FROM escalation.unit WHERE code = '99999'") == []


async def test_a_backup_brings_its_number_of_partitions_and_begins_an_epoch(template: Template, tmp_path: Path) -> None:
    settings = await city_with_backlog(template, tmp_path / "keys")
    await change(settings, FOUR)
    folder = tmp_path / "backup"
    manifest = await make_backup(str(settings.database_url), settings.keys_dir, folder, ignore)
    elsewhere = settings.model_copy(
        update={
            "database_url": await new_database(template.servers),
            "redis_url": await new_redis(template.servers),
            "keys": tmp_path / "restored",
        }
    )
    await restore_backup(elsewhere, folder, read_backup(folder, ignore), ignore)
    assert manifest.ledger_size == 0
    with pytest.raises(PartitionsError, match="have 4"):
        async with whole_city_in(template, **kept(elsewhere)):
            pass
    async with whole_city_in(template, partitions=FOUR, **kept(elsewhere)) as city:
        await until_recorded(city, 3 * len(WARDS))
        kind = "data.restored"

        async def is_recorded() -> bool:
            return bool(await rows(city.database_url, f"SELECT 1 FROM ledger.entry WHERE kind = '{kind}'"))

        await until(is_recorded, "the restore is in the ledger")
    (entry, *others) = await rows(city.database_url, f"SELECT body FROM ledger.entry WHERE kind = '{kind}'")
    assert not others
    data = json.loads(entry.body)["data"]
    assert data["epoch"] == 3
    assert {(n["service"], n["partition"]) for n in data["streams"]} == {
        (service, n) for service in ("intake", "escalation") for n in range(FOUR)
    }
    assert sum(n["last"] - n["handled"] for n in data["streams"] if n["service"] == "intake") == 3 * len(WARDS)


async def test_the_discarding_of_a_dead_letter_goes_to_a_stream_that_is_read(
    template: Template, tmp_path: Path
) -> None:
    """The letter is of a partition that there is no more."""
    settings = await city_with_backlog(template, tmp_path)
    engine = connect(str(settings.database_url))
    async with engine.begin() as connection:
        letter = 'INSERT INTO ledger.dead_letter ("group", stream, entry_id, digest, body, error, deliveries)'
        values = " VALUES ('ledger', 'trucban.intake.{3}', '1-0', 'ab', '', 'E', 5)"
        await connection.execute(text((letter + values).replace("'ab'", f"'{'ab' * 32}'")))
    await engine.dispose()
    done = await trucban(str(settings.database_url), "dead-letters", "discard", "--all", "--reason", "thử")
    assert done.exit_code == 0, done.output
    query = "SELECT stream FROM intake.outbox WHERE convert_from(body, 'UTF8') LIKE '%dead_letter.discarded%'"
    assert [row.stream for row in await rows(settings.database_url, query)] == [stream_name(INTAKE, 0)]


async def test_a_connection_of_somebody_else_keeps_the_command_away(template: Template, tmp_path: Path) -> None:
    settings = await city_with_backlog(template, tmp_path)
    other = connect(str(settings.database_url), pool_size=1)
    async with other.connect() as connection:
        await connection.execute(text("SELECT 1"))
        with pytest.raises(CommandError, match="1 other sessions use the database"):
            await change(settings, FOUR)
    await other.dispose()


async def test_many_partitions_leave_connections_for_the_work(template: Template, tmp_path: Path) -> None:
    """Each holds a connection of the services that publish."""
    async with whole_city_in(template, partitions=32, keys=tmp_path) as city:
        await accept(city, "a")
        await until_recorded(city, len(WARDS))
        await city.settle()

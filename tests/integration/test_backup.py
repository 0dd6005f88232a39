"""Backup and restore, by the commands that an operator has: all of it comes back, or nothing changes."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import text

from services.cli.backup import make_backup, read_backup, restore_backup
from services.cli.errors import CommandError
from services.escalation.domain.notices.message import LEASE
from shared import messaging
from shared.database import connect
from tests.integration.escalation_support import Template, WholeCity, until, whole_city_in
from tests.servers import new_database, new_redis
from tests.unit.intake.sample import body

COUNTS = {
    "incidents": "SELECT count(*) FROM escalation.incident",
    "reports": "SELECT count(*) FROM intake.report",
    "entries": "SELECT count(*) FROM ledger.entry",
}


def ignore(done: int, total: int) -> None: ...


@pytest.fixture
async def city(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        yield made


async def counts(database_url: str) -> dict[str, int]:
    engine = connect(database_url)
    try:
        async with engine.connect() as connection:
            return {name: await connection.scalar(text(query)) or 0 for name, query in COUNTS.items()}
    finally:
        await engine.dispose()


async def settled(city: WholeCity, reports: int) -> None:
    """Every report is routed, and every event is in the ledger."""

    async def routed() -> bool:
        return (await counts(city.database_url))["incidents"] >= 1 and await in_ledger(city) >= reports

    await until(routed, "all reports are in the ledger")


async def in_ledger(city: WholeCity) -> int:
    engine = connect(city.settings.database_url or "")
    try:
        async with engine.connect() as connection:
            return (
                await connection.scalar(text("SELECT count(*) FROM ledger.entry WHERE kind = 'report.received'")) or 0
            )
    finally:
        await engine.dispose()


async def test_a_backup_under_load_comes_back_whole_and_goes_on(
    city: WholeCity, template: Template, tmp_path: Path
) -> None:
    """Reports arrive while the backup is made. On another machine the restored city routes on, ledger verified."""
    accepted: list[str] = []
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            name = f"load-{len(accepted)}"
            answer = await city.client.post(
                "/intake/v1/reports", json=body(report_id=name), headers=city.bearer("desk")
            )
            assert answer.status_code == 201, answer.text
            accepted.append(name)

    loading = asyncio.create_task(load())
    await until(lambda: _reached(accepted, 5), "some reports are accepted")
    before = set(accepted)
    made = await make_backup(city.database_url, city.settings.keys_dir, tmp_path / "backup", ignore)
    stop.set()
    await loading

    settings = city.settings.model_copy(
        update={
            "database_url": await new_database(template.servers),
            "redis_url": await new_redis(template.servers),
            "keys": tmp_path / "keys",
        }
    )
    manifest = read_backup(tmp_path / "backup", ignore)
    assert manifest == made
    done = await restore_backup(settings, tmp_path / "backup", manifest, ignore)
    assert (done.ledger_size, done.lost) == (made.ledger_size, 0)
    engine = connect(settings.database_url or "")
    async with engine.connect() as connection:
        kept = set((await connection.scalars(text("SELECT report_id FROM intake.report"))).all())
    await engine.dispose()
    assert before <= kept <= set(accepted)

    given = {name: getattr(settings, name) for name in ("database_url", "redis_url", "keys", "data")}
    async with whole_city_in(template, **given) as restored:
        later = await restored.post("/intake/v1/reports", "desk", json=body(report_id="after-the-restore"))
        assert later.status_code == 201, later.text
        await until(lambda: _is_routed(restored, later.json()["receipt"]), "a report after the restore is routed")
        await until(lambda: _all_in_ledger(restored, len(kept) + 1), "what the outboxes held is in the ledger")
        restored.clock.set(restored.clock.now() + LEASE)  # what was being sent at the backup is sent again after that
        await restored.settle()
        export = await restored.get("/ledger/v1/export", "auditor")
        bodies = [json.loads(line).get("body", {}) for line in export.text.splitlines()[1:]]
        (restore,) = (body for body in bodies if body.get("kind") == "vn.trucban.data.restored.v1")
        assert (restore["data"]["who"]["role"], restore["data"]["who"]["means"]) == ("operator", "cli")
        assert (await restored.client.get("/readyz")).status_code == 200


async def _is_routed(city: WholeCity, receipt: str) -> bool:
    """Its incident is known. How many messages of the load still wait for their turn does not matter here."""
    return "incident" in (await city.client.get(f"/intake/v1/receipts/{receipt}")).json()


async def _reached(accepted: list[str], number: int) -> bool:
    return len(accepted) >= number


async def _all_in_ledger(city: WholeCity, reports: int) -> bool:
    return await in_ledger(city) == reports


async def test_a_backup_goes_into_a_new_folder_only(city: WholeCity, tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(CommandError, match="holds something"):
        await make_backup(city.database_url, city.settings.keys_dir, tmp_path, ignore)


@pytest.mark.parametrize("harm", ["cut", "changed", "missing"])
async def test_a_backup_that_was_harmed_is_refused_by_the_name_of_the_file(
    city: WholeCity, tmp_path: Path, harm: str
) -> None:
    made = await make_backup(city.database_url, city.settings.keys_dir, tmp_path / "backup", ignore)
    victim = tmp_path / "backup" / next(table.file.path for table in made.tables if table.rows)
    content = victim.read_bytes()
    if harm == "missing":
        victim.unlink()
    else:
        victim.write_bytes(content[:-1] if harm == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CommandError, match=victim.name):
        read_backup(tmp_path / "backup", ignore)


async def test_a_folder_without_its_manifest_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"backup\.json cannot be read"):
        read_backup(tmp_path, ignore)


async def test_an_installation_is_replaced_only_when_that_is_said_and_nobody_uses_it(
    city: WholeCity, template: Template, tmp_path: Path
) -> None:
    await city.report(body(report_id="first"))
    await settled(city, 1)
    manifest = await make_backup(city.database_url, city.settings.keys_dir, tmp_path / "backup", ignore)
    with pytest.raises(CommandError, match="stop the services first"):
        await restore_backup(city.settings, tmp_path / "backup", manifest, ignore, replace=True)
    other = city.settings.model_copy(
        update={"database_url": await template.clone(), "redis_url": await new_redis(template.servers)}
    )
    assert other.database_url is not None
    before = await counts(other.database_url)
    with pytest.raises(CommandError, match="say --replace"):
        await restore_backup(other, tmp_path / "backup", manifest, ignore)
    assert await counts(other.database_url) == before
    await restore_backup(other, tmp_path / "backup", manifest, ignore, replace=True)
    assert await counts(other.database_url) == await counts(city.database_url)


async def test_a_ledger_that_was_longer_is_not_shortened_unless_that_is_said(
    city: WholeCity, template: Template, tmp_path: Path
) -> None:
    await city.report(body(report_id="first"))
    await settled(city, 1)
    manifest = await make_backup(city.database_url, city.settings.keys_dir, tmp_path / "backup", ignore)
    await city.report(body(report_id="second", occurred_at="2023-01-21T23:59:00+07:00"))
    await until(lambda: _all_in_ledger(city, 2), "the ledger goes on")
    known = (await city.client.get("/ledger/v1/checkpoint")).text
    other = city.settings.model_copy(
        update={
            "database_url": await new_database(template.servers),
            "redis_url": await new_redis(template.servers),
            "keys": tmp_path / "keys",
        }
    )
    with pytest.raises(CommandError, match="--lose-entries"):
        await restore_backup(other, tmp_path / "backup", manifest, ignore, known=known)
    assert not (tmp_path / "keys").exists(), "nothing was changed"
    done = await restore_backup(other, tmp_path / "backup", manifest, ignore, known=known, lose_entries=True)
    assert done.lost == int(known.splitlines()[1]) - manifest.ledger_size > 0
    forged = known.replace(known.splitlines()[1], "999999", 1)
    with pytest.raises(CommandError, match="--known is not of the ledger"):
        await restore_backup(other, tmp_path / "backup", manifest, ignore, known=forged, replace=True)
    renamed = other.model_copy(update={"ledger_origin": "khac.example/ledger"})
    with pytest.raises(CommandError, match=r"backup's checkpoint is not of .* but of 'trucban.local/ledger' .*ORIGIN"):
        await restore_backup(renamed, tmp_path / "backup", manifest, ignore, replace=True)


async def test_what_the_broker_held_is_gone_after_a_restore(
    city: WholeCity, template: Template, tmp_path: Path
) -> None:
    manifest = await make_backup(city.database_url, city.settings.keys_dir, tmp_path / "backup", ignore)
    redis_url = await new_redis(template.servers)
    redis = messaging.connect(redis_url)
    try:
        await redis.xadd("trucban.intake.{0}", {"__data__": "of another life"})
        await redis.set("somebody else's", "stays")
        other = city.settings.model_copy(
            update={
                "database_url": await new_database(template.servers),
                "redis_url": redis_url,
                "keys": tmp_path / "k",
            }
        )
        await restore_backup(other, tmp_path / "backup", manifest, ignore)
        assert await redis.keys("*") == [b"somebody else's"]
    finally:
        await redis.aclose()

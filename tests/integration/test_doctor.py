"""`trucban doctor`: what is wrong with an installation, beside a database and a Redis that are real."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from typer.testing import Result

from services.cli.doctor.servers import check_servers
from services.cli.embedded import Servers
from services.cli.infrastructure import migrate_all
from shared.settings import Settings
from tests.integration.cli_support import trucban, trucban_process
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.integration.stored.arranging import sample_directory_again
from tests.servers import new_database, new_redis

MAIL = "mailto://mail.thanhhoa.vn?from=truc@thanhhoa.vn&to=rieng@thanhhoa.vn"
WELL = {
    "TRUCBAN_DESK_CHANNEL": MAIL,
    "TRUCBAN_LEADERSHIP_CHANNEL": MAIL,
    "TRUCBAN_PUBLIC_URL": "https://truc-ban.thanhhoa.vn",
    "TRUCBAN_DESK_TELEPHONE": "0237 385 0000",
}


@pytest.fixture
async def settings(servers: Servers, tmp_path: Path) -> Settings:
    """An installation that was migrated, and has no directory yet."""
    given = {"database_url": await new_database(servers), "redis_url": await new_redis(servers)}
    made = Settings().model_copy(update=given | {"data": tmp_path, "keys": None})
    await migrate_all(made)
    return made


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        yield made


async def doctor(house: WholeCity, folder: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Result:
    for name, value in (WELL | environment).items():
        monkeypatch.setenv(name, value)
    return await trucban(house.database_url, "doctor", "--data", folder, "--json")


def whats(done: Result) -> set[str]:
    return {finding["what"] for finding in json.loads(done.stdout)["findings"]}


async def test_an_installation_without_wards_takes_no_reports(settings: Settings) -> None:
    assert [found.what for found in await check_servers(settings)] == ["wards"]


async def test_a_server_that_does_not_answer_is_one_finding_and_the_other_is_asked(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/x"})
    (found,) = await check_servers(away)
    assert (found.check, found.what) == ("database", "PostgreSQL")
    *_, found = await check_servers(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"}))
    assert (found.check, found.what) == ("broker", "Redis")


async def test_schemas_of_another_version_are_named_and_nothing_else_is_asked_of_them(
    servers: Servers, settings: Settings
) -> None:
    empty = settings.model_copy(update={"database_url": await new_database(servers)})
    found = await check_servers(empty)
    assert [each.what for each in found] == ["schema intake", "schema escalation", "schema ledger"]
    assert {each.way_out for each in found} == {"run trucban migrate"}


async def test_a_city_is_told_what_is_wrong_and_what_to_do(
    house: WholeCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sample_directory_again(house)
    wrong = {"TRUCBAN_DESK_CHANEL": "x", "TRUCBAN_PUBLIC_URL": "http://127.0.0.1:8080"}
    done = await doctor(house, tmp_path, monkeypatch, **wrong)
    assert done.exit_code == 1
    assert {"TRUCBAN_DESK_CHANEL", "TRUCBAN_PUBLIC_URL"} <= whats(done)
    assert "post chair" in whats(done), "Đông Hải has had none since 2023"
    assert "rieng" not in done.output
    assert json.loads(done.stdout)["goes_to"]["desk"] == "mailto://…@thanhhoa.vn"


async def test_a_folder_without_a_system_is_said_so(tmp_path: Path) -> None:
    done = await trucban_process("doctor", "--data", tmp_path)
    assert done.returncode == 1
    assert f"database: {tmp_path}: there is no system here: start it: trucban up --no-sample" in done.stdout
    assert done.stdout.startswith(
        "desk: outbox://desk\nleadership: outbox://leadership\nlinks: http://127.0.0.1:8080\n"
    )

"""`trucban rulebook`: a file is checked against what is adopted, and tried on what was decided; nothing is changed."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from services.cli.errors import CommandError
from services.escalation.application.adopt_rulebooks import adopt_rulebooks
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.rules.rulebook import read
from services.escalation.store import decisions as store
from shared.events import Harm
from tests.integration.cli_support import trucban, trucban_process
from tests.integration.escalation_support import City
from tests.integration.stored.arranging import replace_inputs
from tests.integration.stored.looking import decisions_as_stored, only
from tests.integration.stored.records import Decision
from tests.support import BA_DINH, DONG_THO, NGOC_TRAO, NIGHT, RULEBOOK, RULEBOOKS, received

FIRE_LOSS = Harm(deaths=0, injured=0, property_vnd=200_000_000)


def book(folder: Path, *changes: tuple[str, str], name: str = "moi.yaml") -> Path:
    """The rulebook with some of its text replaced, under a version of its own."""
    text = RULEBOOK.text
    for old, new in (('version: "2023-01-06.1"', 'version: "moi"'), *changes):
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# --- check ---


async def test_a_good_file_can_be_adopted_and_says_which_adopted_versions_it_stands_beside(
    city: City, tmp_path: Path
) -> None:
    file = book(tmp_path, ("valid_from: 2023-01-06T", "valid_from: 2030-01-01T"))
    done = await trucban(city.database_url, "rulebook", "check", file)
    assert done.exit_code == 0
    assert done.stdout == f"{file}: rulebook moi can be adopted, 2 warnings\n"
    line = RULEBOOK.text[: RULEBOOK.text.index("valid_from")].count("\n") + 1
    assert f"{file}:{line}: warning: valid_from: in force beside 2023-01-06.1 from 2030-01-01 00:00" in done.stderr


async def test_every_problem_is_a_line_of_its_own_and_the_command_fails(city: City, tmp_path: Path) -> None:
    file = book(tmp_path, ("radius_m: 300", "radius_m: 0"), ("requires: either", "requires: any"))
    done = await trucban(city.database_url, "rulebook", "check", file)
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 2
    assert ": serious_limb.requires: " in done.stderr
    assert ": correlation.radius_m: " in done.stderr
    assert done.stdout == f"{file}: 2 problems\n"


async def test_for_machines_it_is_json(city: City, tmp_path: Path) -> None:
    done = await trucban(city.database_url, "rulebook", "check", book(tmp_path, ("  FIRE: {", "  FLOOD: {")), "--json")
    found = orjson.loads(done.stdout)
    assert (done.exit_code, found["ok"], found["version"]) == (1, False, "moi")
    assert [p["place"] for p in found["problems"]] == ["categories", "categories.FLOOD"]
    assert all(set(w) == {"line", "place", "detail"} for w in found["warnings"])


async def test_a_version_that_this_city_has_adopted_cannot_be_changed(city: City, tmp_path: Path) -> None:
    """One that does not come with the program: it is known from the database alone."""
    file = book(tmp_path)
    assert await adopt_rulebooks(city.escalation, [read(file.read_bytes())]) == 1
    assert (await trucban(city.database_url, "rulebook", "check", file)).exit_code == 0
    book(tmp_path, ("radius_m: 300", "radius_m: 301"))
    done = await trucban(city.database_url, "rulebook", "check", file)
    assert done.exit_code == 1
    assert "moi was adopted with another content" in done.stderr


async def test_without_a_system_it_is_checked_against_the_versions_that_come_with_the_program(tmp_path: Path) -> None:
    file = RULEBOOKS / "2023-01-06.1.yaml"
    done = await trucban_process("rulebook", "check", file, "--data", tmp_path / "khong-co")
    assert done.returncode == 0, done.stderr
    assert "in force beside 2023-01-06 from" in done.stderr
    assert not (tmp_path / "khong-co").exists()


async def test_a_file_that_is_not_there_is_named(city: City) -> None:
    done = await trucban(city.database_url, "rulebook", "check", "khong-co.yaml")
    assert isinstance(done.exception, CommandError)
    assert "khong-co.yaml cannot be read" in str(done.exception)


# --- try ---


@pytest.fixture
async def decided(city: City) -> City:
    """A fire with a loss of 200 million and firecrackers, and a fire of ten days before."""
    for event in (
        received("FIRE", unit=DONG_THO, occurred_at=NIGHT - timedelta(days=10), kind="officer", harm=FIRE_LOSS),
        received("FIRE", unit=BA_DINH),
        received("FIRE", unit=BA_DINH, kind="officer", harm=FIRE_LOSS),
        received(unit=NGOC_TRAO),
    ):
        city.clock.set(event.data.received_at)
        await route_reports(city.escalation, [event])
    return city


async def tried(city: City, *arguments: str | Path) -> dict[str, object]:
    done = await trucban(city.database_url, "rulebook", "try", *arguments, "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    return orjson.loads(done.stdout)


async def test_the_same_rule_differs_in_nothing(decided: City, tmp_path: Path) -> None:
    found = await tried(decided, book(tmp_path))
    assert (found["incidents"], found["differ"], found["differences"]) == (3, 0, [])


async def test_what_would_have_been_decided_otherwise_is_shown_old_and_new(decided: City, tmp_path: Path) -> None:
    file = book(tmp_path, ("minimum_severity: 2", "minimum_severity: 3"))
    before = await decisions_as_stored(decided)
    found = await tried(decided, file)
    assert (found["version"], found["incidents"], found["differ"]) == ("moi", 3, 2)
    differences = found["differences"]
    assert isinstance(differences, list)
    assert [d["ward"] for d in differences] == [
        {"code": "14758", "name": "Đông Thọ"},
        {"code": "14776", "name": "Ba Đình"},
    ]
    for difference in differences:
        assert difference["by"] == "2023-01-06.1"
        assert (difference["old"]["outcome"], difference["old"]["limb"]) == ("applies", "serious")
        assert (difference["new"]["outcome"], difference["new"]["limb"]) == ("does_not_apply", None)
    assert before == await decisions_as_stored(decided)
    done = await trucban(decided.database_url, "rulebook", "try", file)
    assert done.exit_code == 0, "a difference is what was asked for, and no failure"
    *lines, last = done.stdout.splitlines()
    assert [" Đông Thọ " in lines[0], " Ba Đình " in lines[1], len(lines)] == [True, True, 2]
    assert "applies (serious), severity 2, 15 min → does_not_apply, severity 2, 15 min" in lines[0]
    assert last == "2 of 3 incidents would have been decided differently under moi"


@pytest.mark.parametrize("since", ["2023-01-20", "2023-01-21T16:49:59+00:00", "2023-01-21T23:49"])
async def test_since_leaves_out_what_was_opened_before(decided: City, tmp_path: Path, since: str) -> None:
    file = book(tmp_path, ("minimum_severity: 2", "minimum_severity: 3"))
    found = await tried(decided, file, "--since", since)
    assert (found["incidents"], found["differ"]) == (2, 1)


async def test_incidents_are_read_in_chunks_and_none_is_left_out(
    decided: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE", 1)
    found = await tried(decided, book(tmp_path, ("review_minutes: 30", "review_minutes: 31")))
    assert (found["incidents"], found["differ"]) == (3, 3)


async def test_a_decision_that_cannot_be_read_is_named_and_fails(decided: City, tmp_path: Path) -> None:
    await replace_inputs(decided, (await only(decided, Decision, number=2)).decision_id, {})
    done = await trucban(decided.database_url, "rulebook", "try", book(tmp_path))
    assert done.exit_code == 1
    assert "cannot be read: trucban decisions replay " in done.stderr


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("radius_m: 300", "radius_m: 0"), "correlation.radius_m: "),
        (("  FIRE: {", "  FLOOD: {"), "FIRE (Fire) is missing"),
        (("radius_m: 300", "radius_m: 300\n  radius_m: 301"), "correlation.radius_m: is there already"),
        (('version: "moi"', 'version: "2023-01-06.1"  # khác'), "2023-01-06.1 was adopted with another content"),
    ],
    ids=str,
)
async def test_what_cannot_be_adopted_is_not_tried(
    decided: City, tmp_path: Path, change: tuple[str, str], problem: str
) -> None:
    done = await trucban(decided.database_url, "rulebook", "try", book(tmp_path, change))
    assert done.exit_code == 1
    assert problem in done.stderr
    assert "differently" not in done.stdout
    told = await trucban(decided.database_url, "rulebook", "try", book(tmp_path, change), "--json")
    assert (told.exit_code, orjson.loads(told.stdout)["ok"]) == (1, False)


async def test_where_nothing_was_reported_it_says_so(city: City, tmp_path: Path) -> None:
    done = await trucban(city.database_url, "rulebook", "try", book(tmp_path), "--since", "2030-01-01")
    assert (done.exit_code, done.stdout) == (0, "there are no incidents since 2030-01-01 00:00: nothing was tried\n")


@pytest.mark.parametrize("since", ["hôm qua", "2023-13-01", "0001-01-01T00:00:00+14:00"])
async def test_a_time_that_is_none_is_a_mistake_of_usage(city: City, tmp_path: Path, since: str) -> None:
    done = await trucban(city.database_url, "rulebook", "try", book(tmp_path), "--since", since)
    assert done.exit_code == 2
    assert "is no time" in done.stderr

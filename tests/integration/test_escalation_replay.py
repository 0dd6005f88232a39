"""Replay from the command line and over HTTP: one function, every decision, each difference named."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from httpx import ASGITransport, AsyncClient

from services.cli.errors import CommandError
from services.cli.infrastructure import infrastructure
from services.escalation.api import decisions as routes
from services.escalation.api.rights import RIGHTS
from services.escalation.application.route_reports import route_reports
from services.escalation.store import decisions as store
from shared.database import migrate
from shared.events import Harm
from shared.http.identity import Principal, issuer, verifier
from shared.http.web import service_app
from shared.settings import Settings
from tests.integration.cli_support import trucban, trucban_process
from tests.integration.escalation_support import City
from tests.integration.stored.arranging import alter_record, forget_rulebooks, replace_inputs, without_decisions
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Decision
from tests.support import BA_DINH, DONG_THO, NGOC_TRAO, NIGHT, passable_folder, received

REPLAY = ("decisions", "replay")
NONE = "there are no decisions: nothing was computed again\n"


@pytest.fixture
async def decided(city: City) -> City:
    """Four incidents with five decisions: one was confirmed by an officer."""
    for event in (
        received(unit=BA_DINH),
        received(unit=BA_DINH, kind="officer", subject="cb-07", harm=Harm(deaths=1)),
        received("FIRE", unit=DONG_THO),
        received(unit=NGOC_TRAO, exercise=True),
        received("TRAFFIC_ACCIDENT", unit=NGOC_TRAO, occurred_at=NIGHT - timedelta(days=30)),
    ):
        await route_reports(city.escalation, [event])
    assert len(await stored(city, Decision)) == 5
    return city


async def test_all_decisions_come_out_the_same(decided: City) -> None:
    done = await trucban(decided.database_url, *REPLAY, "--all")
    assert (done.exit_code, done.stdout) == (0, "5 decisions computed again, 0 differ\n")


async def test_where_nothing_was_decided_it_says_so_and_a_machine_is_told_nought(city: City) -> None:
    done = await trucban(city.database_url, *REPLAY, "--all")
    assert (done.exit_code, done.stdout) == (0, NONE)
    told = await trucban(city.database_url, *REPLAY, "--all", "--json")
    assert (told.exit_code, orjson.loads(told.stdout)["decisions"]) == (0, 0)


async def test_they_are_read_in_chunks_and_none_is_left_out(decided: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAGE", 2)
    done = await trucban(decided.database_url, *REPLAY, "--all", "--json")
    assert orjson.loads(done.stdout) == {"decisions": 5, "differ": 0, "differing": []}


async def test_a_decision_that_was_changed_behind_our_back_is_named_with_what_was_changed(decided: City) -> None:
    two, one = '"severity":2', '"severity":1'
    (changed,) = (d.decision_id for d in await stored(decided, Decision) if two.encode() in d.record)
    await alter_record(decided, changed, two, one)
    done = await trucban(decided.database_url, *REPLAY, "--all")
    assert done.exit_code == 1
    assert done.stderr == f"decision {changed}: severity: recorded 1, computed 2\n"
    assert done.stdout == "5 decisions computed again, 1 differ\n"
    alone = await trucban(decided.database_url, *REPLAY, changed, "--json")
    assert alone.exit_code == 1
    assert orjson.loads(alone.stdout)["differing"] == [
        {"decision_id": changed, "differences": ["severity: recorded 1, computed 2"]}
    ]


async def test_inputs_that_were_changed_and_a_rulebook_that_is_gone_are_named_too(decided: City) -> None:
    second = await only(decided, Decision, number=2)
    await replace_inputs(decided, second.decision_id, {**second.inputs, "unit": None})
    done = await trucban(decided.database_url, *REPLAY, "--all")
    assert done.exit_code == 1
    assert "the stored inputs cannot be read: unit: " in done.stderr
    await forget_rulebooks(decided)
    done = await trucban(decided.database_url, *REPLAY, "--all")
    assert done.stdout == "5 decisions computed again, 4 differ\n", "one was made before there was any rulebook"


async def test_one_decision_is_replayed_by_its_id(decided: City) -> None:
    (first, *_) = await stored(decided, Decision)
    done = await trucban(decided.database_url, *REPLAY, first.decision_id)
    assert (done.exit_code, done.stdout) == (0, "1 decisions computed again, 0 differ\n")
    unknown = await trucban(decided.database_url, *REPLAY, "khong-co")
    assert isinstance(unknown.exception, CommandError)
    assert "there is no decision khong-co" in str(unknown.exception)


@pytest.mark.parametrize("arguments", [(), ("x", "--all")])
async def test_it_is_either_one_or_all(city: City, arguments: tuple[str, ...]) -> None:
    done = await trucban(city.database_url, *REPLAY, *arguments)
    assert done.exit_code == 2
    assert "give the ID of one decision, or --all" in done.stderr


async def test_a_database_without_the_tables_says_what_to_do(city: City) -> None:
    async with without_decisions(city):
        done = await trucban(city.database_url, *REPLAY, "--all")
    assert isinstance(done.exception, CommandError)
    assert "trucban migrate" in str(done.exception)


async def test_it_works_beside_a_running_system_and_says_so_where_there_is_none() -> None:
    with passable_folder("replay") as folder:
        none = await trucban_process(*REPLAY, "--all", "--data", folder / "khac")
        assert none.returncode == 1
        assert f"there is no system in {folder / 'khac'}" in none.stderr
        assert not (folder / "khac").exists(), "looking made nothing"
        async with infrastructure(Settings().model_copy(update={"data": folder})) as ready:
            assert ready.database_url is not None
            await migrate(ready.database_url, "escalation")
            done = await trucban_process(*REPLAY, "--all", "--data", folder)
            assert (done.returncode, done.stdout) == (0, NONE), done.stderr


# --- over HTTP ---


@pytest.fixture
async def client(decided: City, tmp_path: Path) -> AsyncGenerator[AsyncClient]:
    app = service_app("escalation", verifier(tmp_path), routes.router, RIGHTS)
    app.state.escalation = decided.escalation
    token = issuer(tmp_path).issue(Principal("mau", "auditor"))
    headers = {"authorization": f"Bearer {token}"}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://trucban", headers=headers) as made:
        yield made


async def test_over_http_the_differences_are_named_as_well(decided: City, client: AsyncClient) -> None:
    (first, *_) = await stored(decided, Decision)
    path = f"/v1/decisions/{first.decision_id}/replay"
    assert (await client.get(path)).json() == {
        "decision_id": first.decision_id,
        "equal": True,
        "computed": first.said,
        "differences": [],
    }
    await forget_rulebooks(decided)
    answer = (await client.get(path)).json()
    assert (answer["equal"], answer["computed"]) == (False, None)
    assert "is not among the adopted" in answer["differences"][0]

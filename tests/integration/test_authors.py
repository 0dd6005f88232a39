"""Every event that a person caused names them: over all routes, and over the commands that record something."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.authors import BY_NOBODY, BY_PEOPLE, COMMANDS
from tests.integration.answers_support import told_in
from tests.integration.cli_support import trucban
from tests.integration.escalation_support import City, WholeCity
from tests.support import SAMPLES

BY_COMMAND = {"data.restored", "partitions.changed", "dead_letter.discarded", "credential.issued"}
"""Tested with their commands, some of which need a stopped city or a dead letter."""
ELSEWHERE = {"contact.confirmed", "incident.corrected", "incident.escalated", "posting.recorded"}
"""Not of that night: what every command writes is tested in `test_escalation_commands.py`, a link that confirms in
`test_contact_tests.py`, a posting in `test_postings.py`."""
Kinds = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
async def recorded(house: WholeCity) -> Kinds:
    """The data of all entries of a night on which every route was asked, by kind."""
    async for answer in told_in(house):
        assert answer.response.status_code < 500, answer.name
    test = await house.post("/escalation/v1/contact-tests", "admin", json={})
    assert test.status_code < 300, test.text
    ending = {"subject": "mau-14776-chu-tich", "reason": "mất điện thoại"}
    ended = await house.post("/escalation/v1/credentials/revocations", "admin", json=ending)
    assert ended.status_code == 200, ended.text
    await house.settle()
    found: Kinds = defaultdict(list)
    for row in await house.rows("SELECT kind, body FROM ledger.entry ORDER BY idx"):
        found[row.kind].append(orjson.loads(row.body)["data"])
    return found


def test_what_only_people_cause_names_somebody(recorded: Kinds) -> None:
    assert BY_PEOPLE - BY_COMMAND - ELSEWHERE - recorded.keys() == set()
    nameless = {kind for kind in BY_PEOPLE for data in recorded.get(kind, ()) if not data.get("who")}
    assert nameless == set()


def test_what_fell_due_or_was_sent_names_nobody(recorded: Kinds) -> None:
    named = {kind for kind in BY_NOBODY for data in recorded.get(kind, ()) if data.get("who")}
    assert named == set()


def test_a_report_names_whoever_sent_it_by_pseudonym_and_a_device_is_nobody(recorded: Kinds) -> None:
    reports = recorded["report.received"]
    assert {data["from_source"]["kind"] for data in reports} == {"officer", "device", "desk"}
    for data in reports:
        source = data["from_source"]
        sender = {"subject": source["subject"], "role": source["kind"], "means": "api"}
        assert data.get("who") == (None if source["kind"] == "device" else sender)


@pytest.mark.parametrize("name", ["wards", "directory"])
async def test_an_import_names_the_operator(city: City, tmp_path: Path, name: str) -> None:
    await city.run("DELETE FROM escalation.outbox")
    await city.run("DELETE FROM escalation.rulebook")
    for table in ("tenure", "roster", "contact", *(["unit"] if name == "wards" else [])):
        await city.run(f"DELETE FROM escalation.{table}")
    done = await trucban(city.database_url, "import", name, SAMPLES / f"{name}.csv", "--data", tmp_path)
    assert done.exit_code == 0, done.output
    events = await city.events()
    kinds = {event.type.removeprefix("vn.trucban.").rpartition(".")[0] for event in events}
    assert kinds & set(COMMANDS[f"import {name}"])
    assert {event.data.who.role if event.data.who else None for event in events} == {"operator"}

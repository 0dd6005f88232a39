"""`trucban dead-letters`: an event that a service could not handle is handled after all, or given up on the record."""

import json
from collections.abc import AsyncGenerator
from hashlib import sha256
from typing import Any

import orjson
import pytest
from sqlalchemy import MetaData, insert
from typer.testing import Result

from shared import messaging
from shared.database import SERVICES, connect
from shared.events import encode
from shared.messaging import INTAKE, dead_letter_table
from tests.integration.cli_support import trucban
from tests.integration.escalation_support import Template, WholeCity, until, whole_city_in
from tests.integration.outages import refused
from tests.support import received

STREAM = messaging.stream_name(INTAKE, 0)
SECRET = "Nguyễn Văn A"


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        yield made


async def letters(house: WholeCity) -> list[dict[str, Any]]:
    return json.loads((await command(house, "list", "--json")).stdout.splitlines()[-1])


async def command(house: WholeCity, *arguments: str, code: int = 0) -> Result:
    done = await trucban(house.database_url, "dead-letters", *arguments)
    assert done.exit_code == code, (done.output, done.exception)
    return done


async def died(house: WholeCity, body: bytes, service: str = "escalation") -> str:
    """A dead letter of the service; its name."""
    await bury(house.database_url, body, service)
    return (await letters(house))[-1]["letter"]


async def bury(database_url: str, body: bytes, service: str) -> None:
    row = {
        "group": service,
        "stream": STREAM,
        "entry_id": "7-0",
        "digest": sha256(body).hexdigest(),
        "body": body,
        "error": "DBAPIError 22012 at x.py:1",
        "deliveries": 5,
    }
    engine = connect(database_url, pool_size=1)
    async with engine.begin() as connection:
        await connection.execute(insert(dead_letter_table(MetaData(schema=service))).values(row))
    await engine.dispose()


async def test_a_list_names_the_event_and_nothing_that_it_says(house: WholeCity) -> None:
    event = received()
    name = await died(house, encode(event))
    broken = await died(house, f'{{"type": "x", "words": "{SECRET}"}}'.encode(), "ledger")
    shown = {letter["letter"]: letter for letter in await letters(house)}
    assert shown[name]["event_id"] == event.id
    assert (shown[name]["event_type"], shown[name]["deliveries"]) == ("vn.trucban.report.received.v1", 5)
    assert shown[broken]["event_id"] is None
    lines = (await command(house, "list")).stdout
    assert event.id in lines
    assert SECRET not in lines + json.dumps(shown)
    await command(house, "discard", "--all", "--reason", "dọn")


@pytest.mark.parametrize("service", ["escalation", "ledger", "intake"])
async def test_what_is_handled_after_all_is_no_dead_letter_any_more(house: WholeCity, service: str) -> None:
    event = received()
    name = await died(house, encode(event), service)
    assert "1 dead letters" in (await command(house, "list")).stdout
    done = await command(house, "retry", name, "--wait", "60")
    assert "0 failed again, 0 wait" in done.stdout
    assert await letters(house) == []
    if service == "escalation":
        assert await house.one("SELECT count(*) FROM escalation.report WHERE event_id = :id", id=event.id) == 1
    if service == "ledger":
        assert await house.one("SELECT count(*) FROM ledger.entry WHERE event_id = :id", id=event.id) == 1


async def test_what_the_group_has_after_all_is_not_done_twice(house: WholeCity) -> None:
    event = received()
    for _ in range(2):
        name = await died(house, encode(event))
        await command(house, "retry", name, "--wait", "60")
    assert await house.one("SELECT count(*) FROM escalation.report WHERE event_id = :id", id=event.id) == 1


async def test_what_fails_again_stays_with_its_new_error(house: WholeCity) -> None:
    name = await died(house, encode(received()))
    async with refused(house, "escalation.report", "22023"):
        done = await command(house, "retry", "--all", "--wait", "60", code=1)
    assert "1 failed again" in done.stdout
    (letter,) = await letters(house)
    assert letter["error"].startswith("DBAPIError 22023 at ")
    assert (letter["deliveries"], letter["retry_asked"]) == (1, False)
    await command(house, "retry", name, "--wait", "60")


async def test_an_outage_is_no_failure_of_a_retry(house: WholeCity) -> None:
    name = await died(house, encode(received()))
    async with refused(house, "escalation.report", "53100"):
        done = await command(house, "retry", name, "--wait", "1")
        assert "0 failed again, 1 wait" in done.stdout
        assert [letter["retry_asked"] for letter in await letters(house)] == [True]
    await until(lambda: _are_gone(house), "handled once there is room again")


async def test_a_retry_waits_for_a_service_that_does_not_run(template: Template) -> None:
    database_url = await template.clone()
    await bury(database_url, encode(received()), "escalation")
    done = await trucban(database_url, "dead-letters", "retry", "--all", "--wait", "0")
    assert (done.exit_code, "1 wait for their service to run" in done.stdout) == (0, True)
    listed = await trucban(database_url, "dead-letters", "list")
    assert "to be retried" in listed.stdout


async def test_what_is_no_event_is_discarded_and_not_retried(house: WholeCity) -> None:
    name = await died(house, SECRET.encode())
    refusal = await command(house, "retry", name, code=1)
    assert f"{name} is no event that this version knows" in str(refusal.exception)
    await command(house, "discard", name, "--reason", "không phải sự kiện")
    assert await letters(house) == []


async def test_a_letter_that_there_is_not_is_named(house: WholeCity) -> None:
    refusal = await command(house, "discard", "escalation/999999", "--reason", "x", code=1)
    assert "there is no dead letter escalation/999999" in str(refusal.exception)
    await command(house, "retry", code=2)
    await command(house, "discard", "escalation/1", "--reason", " ", code=2)


@pytest.mark.parametrize("service", SERVICES)
async def test_who_discards_is_in_the_ledger_with_the_reason_and_without_the_event(
    house: WholeCity, service: str
) -> None:
    event = received()
    body = encode(event)
    name = await died(house, body, service)
    ready = (await house.get("/readyz")).json()["checks"]
    (check,) = (c for c in ready if c["name"] == f"{service}.dead_letters")
    assert "trucban dead-letters list" in check["detail"]
    done = await command(house, "discard", name, "--reason", f"của {SECRET}", "--by", "kỹ sư trực")
    assert "1 discarded" in done.stdout
    assert await letters(house) == []
    await house.settle()
    kept = "SELECT body FROM ledger.entry WHERE kind = :kind ORDER BY idx DESC LIMIT 1"
    entry = orjson.loads(await house.one(kept, kind="dead_letter.discarded"))
    assert entry["cause"] == event.id
    assert entry["ward"] == "14776"
    assert entry["data"] == {
        "cause": event.id,
        "unit": event.data.unit.model_dump(mode="json") if event.data.unit else None,
        "officials": [],
        "group": service,
        "stream": STREAM,
        "event_type": event.type,
        "digest": sha256(body).hexdigest(),
        "author": "kỹ sư trực",
        "who": {"subject": "kỹ sư trực", "role": "operator", "means": "cli"},
    }
    assert entry["commit"].keys() == {"reason"}


async def _are_gone(house: WholeCity) -> bool:
    return not await letters(house)

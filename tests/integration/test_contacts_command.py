"""`trucban contacts` beside a running system: what it prints, and the exit codes that a script goes by."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from typer.testing import Result

from services.cli.doctor.servers import check_servers
from services.cli.process import Server
from shared.http.identity import Principal
from tests.integration.cli_support import trucban
from tests.integration.escalation_support import Template, WholeCity, until, whole_city_in
from tests.support import at

MORNING = at("2023-01-21 09:00")
CHAIR_HERE, SECRETARY_HERE = "mau-14776-chu-tich", "mau-14776-bi-thu"
ADMIN = Principal("mau-admin", "admin")


@dataclass
class Office:
    city: WholeCity
    url: str

    async def run(self, *arguments: str, caller: Principal = ADMIN) -> Result:
        token = self.city.tokens.issue(caller)
        return await trucban("", "contacts", *arguments, "--url", self.url, "--token", token)

    async def confirm(self, holder: str) -> None:
        body = [line["body"] for line in self.city.sent if line["recipient"] == holder][-1]
        (link,) = re.findall(r"https?://[^/]+(/escalation/v1/links/\S+)", body)
        assert (await self.city.client.post(link)).status_code == 200


@pytest.fixture
async def office(template: Template) -> AsyncGenerator[Office]:
    async with whole_city_in(template, MORNING) as city:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = Server(uvicorn.Config(city.app, log_level="critical", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[sock]))

        async def answers() -> bool:
            return server.started

        await until(answers, "the server answers")
        yield Office(city, f"http://127.0.0.1:{sock.getsockname()[1]}")
        server.should_exit = True
        await task


def said_by(done: Result) -> dict[str, Any]:
    """Its line: the services of this process write their log to the same place."""
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


async def test_a_ward_is_tested_and_the_list_says_who_has_not_confirmed(office: Office) -> None:
    done = await office.run("test", "--ward", "P. Ba Đình")
    assert done.exit_code == 0, done.output
    assert "test messages: 2 of 2 sent" in done.stdout
    assert "2 not_confirmed" in done.stdout
    await office.confirm(CHAIR_HERE)
    listed = await office.run("list")
    assert listed.exit_code == 1
    named = [line.split()[0] for line in listed.stdout.splitlines() if line.startswith("mau-")]
    assert named == [SECRETARY_HERE], "the log of this process's services comes between the lines"
    assert "phường Ba Đình  outbox  not_confirmed" in listed.stdout
    await office.confirm(SECRETARY_HERE)
    assert (await office.run("list")).exit_code == 0


async def test_machines_get_json_and_nothing_else(office: Office) -> None:
    done = await office.run("test", "--ward", "14776", "--json")
    test = said_by(done)
    assert (done.exit_code, test["outcomes"]) == (0, {"not_confirmed": 2})
    assert "test messages" not in done.stdout
    assert said_by(await office.run("list", test["id"], "--json")) == test


async def test_who_has_no_channel_ends_it_with_one(office: Office) -> None:
    body = {"rows": [{"holder_id": CHAIR_HERE, "channel": None}]}
    headers = office.city.bearer("admin")
    await office.city.client.put("/escalation/v1/directory/contacts", headers=headers, json=body)
    done = await office.run("test", "--ward", "14776")
    assert done.exit_code == 1
    assert f"{CHAIR_HERE}  Chủ tịch UBND phường Ba Đình (mẫu)  chair phường Ba Đình  -  no_channel" in done.stdout


async def test_at_night_it_ends_at_once_and_a_second_one_is_told_of_the_first(office: Office) -> None:
    office.city.clock.set(at("2023-01-21 23:00"))
    done = await office.run("test", "--ward", "14776")
    assert (done.exit_code, "2 waiting" in done.stdout) == (0, True)
    assert "waiting (not before 2023-01-22T06:00+07:00)" in (await office.run("list")).stdout, "the city's time"
    second = await office.run("test")
    assert second.exit_code == 1
    assert "still runs: 2 messages wait, 2 of them until 06:00 22/01, when quiet hours end" in str(second.exception)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("test", "--ward", "Ba Din"), "is not exactly one ward"), (("list",), "there was no test yet")],
    ids=["no such ward", "no test yet"],
)
async def test_a_refusal_is_one_line(office: Office, arguments: tuple[str, ...], says: str) -> None:
    done = await office.run(*arguments)
    assert (done.exit_code, says in str(done.exception)) == (1, True)


async def test_who_may_not_is_told_so(office: Office) -> None:
    done = await office.run("test", caller=Principal("mau", "auditor"))
    assert "role auditor may not do this" in str(done.exception)


async def test_the_doctor_names_wards_where_nobody_has_confirmed(office: Office) -> None:
    async def unnamed() -> list[int]:
        """How many wards it counts beside the five that it names."""
        settings = office.city.settings.model_copy(update={"clock": office.city.clock.now()})
        said = [each.value for each in await check_servers(settings) if each.check == "contacts"]
        return [int(found) for value in said for found in re.findall(r"and (\d+) more$", value)]

    assert await unnamed() == [], "a sample that was never tested"
    await office.run("test", "--ward", "14776")
    (before,) = await unnamed()
    await office.confirm(CHAIR_HERE)
    assert await unnamed() == [before - 1]
    office.city.clock.set(MORNING + timedelta(days=31))
    assert await unnamed() == [before]

"""What the servers refuse for a while: nothing becomes a dead letter, and every route says when to try again."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute, iter_route_contexts
from httpx import Response
from redis.exceptions import RedisError
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from services.cli.embedded import Servers
from shared import messaging
from shared.database import connect
from shared.http.identity import Principal
from shared.messaging import is_transient
from tests.integration.escalation_support import Template, WholeCity, whole_city_in
from tests.integration.messaging_support import Event, Seen, World, body, new_world, own_redis
from tests.integration.outages import refused, run
from tests.servers import administer
from tests.support import CHAIR
from tests.support import body as report_body

CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
FULL = "53100"
SLOW = "57014"
HELD = "55P03"


@pytest_asyncio.fixture(loop_scope="session")
async def world(servers: Servers) -> AsyncGenerator[World]:
    async with new_world(servers) as made:
        yield made


# --- consumers ---


async def test_a_statement_that_takes_too_long_makes_no_dead_letter(world: World) -> None:
    seen, failed = Seen(), 0

    async def handle(events: Sequence[Event]) -> None:
        nonlocal failed
        async with world.engine.begin() as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 20"))
            if failed < 4:  # more often than an event may be delivered
                failed += 1
                await connection.execute(text("SELECT pg_sleep(60)"))
        await seen.handle(events)

    await world.emit(*range(20))
    async with world.relay().running(), world.consumer(handle).running():
        await world.drained()
    assert failed == 4
    assert seen.order == list(range(20))
    assert not await world.dead_rows()


@pytest.mark.parametrize("kind", [asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError])
async def test_a_session_that_ends_while_it_begins_is_an_outage(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    async def lost(*_: object) -> None:
        raise kind("connection was closed in the middle of operation")

    monkeypatch.setattr(asyncpg.Connection, "execute", lost)
    engine = connect(servers.database_url)
    with pytest.raises(DBAPIError) as raised:
        async with engine.connect():
            pass
    await engine.dispose()
    assert is_transient(raised.value)


async def test_a_copy_fails_as_an_insert_does(world: World) -> None:
    """A constraint, a full disk, a connection that is lost: SQLAlchemy's errors, with PostgreSQL's code."""
    await world.emit(1)
    with pytest.raises(IntegrityError) as taken:
        await world.emit(1)
    assert not is_transient(taken.value)
    async with refused(world, world.outbox.rows.fullname, FULL):
        with pytest.raises(DBAPIError) as full:
            await world.emit(2)
    assert (type(full.value), is_transient(full.value)) == (DBAPIError, True)
    async with world.engine.connect() as connection:
        await messaging.add(connection, world.outbox, [messaging.Outgoing("a", world.stream, body(3))])
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        await run(world, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(DBAPIError) as lost:
            await messaging.add(connection, world.outbox, [messaging.Outgoing("b", world.stream, body(4))])
        assert is_transient(lost.value)
    await world.emit(5)


# --- Redis ---


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own(servers: Servers) -> AsyncGenerator[Servers]:
    async with own_redis(servers) as running:
        yield running


REFUSALS = {
    "OOM": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "SET key value"),
    "OOM in a script": (
        "CONFIG SET maxmemory 1",
        "CONFIG SET maxmemory 0",
        ("EVAL", "return redis.call('SET', KEYS[1], 'value')", "1", "key"),
    ),
    "READONLY": ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "SET key value"),
    "MASTERDOWN": (
        "REPLICAOF 127.0.0.1 1|CONFIG SET replica-serve-stale-data no",
        "REPLICAOF NO ONE|CONFIG SET replica-serve-stale-data yes",
        "GET key",
    ),
    "NOREPLICAS": ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "SET key value"),
    "NOPERM": ("ACL SETUSER trucban -set", "ACL SETUSER trucban +set", "SET key value"),
    "NOGROUP": ("PING", "PING", "XREADGROUP GROUP none me COUNT 1 STREAMS none >"),
    "WRONGTYPE": ("SET key value", "DEL key", "XADD key * field value"),
    "NOSCRIPT": ("PING", "PING", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_redis_refuses_for_its_state_is_waited_out(own: Servers, name: str) -> None:
    provoke, mend, command = REFUSALS[name]
    redis = messaging.connect(own.redis_url)
    given = command if isinstance(command, tuple) else command.split()
    try:
        for step in provoke.split("|"):
            await redis.execute_command(*step.split())
        try:
            with pytest.raises(RedisError) as caught:
                await redis.execute_command(*given)
        finally:
            for step in mend.split("|"):
                await redis.execute_command(*step.split())
        assert is_transient(caught.value), repr(caught.value)
    finally:
        await redis.aclose()


async def test_a_command_that_redis_does_not_have_is_not_waited_for(own: Servers) -> None:
    redis = messaging.connect(own.redis_url)
    with pytest.raises(RedisError) as caught:
        await redis.execute_command("NEVERHEARD")
    await redis.aclose()
    assert not is_transient(caught.value)


# --- routes ---


@pytest.fixture(scope="module")
async def house(template: Template) -> AsyncGenerator[WholeCity]:
    async with whole_city_in(template) as made:
        yield made


def says_when_to_come_again(answer: Response) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert "send the same again" in answer.json()["detail"]


async def incident_of(house: WholeCity, hour: int) -> str:
    """An incident of its own hour, so that no other test's is taken for the same."""
    return await house.report(report_body(occurred_at=f"2023-01-21T{hour}:10:00+07:00"))


@pytest.mark.parametrize(("hour", "sqlstate"), list(enumerate([FULL, SLOW, HELD, "53200", "40P01", "57P01"], 10)))
async def test_an_acknowledgement_that_cannot_be_written_now_is_taken_later(
    house: WholeCity, hour: int, sqlstate: str
) -> None:
    incident = await incident_of(house, hour)
    path = f"/escalation/v1/incidents/{incident}/acknowledgements"
    async with refused(house, "escalation.outbox", sqlstate):
        says_when_to_come_again(await house.post(path, CHAIR_HERE))
    assert (await house.post(path, CHAIR_HERE)).status_code == 201


async def test_what_the_database_refuses_for_good_is_no_503(house: WholeCity) -> None:
    incident = await incident_of(house, 20)
    async with refused(house, "escalation.outbox", "22012"):
        answer = await house.post(f"/escalation/v1/incidents/{incident}/acknowledgements", CHAIR_HERE)
    assert answer.status_code == 500
    assert "retry-after" not in answer.headers


async def test_a_report_that_cannot_be_written_now_is_taken_later(house: WholeCity) -> None:
    sent = report_body()
    async with refused(house, "intake.outbox", FULL):
        refusal = await house.post("/intake/v1/reports", "desk", json=sent)
    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "1")
    assert (await house.post("/intake/v1/reports", "desk", json=sent)).status_code == 201


async def test_a_table_that_is_not_there_yet_has_to_be_mended(house: WholeCity) -> None:
    await run(house, "ALTER TABLE ledger.entry RENAME TO entry_away")
    try:
        answer = await house.get("/ledger/v1/entries", "auditor")
    finally:
        await run(house, "ALTER TABLE ledger.entry_away RENAME TO entry")
    says_when_to_come_again(answer)
    assert "has to be mended" in answer.json()["detail"]


async def test_no_route_of_any_service_answers_500_while_the_database_is_away(template: Template) -> None:
    async with whole_city_in(template) as city:
        name = make_url(city.database_url).database
        await administer(template.servers, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        await administer(template.servers, cut)
        answers = {
            f"{method} {path}": await city.client.request(method, path, **more) for method, path, more in asked(city)
        }
        await administer(template.servers, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert len(answers) > 30
        away = {route: answer for route, answer in answers.items() if answer.status_code == 503}
        assert len(away) > 15, {route: answer.status_code for route, answer in answers.items()}
        for route, answer in away.items():
            assert "retry-after" in answer.headers, route
        assert {answer.status_code for answer in answers.values()} <= {200, 401, 403, 404, 410, 422, 503}


def asked(city: WholeCity) -> Sequence[tuple[str, str, dict[str, Any]]]:
    """Every route with each role, so that one may use it, and a body that most of them take."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    said: dict[str, Any] = {"reason": "Đã kiểm tra", "into": "x", "reports": ["x"], "prominent": True, "rows": []}
    for service in city.services:
        for route in iter_route_contexts(service.app.routes):
            if not isinstance(route.original_route, APIRoute) or str(route.path) in ("/v1/stream", "/readyz"):
                continue
            path = str(route.path)
            for name in ("incident_id", "decision_id", "version", "receipt", "notice_id"):
                path = path.replace(f"{{{name}}}", "x")
            path = path.replace("{index}", "0")
            for method in route.methods or ():
                for role in ("desk", "admin", "auditor"):
                    more: dict[str, Any] = {"headers": city.bearer(role)}
                    if method in ("POST", "PUT"):
                        more["json"] = said if service.name != "intake" else report_body()
                    found.append((method, f"/{service.name}{path}?as={role}", more))
    return found

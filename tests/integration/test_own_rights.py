"""Each service works with rights of its own: its schema, its streams, and nothing that would undo the ledger."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
from redis.exceptions import NoPermissionError
from sqlalchemy import MetaData, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from shared import messaging
from shared.database import SERVICES, connect
from shared.http.identity import Principal
from shared.messaging import ESCALATION, INTAKE, Outgoing, outbox_tables, sqlstate_of
from shared.roles import role_of
from tests.integration.escalation_support import Template, WholeCity, until, whole_city_in
from tests.integration.messaging_support import append_signed
from tests.servers import new_redis
from tests.support import body

FORBIDDEN = "42501"
STREAMS = {**messaging.streams(INTAKE, 1), **messaging.streams(ESCALATION, 1)}
OUTBOXES = [outbox_tables(MetaData(schema=service)) for service in ("intake", "escalation")]


def role_url(database_url: str, service: str) -> str:
    return make_url(database_url).set(username=role_of(service)).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
async def city(template: Template) -> AsyncGenerator[WholeCity]:
    """A city whose services have their own roles and users."""
    database_url, redis_url = await template.clone(), await new_redis(template.servers)
    owner, place = messaging.connect(redis_url), redis_url.rpartition("@")[2]
    users = {service: f"{service}-{uuid4().hex}" for service in SERVICES}
    for service, user in users.items():
        await owner.execute_command("ACL", "SETUSER", user, "on", ">secret", *messaging.rules_of(service).split())
    of_services = {
        service: {"database_url": role_url(database_url, service), "redis_url": f"unix://{user}:secret@{place}"}
        for service, user in users.items()
    }
    try:
        more: dict[str, Any] = {"database_url": database_url, "redis_url": redis_url, "of_services": of_services}
        async with whole_city_in(template, **more) as made:
            yield made
    finally:
        await owner.execute_command("ACL", "DELUSER", *users.values())
        await owner.aclose()


async def settle(city: WholeCity) -> None:
    owner, redis = connect(city.database_url, pool_size=1), messaging.connect(str(city.settings.redis_url))
    try:
        await messaging.wait_drained(redis, [(owner, outbox) for outbox in OUTBOXES], STREAMS, 30)
    finally:
        await redis.aclose()
        await owner.dispose()


async def entries(city: WholeCity) -> int:
    engine = connect(role_url(city.database_url, "ledger"), pool_size=1)
    try:
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT count(*) FROM ledger.entry")) or 0
    finally:
        await engine.dispose()


async def report(city: WholeCity) -> dict[str, Any]:
    headers = city.bearer(Principal("cb-1", "officer", "14776")) | {"prefer": "wait=10"}
    answer = await city.client.post("/intake/v1/reports", json=body(), headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def failing(city: WholeCity) -> set[str]:
    answer = await city.client.get("/readyz")
    return {check["name"] for check in answer.json()["checks"] if not check["ok"]}


async def test_a_report_goes_its_whole_way_also_after_redis_lost_all(city: WholeCity) -> None:
    first = await report(city)
    assert first["incident"]["outcome"] == "new"
    await settle(city)
    before = await entries(city)
    redis = messaging.connect(str(city.settings.redis_url))
    await redis.flushdb()
    assert (await report(city))["incident"]["id"] == first["incident"]["id"]
    await redis.xtrim(messaging.stream_name(ESCALATION, 0), maxlen=0, approximate=False)
    await settle(city)
    await redis.aclose()
    assert await entries(city) > before
    assert not await failing(city)


@pytest.mark.parametrize("broker_is_away", [False, True])
async def test_a_revoked_token_is_refused_by_each_service(city: WholeCity, broker_is_away: bool) -> None:
    learning = [city.services.intake.learning.following, city.services.ledger.learning.following]
    kept = [each.stream_failure for each in learning]
    token = city.tokens.issue(Principal("truc-ban-mat-the", "desk"))
    try:
        for each in learning if broker_is_away else ():
            each.stream_failure = lambda: "the broker is away"
        said = {"token": token, "reason": "mất thẻ"}
        answer = await city.post("/escalation/v1/credentials/revocations", "admin", json=said)
        assert answer.status_code == 200, answer.text
        await until(lambda: _is_refused(city, token), "every service refuses it")
        assert [each.health_failure() for each in learning] == [None, None]
    finally:
        for each, failure in zip(learning, kept, strict=True):
            each.stream_failure = failure


async def _is_refused(city: WholeCity, token: str) -> bool:
    headers = {"authorization": f"Bearer {token}"}
    paths = ("/intake/v1/reports", "/escalation/v1/incidents", "/ledger/v1/entries")
    return {(await city.client.get(path, headers=headers)).status_code for path in paths} == {401}


async def test_what_cannot_be_handled_becomes_a_dead_letter_of_each_service(city: WholeCity) -> None:
    owner = connect(city.database_url, pool_size=1)
    outgoing = [Outgoing(uuid4().hex, messaging.stream_name(INTAKE, 0), b'{"no": "event"}')]
    async with owner.begin() as connection:
        await messaging.add(connection, OUTBOXES[0], outgoing)
    await owner.dispose()
    expected = {"escalation.dead_letters", "ledger.dead_letters"}
    await until(lambda: _equals(city, expected), "both say so")
    await settle(city)


async def test_a_forged_entry_is_refused_and_the_stream_emptied(city: WholeCity) -> None:
    redis = messaging.connect(str(city.settings.redis_url))
    wrong = messaging.Seals({ESCALATION: b"wrong"})
    await append_signed(redis, wrong, messaging.stream_name(ESCALATION, 0), 10**9, b"{}")
    await until(lambda: _is_own(redis), "its relay empties the stream")
    await report(city)
    await settle(city)
    await redis.aclose()


async def _equals(city: WholeCity, expected: set[str]) -> bool:
    return await failing(city) == expected


async def _is_own(redis: messaging.Client) -> bool:
    state = await redis.stream(
        messaging.stream_name(ESCALATION, 0), STREAMS[messaging.stream_name(ESCALATION, 0)]
    ).state()
    return state.last_number < 10**9


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "ALTER TABLE ledger.entry DISABLE TRIGGER ALL",
        "DROP TRIGGER written_once ON ledger.entry",
        "CREATE OR REPLACE FUNCTION ledger.refuse() RETURNS trigger LANGUAGE sql AS ''",
        "TRUNCATE ledger.entry",
        "DROP SCHEMA ledger CASCADE",
        "CREATE TABLE ledger.more (a int)",
        "UPDATE ledger.alembic_version SET version_num = '0'",
        "SET ROLE trucban",
        "CREATE ROLE another SUPERUSER",
        "SELECT count(*) FROM intake.reporter",
        "SELECT count(*) FROM escalation.credential",
        "UPDATE escalation.revocation SET credential = ''",
        "DELETE FROM escalation.revocation",
        "INSERT INTO escalation.outbox (event_id, stream, number, body) VALUES ('a', 'b', 1, '')",
        "UPDATE ledger.entry SET body = ''",
        "DELETE FROM ledger.entry",
    ],
)
async def test_the_ledgers_role_cannot_get_round_what_keeps_the_ledger(city: WholeCity, statement: str) -> None:
    engine = connect(role_url(city.database_url, "ledger"), pool_size=1)
    try:
        with pytest.raises(DBAPIError) as refused:
            async with engine.begin() as connection:
                await connection.execute(text(statement))
        assert sqlstate_of(refused.value) == FORBIDDEN
    finally:
        await engine.dispose()


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
        ("GET", "trucban.intake.{0}"),
        ("SET", "somebody else's", "x"),
        ("XADD", "another.stream", "*", "a", "b"),
        ("PUBLISH", "trucban.rows.escalation.outbox", ""),
    ],
)
async def test_intakes_user_works_on_the_streams_alone(city: WholeCity, command: tuple[str, ...]) -> None:
    redis = messaging.connect(str(city.settings.of("intake").redis_url))
    try:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*command)
    finally:
        await redis.aclose()

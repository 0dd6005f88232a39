"""Readiness, on real servers: each service proves its job, and says what it cannot do."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import Table, text
from sqlalchemy.exc import DBAPIError

from services.cli.embedded import Servers
from services.escalation.store import tables as escalation
from services.intake import store as intake
from services.ledger.store import tables as ledger
from shared import messaging, probe
from shared.database import connect
from shared.probe import commit_nothing
from tests.integration.escalation_support import Template, WholeCity, until, whole_city_in
from tests.servers import new_redis

METADATA = {"intake": intake.metadata, "escalation": escalation.metadata, "ledger": ledger.metadata}


@pytest.fixture
async def city(template: Template, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[WholeCity]:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.5)
    async with whole_city_in(template) as made:
        await until(lambda: _is_ready(made), "all services are ready")
        yield made


async def _failing(city: WholeCity) -> set[str]:
    answer = await city.client.get("/readyz")
    failing = {c["name"] for c in answer.json()["checks"] if not c["ok"]}
    assert (answer.status_code == 200) == (not failing)
    return failing


async def _is_ready(city: WholeCity) -> bool:
    return not await _failing(city)


@pytest.mark.parametrize(
    ("service", "locked"),
    [("intake", intake.report), ("escalation", escalation.incident), ("ledger", ledger.metadata.sorted_tables[0])],
)
async def test_a_service_whose_table_nobody_can_write_is_not_ready_without_any_report(
    city: WholeCity, service: str, locked: Table
) -> None:
    engine = connect(city.database_url)

    async def reported() -> bool:
        return f"{service}.database" in await _failing(city)

    try:
        async with engine.begin() as other:
            await other.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await other.execute(text(f"LOCK TABLE {locked.fullname} IN SHARE MODE"))  # as CREATE INDEX does
            await until(reported, f"{service} says that it cannot write")
        await until(lambda: _is_ready(city), "ready again once the lock is gone")
    finally:
        await engine.dispose()


async def test_a_broker_that_takes_no_writes_is_reported_by_all_without_any_event(
    template: Template, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.5)
    redis_url = await new_redis(servers)
    redis, user = Redis.from_url(redis_url), f"city-{uuid4().hex}"
    await redis.execute_command("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all")
    path = redis_url.rpartition("@")[2]
    try:
        async with whole_city_in(template, redis_url=f"unix://{user}:secret@{path}") as city:

            async def reported() -> bool:
                return {f"{service}.broker" for service in METADATA} <= await _failing(city)

            await until(lambda: _is_ready(city), "all services are ready")
            await redis.execute_command("ACL", "SETUSER", user, "-set")
            await until(reported, "all say that the broker takes no writes")
            await redis.execute_command("ACL", "SETUSER", user, "+set")
            await until(lambda: _is_ready(city), "ready again")
    finally:
        await redis.execute_command("ACL", "DELUSER", user)
        await redis.aclose()


@pytest.mark.parametrize("service", METADATA)
async def test_a_probe_leaves_nothing_behind(template: Template, service: str) -> None:
    engine = connect(await template.clone())
    relations = text("SELECT count(*) FROM pg_class")
    sizes = text(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
        " WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind = 'r'"
    )
    try:
        async with engine.connect() as reader:
            before = await reader.scalar(relations), await reader.scalar(sizes, {"schema": service})
        for _ in range(3):
            await commit_nothing(engine, METADATA[service])
        async with engine.connect() as reader:
            assert (await reader.scalar(relations), await reader.scalar(sizes, {"schema": service})) == before
    finally:
        await engine.dispose()


async def test_a_probe_needs_a_database_that_takes_writes(template: Template) -> None:
    engine = connect(await template.clone())
    try:
        async with engine.connect() as session:
            name = await session.scalar(text("SELECT current_database()"))
            await session.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
            await session.commit()
        await engine.dispose()
        with pytest.raises(DBAPIError):
            await commit_nothing(engine, intake.metadata)
    finally:
        await engine.dispose()


async def test_readiness_answers_while_the_database_hangs(city: WholeCity) -> None:
    """A lock on what the watch reads holds up the check itself."""
    engine = connect(city.database_url)
    try:
        async with engine.begin() as other:
            await other.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await other.execute(text("LOCK TABLE escalation.incident IN ACCESS EXCLUSIVE MODE"))
            async with asyncio.timeout(25):
                failing = await _failing(city)
                assert any(name.startswith("escalation.") for name in failing), failing
    finally:
        await engine.dispose()
    await until(lambda: _is_ready(city), "ready again")


async def test_the_broker_probe_overwrites_one_key(city: WholeCity) -> None:
    assert city.settings.redis_url is not None
    client = messaging.connect(city.settings.redis_url)
    try:
        keys = await client.dbsize()
        await client.write_nothing()
        await client.write_nothing()
        assert await client.dbsize() <= keys + 1
    finally:
        await client.aclose()

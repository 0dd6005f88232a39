"""`trucban partitions`: nothing is lost, wards keep their order, and a killed command ends right the next time."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.cli.errors import CommandError
from services.cli.partitions import EPOCHS, OUTBOXES, Changed, change_partitions_of
from services.cli.stopped import stopped_city
from shared import messaging
from shared.clock import Clock
from shared.database import connect
from shared.messaging import (
    INTAKE,
    BrokerError,
    Outgoing,
    PartitionsError,
    Relay,
    begin_epoch,
    move_rows,
    route,
    settle_partitions,
    stream_name,
    streams,
)
from shared.operator import operator
from tests.integration.cli_support import trucban
from tests.integration.escalation_support import Template, WholeCity, until, whole_city_in
from tests.integration.killing import mortal_process
from tests.integration.partitions_support import (
    FOUR,
    NOWHERE,
    WARDS,
    accept,
    change,
    changes,
    city_with_backlog,
    kept,
    ledger_order,
    rows,
    state,
    until_recorded,
)
from tests.unit.intake.sample import UNITS


async def test_no_event_is_lost_and_each_ward_keeps_its_order(template: Template, tmp_path: Path) -> None:
    """From 1 to 4 with events that nobody has read, to 3 with others, to 1 with none; reports come in between."""
    settings = await city_with_backlog(template, tmp_path)
    url = settings.database_url
    done = await change(settings, FOUR)
    assert (done.before, done.after, done.epoch) == (1, FOUR, 2)
    assert done.moved >= 3 * len(WARDS)
    async with whole_city_in(template, partitions=FOUR, **kept(settings)) as city:
        await accept(city, "d")
        await until_recorded(city, 4 * len(WARDS))
        await until(lambda: is_ready(city), "the city is ready")
    async with whole_city_in(template, partitions=FOUR, **kept(settings, redis_url=NOWHERE)) as city:
        await accept(city, "e")
    assert (await change(settings, 3)).epoch == 3
    async with whole_city_in(template, partitions=3, **kept(settings)) as city:
        await accept(city, "f")
        await until_recorded(city, 6 * len(WARDS))
        await city.settle()
    assert (await change(settings, 1)).epoch == 4
    async with whole_city_in(template, **kept(settings)) as city:
        await accept(city, "g")
        await until_recorded(city, 7 * len(WARDS))
        await city.settle()
    assert await ledger_order(url) == {ward: [f"{ward}-{name}" for name in "abcdefg"] for ward in WARDS}
    routed = await rows(url, "SELECT count(*) FROM escalation.report")
    assert routed[0][0] == 7 * len(WARDS)
    said = await changes(url)
    assert [(each["before"], each["after"], each["epoch"]) for each in said] == [(1, 4, 2), (4, 3, 3), (3, 1, 4)]
    assert {each["author"] for each in said} == {"người trực máy"}
    assert {each["who"]["subject"] for each in said} == {"người trực máy"}
    for each in said:
        for service in ("intake", "escalation"):
            of_service = [numbers for numbers in each["streams"] if numbers["service"] == service]
            owed = sum(numbers["last"] - numbers["handled"] for numbers in of_service)
            assert owed == sum(numbers["moved"] for numbers in of_service)
    await numbers_account_for_every_entry(url, said)


async def is_ready(city: WholeCity) -> bool:
    return (await city.client.get("/readyz")).status_code == 200


async def numbers_account_for_every_entry(url: str | None, said: Sequence[dict[str, Any]]) -> None:
    """Whoever has the ledger can count: each number that was given is an entry, but for those of events that moved."""
    from_escalation = "kind NOT IN ('report.received')"
    for service, where in (("intake", f"NOT {from_escalation}"), ("escalation", from_escalation)):
        (found,) = await rows(url, f"SELECT count(*) FROM ledger.entry WHERE {where}")
        (given,) = await rows(url, f"SELECT sum(assigned) FROM {service}.outbox_stream")
        moved = sum(n["moved"] for each in said for n in each["streams"] if n["service"] == service)
        assert found[0] == given[0] - moved


async def test_a_second_change_to_the_same_number_does_nothing(template: Template, tmp_path: Path) -> None:
    settings = await city_with_backlog(template, tmp_path)
    await change(settings, FOUR)
    before = await state(settings.database_url)
    assert await change(settings, FOUR) == Changed(FOUR, FOUR, 2, 0)
    assert await state(settings.database_url) == before


async def test_a_change_that_is_killed_anywhere_is_done_or_not_and_ends_right_when_it_is_run_again(
    template: Template, tmp_path: Path
) -> None:
    settings = await city_with_backlog(template, tmp_path)
    url, redis_url = str(settings.database_url), str(settings.redis_url)
    untouched, deaths, done = await state(url), 0, False
    found = untouched
    async with mortal_process(url, Clock()) as (process, escalation):
        while not done and found == untouched:
            process.arm(deaths + 1)
            done = await process.does(lambda e: change_partitions_of(e, redis_url, FOUR, operator("a")), escalation)
            await nobody_in(template, url)
            deaths += not done
            found = await state(url)
    assert deaths > 10
    assert not done, "one death was after the commit"
    process.arm(0)
    assert (await change(settings, FOUR)) == Changed(FOUR, FOUR, 2, 0)
    assert await state(url) == found
    async with whole_city_in(template, partitions=FOUR, **kept(settings)) as city:
        await until_recorded(city, 3 * len(WARDS))
    assert len(await changes(url)) == 1
    assert await ledger_order(url) == {ward: [f"{ward}-{name}" for name in "abc"] for ward in WARDS}


async def nobody_in(template: Template, url: str) -> None:
    """The sessions of who was killed are gone."""
    admin = connect(template.servers.database_url, pool_size=1)
    sessions = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND backend_type = 'client backend'")

    async def gone() -> bool:
        async with admin.connect() as connection:
            return not await connection.scalar(sessions, {"name": make_url(url).database})

    await until(gone, "the sessions end")
    await admin.dispose()


async def test_with_redis_away_nothing_is_changed(template: Template, tmp_path: Path) -> None:
    settings = await city_with_backlog(template, tmp_path)
    before = await state(settings.database_url)
    with pytest.raises((BrokerError, OSError)):
        await change(settings.model_copy(update={"redis_url": NOWHERE}), FOUR)
    assert await state(settings.database_url) == before


async def test_it_is_refused_while_a_service_runs(template: Template, tmp_path: Path) -> None:
    async with whole_city_in(template, keys=tmp_path) as city:
        with pytest.raises(CommandError, match="stop the services first"):
            await change(city.settings, FOUR)


async def test_a_service_that_starts_meanwhile_waits_and_sees_the_new_number(
    template: Template, tmp_path: Path
) -> None:
    settings = await city_with_backlog(template, tmp_path)
    url = str(settings.database_url)
    mine, theirs = connect(url, pool_size=1), connect(url, pool_size=1)
    outbox = OUTBOXES[INTAKE]
    async with stopped_city(mine) as connection:
        start = asyncio.create_task(settle_partitions(theirs, outbox.epochs, 1, outbox.streams))
        await until(lambda: waits_for_lock(template, url), "the service waits")
        await begin_epoch(connection, list(EPOCHS.values()), FOUR)
    with pytest.raises(PartitionsError, match="have 4"):
        await start
    await mine.dispose()
    await theirs.dispose()


async def waits_for_lock(template: Template, url: str) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
    return bool(await rows(template.servers.database_url, f"{waiting}'{make_url(url).database}'"))


async def test_the_command_says_what_it_did(template: Template, tmp_path: Path) -> None:
    settings = await city_with_backlog(template, tmp_path)
    url, more = str(settings.database_url), {"REDIS_URL": str(settings.redis_url), "TRUCBAN_DATA": str(tmp_path)}
    done = await trucban(url, "partitions", "4", "--json", **more)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["before"], told["after"], told["epoch"]) == (1, 4, 2)
    again = await trucban(url, "partitions", "4", **more)
    assert "4 partitions already" in again.output
    assert (await trucban(url, "partitions", "0", **more)).exit_code == 2
    assert (await trucban(url, "partitions", "65", **more)).exit_code == 2
    assert "Example: trucban partitions 4" in (await trucban(url, "partitions", "--help")).output


@pytest.fixture
async def outbox_engine(template: Template) -> AsyncGenerator[AsyncEngine]:
    engine = connect(await template.clone())
    yield engine
    await engine.dispose()


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1), (5, 3), (3, 5)])
async def test_rows_of_many_wards_keep_their_order_under_numbers_without_a_gap(
    outbox_engine: AsyncEngine, before: int, after: int
) -> None:
    outbox, random = OUTBOXES[INTAKE], Random(before * after)
    wards = ["", *(unit.code for unit in UNITS)]
    sent: dict[str, list[str]] = defaultdict(list)
    for step in range(60):
        ward = random.choice(wards)
        data = {"unit": {"code": ward}} if ward else {}
        content = json.dumps({"data": data, "words": "\u0000Ba Đình"}).encode()
        event = Outgoing(f"{step}", route(INTAKE, ward, before), content)
        sent[ward].append(event.event_id)
        async with outbox_engine.begin() as connection:
            await messaging.add(connection, outbox, [event])
    async with outbox_engine.begin() as connection:
        told = await move_rows(connection, outbox, INTAKE, after)
    async with outbox_engine.connect() as connection:
        moved = (await connection.execute(outbox.rows.select().order_by("stream", "number"))).all()
        last = {name: assigned for name, assigned, _ in await connection.execute(outbox.streams.select())}
    found: dict[str, list[str]] = defaultdict(list)
    numbers: dict[str, list[int]] = defaultdict(list)
    for row in moved:
        ward = json.loads(row.body)["data"].get("unit", {"code": ""})["code"]
        assert row.stream == route(INTAKE, ward, after)
        found[ward].append(row.event_id)
        numbers[row.stream].append(row.number)
    assert found == sent
    assert sum(each.moved for each in told) == sum(each.last - each.handled for each in told) == 60
    for each in told:
        expected = list(range(each.last + 1, each.last + each.moved + 1))
        assert numbers[each.stream] == expected
        assert last[each.stream] == each.last + each.moved
    assert [each.partition for each in told] == list(range(max(before, after)))


async def test_what_a_redis_that_is_set_back_still_holds_is_not_read_again(template: Template, tmp_path: Path) -> None:
    """Read from its old stream, an event could pass one of the same ward that waits in the new one."""
    settings = await city_with_backlog(template, tmp_path)
    old = await rows(settings.database_url, "SELECT number, body FROM intake.outbox ORDER BY number")
    await change(settings, FOUR)
    redis, engine = messaging.connect(str(settings.redis_url)), connect(str(settings.database_url))
    first = stream_name(INTAKE, 0)
    for row in old:
        await redis.xadd(first, {"__data__": row.body}, id=f"{row.number}-0")
    outbox = OUTBOXES[INTAKE]
    moved = f"SELECT number FROM intake.outbox WHERE stream = '{first}' ORDER BY number"
    expected = [row.number for row in await rows(settings.database_url, moved)]
    assert min(expected) > max(row.number for row in old)

    async def holds_the_new_ones() -> bool:
        entries: Any = await redis.xrange(first)
        return [int(id_.partition(b"-")[0]) for id_, _ in entries] == expected

    async with Relay(engine, redis, outbox, streams(INTAKE, FOUR), messaging.seals(tmp_path)).running():
        await until(holds_the_new_ones, "the stream holds what belongs to it")
    await redis.aclose()
    await engine.dispose()

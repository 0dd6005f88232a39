"""Somebody holds a ward: a process that is frozen in a transaction, or a long import. The other wards go on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date

from sqlalchemy import select, text

from services.escalation.application import commands
from services.escalation.application.route_reports import route_reports
from services.escalation.store import correlation
from services.escalation.store.tables import incident
from shared.events import ReportReceived, UnitRef
from tests.integration.command_support import DESK, WHY, reported
from tests.integration.directory_changes import end_unit
from tests.integration.escalation_support import City, Template, WholeCity, until, whole_city_in
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Incident, Report
from tests.support import BA_DINH, DONG_THO, NGOC_TRAO, at, body, received

SUCCESSOR = UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Mẫu")
WAITING = "SELECT 1 FROM intake.report WHERE routed IS NULL"


@asynccontextmanager
async def locked(city: City, *codes: str) -> AsyncGenerator[None]:
    """By another process."""
    async with city.another() as other, other.escalation.database.begin() as connection:
        await correlation.lock_units(connection, codes)
        yield


@asynccontextmanager
async def with_incidents_locked(city: City) -> AsyncGenerator[None]:
    """By another process, all there are."""
    async with city.another() as other, other.escalation.database.begin() as connection:
        await connection.execute(select(incident).with_for_update())
        yield


async def routed(city: City) -> list[str]:
    return [report.report_id for report in await stored(city, Report)]


async def test_reports_of_a_locked_ward_are_left_and_the_others_routed(city: City) -> None:
    here, there = received(unit=BA_DINH), received(unit=DONG_THO)
    async with locked(city, BA_DINH.code):
        left = await route_reports(city.escalation, [here, there])
        assert left is not None
        assert (left.events, left.why) == ([here], "another transaction has locked ward 14776")
        assert await routed(city) == [there.data.report_id]
        assert await route_reports(city.escalation, [here]), "still"
    assert await route_reports(city.escalation, [here, there]) is None
    assert len(await routed(city)) == 2


async def test_reports_of_a_ward_with_a_locked_incident_are_left_and_the_others_routed(city: City) -> None:
    assert await route_reports(city.escalation, [received(unit=BA_DINH)]) is None
    here, there = received(unit=BA_DINH), received(unit=DONG_THO)
    async with with_incidents_locked(city):
        left = await route_reports(city.escalation, [here, there])
        assert left is not None
        assert (left.events, left.why) == ([here], "another transaction has locked ward 14776")
        assert there.data.report_id in await routed(city)
        assert here.data.report_id not in await routed(city)
    assert await route_reports(city.escalation, [here, there]) is None
    assert len(await routed(city)) == 3


async def test_an_incident_that_is_locked_for_a_moment_is_waited_for(city: City) -> None:
    assert await route_reports(city.escalation, [received(unit=BA_DINH)]) is None
    async with with_incidents_locked(city):
        routing = asyncio.create_task(route_reports(city.escalation, [received(unit=BA_DINH)]))
        await until(lambda: routes(city), "routing has locked the ward")
    assert await routing is None
    assert len(await routed(city)) == 2


async def test_who_holds_one_incident_and_wants_another_meets_no_deadlock(city: City) -> None:
    """Routing holds the second incident and wants the first. It does not wait for the lock."""
    here, there = (received(unit=unit) for unit in (BA_DINH, DONG_THO))
    assert await route_reports(city.escalation, [here]) is None
    assert await route_reports(city.escalation, [there]) is None
    first, second = sorted(i.incident_id for i in await stored(city, Incident))
    by_id = select(incident.c.incident_id)
    async with city.another() as other, other.escalation.database.begin() as connection:
        await connection.execute(by_id.where(incident.c.incident_id == first).with_for_update())
        routing = asyncio.create_task(
            route_reports(city.escalation, [received(unit=unit) for unit in (BA_DINH, DONG_THO)])
        )
        await until(lambda: is_locked(city, second), "routing has locked the second incident")
        await connection.execute(text("SET LOCAL deadlock_timeout = '1ms'"))
        await connection.execute(by_id.where(incident.c.incident_id == second).with_for_update())
    left = await routing
    assert left is not None
    assert left.why == f"another transaction has locked ward {BA_DINH.code}"


async def routes(city: City) -> bool:
    async with city.escalation.database.connect() as connection:
        wards = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = :class"
        return bool(await connection.scalar(text(wards), {"class": correlation.UNIT_LOCK}))


async def is_locked(city: City, incident_id: str) -> bool:
    async with city.escalation.database.connect() as connection:
        free = select(incident.c.incident_id).where(incident.c.incident_id == incident_id)
        return await connection.scalar(free.with_for_update(skip_locked=True)) is None


async def routed_by(city: City, report: ReportReceived) -> None:
    """However often it is left."""
    left = await route_reports(city.escalation, [report])
    while left is not None:
        left = await route_reports(city.escalation, left.events)


async def test_near_a_succession_a_report_needs_the_ward_before_as_well_and_on_other_days_its_own(city: City) -> None:
    await end_unit(city, [SUCCESSOR])
    after = received(unit=SUCCESSOR, occurred_at=at("2023-01-22 00:03"))
    async with locked(city, BA_DINH.code):
        left = await route_reports(city.escalation, [after])
        assert left is not None
        assert (left.events, left.why) == ([after], "another transaction has locked ward 14776")
        assert (
            await route_reports(city.escalation, [received(unit=SUCCESSOR, occurred_at=at("2023-01-22 01:03"))]) is None
        )
    assert await route_reports(city.escalation, [after]) is None


async def test_two_processes_on_both_sides_of_midnight_make_one_incident(city: City) -> None:
    await end_unit(city, [SUCCESSOR])
    before, after = (
        received(unit=unit, occurred_at=at(when), subject=when)
        for unit, when in ((BA_DINH, "2023-01-21 23:55"), (SUCCESSOR, "2023-01-22 00:03"))
    )
    async with city.another() as other:
        await asyncio.gather(routed_by(city, before), routed_by(other, after))
    assert len({report.incident_id for report in await stored(city, Report)}) == 1


async def test_a_report_waits_for_the_locked_incident_into_which_its_own_was_merged(city: City) -> None:
    """The other's ward is not among those whose locks the report needs, an hour after the succession."""
    await end_unit(city, [SUCCESSOR])
    city.clock.set(at("2023-01-22 01:00"))
    first = await reported(city, received(unit=BA_DINH, occurred_at=at("2023-01-21 23:00")))
    second = await reported(city, received(unit=SUCCESSOR, occurred_at=at("2023-01-22 01:00")))
    await commands.merge(city.escalation, second, DESK, WHY, first)
    late = received(unit=SUCCESSOR, occurred_at=at("2023-01-22 01:00"), subject="cam-bien-2")
    async with with_incidents_locked(city):
        left = await route_reports(city.escalation, [late])
        assert left is not None
        assert left.events == [late]
    assert await reported(city, late) == first


async def test_all_wards_that_are_locked_are_named(city: City) -> None:
    async with locked(city, BA_DINH.code, NGOC_TRAO.code):
        left = await route_reports(city.escalation, [received(unit=u) for u in (BA_DINH, NGOC_TRAO, BA_DINH)])
    assert left is not None
    assert left.why.endswith(f"has locked ward {', '.join(sorted((BA_DINH.code, NGOC_TRAO.code)))}")
    assert len(left.events) == 3


async def test_a_locked_ward_holds_up_no_other_and_goes_on_in_order_once_it_is_free(template: Template) -> None:
    async with whole_city_in(template) as city:
        async with locked(city, BA_DINH.code):
            for ward in ("Ba Đình", "Đông Thọ", "Ba Đình", "Lam Sơn"):
                await sent(city, ward)
            await until(lambda: waits(city, 2), "the others are routed")
        await city.settle()
        assert await waits(city, 0)


async def sent(city: WholeCity, ward: str) -> None:
    assert (await city.post("/intake/v1/reports", "desk", json=body(ward=ward))).status_code == 201


async def waits(city: WholeCity, count: int) -> bool:
    return len(await city.rows(WAITING)) == count

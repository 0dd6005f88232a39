"""Somebody holds a ward: a process that is frozen in a transaction, or a long import. The other wards go on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from services.escalation.application.route_reports import route_reports
from services.escalation.store import incident_loading
from shared.messaging import Left
from tests.integration.escalation_support import City, Template, WholeCity, until, whole_city_in
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Report
from tests.support import BA_DINH, DONG_THO, NGOC_TRAO, body, received

WAITING = "SELECT 1 FROM intake.report WHERE routed IS NULL"


@asynccontextmanager
async def locked(city: City, *codes: str) -> AsyncGenerator[None]:
    """By another process."""
    async with city.another() as other, other.escalation.database.begin() as connection:
        await incident_loading.lock_units(connection, codes)
        yield


async def routed(city: City) -> list[str]:
    return [report.report_id for report in await stored(city, Report)]


async def test_reports_of_a_locked_ward_are_left_and_the_others_routed(city: City) -> None:
    here, there = received(unit=BA_DINH), received(unit=DONG_THO)
    async with locked(city, BA_DINH.code):
        left = await route_reports(city.escalation, [here, there])
        assert left == Left([here], "another transaction has locked ward 14776")
        assert await routed(city) == [there.data.report_id]
        assert await route_reports(city.escalation, [here]), "still"
    assert await route_reports(city.escalation, [here, there]) is None
    assert len(await routed(city)) == 2


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

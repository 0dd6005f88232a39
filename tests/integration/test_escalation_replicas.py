"""Several processes of escalation at once: whose clocks are not quite the same, and who want the same incidents."""

import asyncio
from datetime import timedelta
from typing import Any

from sqlalchemy import event

from services.escalation.application import commands
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.import_directory import import_directory
from services.escalation.application.route_reports import route_reports
from services.escalation.store import incident_loading
from shared.events import ReportReceived
from shared.http.identity import Principal
from tests.integration.escalation_support import City, city_in, decisions_that_differ_when_computed_again, until
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Incident, Report
from tests.support import NIGHT, received

DESK = Principal("mau-truc-ban", "desk")
HOUR = timedelta(hours=1)
HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,document,sample\n"
LATE = "14776,2021-02-01,chair,mau-moi,(mẫu),2023-01-20,QĐ mẫu số 9,true\n"
BEHIND = timedelta(seconds=2)
OF_THE_CITY = "FROM pg_stat_activity WHERE datname = current_database()"


async def test_a_process_whose_clock_is_behind_tells_who_was_just_recorded_by_another(city: City) -> None:
    assert not (await import_directory(city.escalation, (HEAD + LATE).encode())).errors
    async with city_in(city.database_url, NIGHT - BEHIND) as other:
        await route_reports(other.escalation, [received()])
        assert sorted(await other.told()) == ["desk:unreachable", "mau-14776-bi-thu:accountable", "mau-moi:accountable"]
        assert not await decisions_that_differ_when_computed_again(other)


async def test_a_merge_and_a_message_about_what_was_merged_before_wait_for_one_another(city: City) -> None:
    """Whoever needs several incidents takes them in the order of their ids: so nothing deadlocks."""
    engine = city.escalation.database
    first, middle, last = [await reported(city, received(occurred_at=NIGHT - n * HOUR)) for n in (4, 2, 0)]
    await commands.merge(city.escalation, first, DESK, "Một vụ việc", middle)
    async with engine.begin() as connection:
        await incident_loading.locked(connection, [first])
        merging = asyncio.create_task(commands.merge(city.escalation, middle, DESK, "Một vụ việc", last))
        await until(lambda: waits(city), "the merge waits for the first")
        await incident_loading.locked(connection, [middle])
    assert (await merging).is_new
    assert len(await stored(city, Incident, merged_into=last)) == 2


async def test_a_due_time_that_another_process_acted_on_between_look_and_lock_is_passed_once(city: City) -> None:
    await reported(city, received())
    city.clock.set(NIGHT + timedelta(minutes=16))
    async with city.another() as other:
        event.listen(other.escalation.database.sync_engine, "before_cursor_execute", _slowly, retval=True)
        looking = asyncio.create_task(fire_due_timers(other.escalation))
        await until(lambda: sleeps(city), "the other process has looked at what is due")
        assert await fire_due_timers(city.escalation) == 1
        assert await looking == 0
    assert (await city.told()).count("desk:not_acknowledged") == 1


def _slowly(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
    """The claim of what is due takes a while between looking and locking."""
    found = "escalation.incident.incident_id IN (SELECT"
    return statement.replace(f"WHERE {found}", f"WHERE pg_sleep(0.3) IS NOT NULL AND {found}"), parameters


async def sleeps(city: City) -> bool:
    return await city.one(f"SELECT count(*) {OF_THE_CITY} AND wait_event = 'PgSleep'") > 0


async def waits(city: City) -> bool:
    return await city.one(f"SELECT count(*) {OF_THE_CITY} AND wait_event_type = 'Lock'") > 0


async def reported(city: City, report: ReportReceived) -> str:
    await route_reports(city.escalation, [report])
    return (await only(city, Report, report_id=report.data.report_id)).incident_id

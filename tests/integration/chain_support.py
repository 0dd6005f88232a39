"""An incident whose due times pass one by one, and what is stored of it."""

from datetime import datetime, timedelta

from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.http.identity import Principal
from tests.integration.escalation_support import City, events_without_their_cause
from tests.integration.stored.looking import next_due, only, stored
from tests.integration.stored.records import DueTime, Incident
from tests.support import CHAIR, NIGHT, SECRETARY, received

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
DESK = Principal("mau-truc-ban", "desk")
SECRETARY_HERE = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
AGAIN = ["mau-14776-bi-thu:still_open", "mau-14776-chu-tich:still_open"]
REMINDED = ["mau-14776-bi-thu:reminder", "mau-14776-chu-tich:reminder"]


async def reported(city: City, *categories: str) -> str:
    """A sensor's report of these categories, or an officer's, which is verified, of firecrackers that were set off."""
    await route_reports(city.escalation, [received(c) for c in categories] or [received(kind="officer")])
    return await city.incident()


async def go(city: City, until: datetime) -> list[str]:
    """Each due time is acted on when it falls due. What was told meanwhile."""
    before = len(await city.told())
    while True:
        due = await next_due(city)
        if due is None or due >= until:
            break
        city.clock.set(max(due, city.clock.now()))
        await fire_due_timers(city.escalation)
    city.clock.set(until)
    assert not await events_without_their_cause(city)
    return (await city.told())[before:]


async def wake(city: City, now: datetime) -> list[str]:
    """After an outage until then: all that is due is acted on, in as many passes as that takes."""
    before = len(await city.told())
    city.clock.set(now)
    while await fire_due_timers(city.escalation):
        pass
    return (await city.told())[before:]


async def due(city: City, *kinds: str) -> list[tuple[str, int]]:
    """Pending kinds with the minutes from 23:50."""
    waiting = await stored(city, DueTime, state="pending")
    return sorted((d.kind, round((d.due_at - NIGHT) / MINUTE)) for d in waiting if d.kind in kinds)


async def state(city: City) -> str:
    return (await only(city, Incident)).state

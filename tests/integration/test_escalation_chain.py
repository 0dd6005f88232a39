"""Reminder, step-up, lapse and idle end as they are stored, with the directory changing under an open incident."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.events import (
    AcknowledgementLapsed,
    AcknowledgementRecorded,
    ChainExhausted,
    IncidentClosed,
    StepRaised,
    SuggestionRaised,
)
from shared.http.identity import Principal
from tests.integration.chain_support import (
    AGAIN,
    CHAIR_HERE,
    DAY,
    DESK,
    MINUTE,
    REMINDED,
    SECRETARY_HERE,
    go,
    reported,
    state,
    wake,
)
from tests.integration.escalation_support import City
from tests.integration.stored.looking import next_due, only, stored
from tests.integration.stored.records import DueTime, Finding, Incident, Link
from tests.support import BA_DINH, DONG_THO, NGOC_TRAO, NIGHT, received

LEADER = Principal("mau-lanh-dao", "leader")


# --- while nobody answers ---


async def test_the_whole_chain_when_nobody_answers(city: City) -> None:
    await reported(city)
    assert sorted(await go(city, NIGHT + 10 * MINUTE)) == REMINDED
    assert await go(city, NIGHT + 16 * MINUTE) == ["desk:not_acknowledged"]
    assert await go(city, NIGHT + 31 * MINUTE) == ["leadership:not_acknowledged"]
    assert await go(city, NIGHT + 46 * MINUTE) == ["desk:exhausted"]
    events = await city.events()
    steps = [(e.data.level, e.data.reason) for e in events if isinstance(e, StepRaised)]
    assert steps == [*[("desk", "not_acknowledged")] * 2, ("leadership", "not_acknowledged")]
    assert [(e.data.reason, e.data.round) for e in events if isinstance(e, ChainExhausted)] == [("not_acknowledged", 1)]
    assert (await only(city, Incident)).level == 3
    assert await go(city, NIGHT + 359 * MINUTE) == []
    assert await go(city, NIGHT + 361 * MINUTE) == AGAIN
    incident = await only(city, Incident)
    assert (incident.round, incident.state) == (2, "notified")


@pytest.mark.parametrize(("caller", "minutes"), [(DESK, 20), (LEADER, 40)], ids=["desk", "leadership"])
async def test_an_office_that_answers_stops_the_chain(city: City, caller: Principal, minutes: int) -> None:
    incident = await reported(city)
    await go(city, NIGHT + minutes * MINUTE)
    done = await acknowledge(city.escalation, incident, caller)
    assert (done.is_new, done.state) == (True, "notified")
    assert await go(city, NIGHT + 300 * MINUTE) == []
    assert not any(isinstance(e, ChainExhausted) for e in await city.events())


async def test_a_leadership_that_answers_has_not_been_silent_and_the_review_comes_back_to_the_desk(city: City) -> None:
    incident = await reported(city, "FIRE")
    assert await go(city, NIGHT + 40 * MINUTE) == ["leadership:not_reviewed"]
    await acknowledge(city.escalation, incident, LEADER)
    assert await go(city, NIGHT + 380 * MINUTE) == []
    assert await go(city, NIGHT + 400 * MINUTE) == ["desk:not_reviewed"]


async def test_a_review_that_the_desk_acknowledged_is_still_to_be_done(city: City) -> None:
    incident = await reported(city, "FIRE")
    await acknowledge(city.escalation, incident, DESK)
    assert await go(city, NIGHT + 40 * MINUTE) == ["leadership:not_reviewed"]


# --- open still ---


async def test_what_was_acknowledged_lapses_and_has_to_be_acknowledged_again(city: City) -> None:
    incident = await reported(city)
    for holder in (SECRETARY_HERE, CHAIR_HERE):
        await acknowledge(city.escalation, incident, holder)
    assert await state(city) == "acknowledged"
    assert await go(city, NIGHT + 361 * MINUTE) == AGAIN
    assert await state(city) == "notified"
    assert [e.data.round for e in await city.events() if isinstance(e, AcknowledgementLapsed)] == [2]
    again = [await acknowledge(city.escalation, incident, holder) for holder in (SECRETARY_HERE, CHAIR_HERE)]
    assert [d.is_new for d in again] == [True, True]
    assert await state(city) == "acknowledged"
    recorded = [e for e in await city.events() if isinstance(e, AcknowledgementRecorded)]
    assert len(recorded) == 4
    assert await go(city, NIGHT + 700 * MINUTE) == []


async def test_what_the_rule_does_not_apply_to_ends_by_itself(city: City) -> None:
    await route_reports(city.escalation, [received("FIRECRACKER_POSSESSION", kind="officer")])
    await go(city, NIGHT + 3 * DAY - MINUTE)
    assert await state(city) == "received"
    await go(city, NIGHT + 3 * DAY + MINUTE)
    assert await state(city) == "closed"
    (closed,) = (e.data for e in await city.events() if isinstance(e, IncidentClosed))
    assert closed.author == "trucban"
    assert (await only(city, Finding)).kind == "closure"
    assert await next_due(city) is None
    await route_reports(city.escalation, [received("FIRECRACKER_POSSESSION", subject="cam-bien-2")])
    assert len(await stored(city, Incident)) == 1, "it is kept with what ended"
    assert await state(city) == "closed"


async def test_a_report_keeps_it_open(city: City) -> None:
    await route_reports(city.escalation, [received("FIRECRACKER_POSSESSION", kind="officer")])
    await go(city, NIGHT + DAY)
    late = received("FIRECRACKER_POSSESSION", kind="officer", subject="cb-2", received_at=NIGHT + DAY)
    await route_reports(city.escalation, [late])
    await go(city, NIGHT + 3 * DAY + MINUTE)
    assert await state(city) == "received"
    await go(city, NIGHT + 4 * DAY + MINUTE)
    assert await state(city) == "closed"


# --- after an outage ---


@pytest.mark.parametrize("answered", [0, 1, 2])
@pytest.mark.parametrize("minutes", [0, 12, 20, 40, 50])
async def test_after_three_days_away_one_pass_makes_no_storm(city: City, minutes: int, answered: int) -> None:
    incident = await reported(city)
    for holder in (SECRETARY_HERE, CHAIR_HERE)[:answered]:
        await acknowledge(city.escalation, incident, holder)
    await go(city, NIGHT + minutes * MINUTE)
    told = await wake(city, NIGHT + 3 * DAY)
    assert max(Counter(t.split(":")[0] for t in told).values()) == 1
    assert not any(t.endswith(":reminder") for t in told)
    assert set(AGAIN) <= set(told)
    assert await wake(city, NIGHT + 3 * DAY + MINUTE) == []


async def test_many_incidents_wake_up_each_once_whichever_loop_takes_them(city: City) -> None:
    wards = (BA_DINH, NGOC_TRAO, DONG_THO)
    hours = [NIGHT - n * timedelta(hours=2) for n in range(4)]
    await route_reports(city.escalation, [received(unit=u, occurred_at=h) for h in hours for u in wards])
    before = len(await city.told())
    city.clock.set(NIGHT + 3 * DAY)
    async with city.another() as other:
        await asyncio.gather(*(fire_due_timers(c.escalation) for c in (city, other) for _ in range(3)))
    await wake(city, NIGHT + 3 * DAY)
    told = Counter((await city.told())[before:])
    assert set(told.values()) == {4, 12}, told
    assert told["desk:not_acknowledged"] == 12
    assert len({d.incident_id for d in await stored(city, DueTime, state="pending")}) == 12


# --- signs of more ---


async def test_five_sources_one_after_another_are_suggested_once(city: City) -> None:
    for n in range(8):
        await route_reports(city.escalation, [received(subject=f"nguon-{n}")])
    suggested = [(e.data.pattern, e.data.count) for e in await city.events() if isinstance(e, SuggestionRaised)]
    assert suggested == [("independent_reports", 5)]
    assert (await city.told()).count("desk:prominence") == 1


async def test_three_incidents_of_a_ward_in_an_hour_are_suggested_once_and_linked(city: City) -> None:
    for n, category in enumerate(("FIRE", "EXPLOSION", "THEFT_ROBBERY", "VIOLENT_CRIME")):
        await route_reports(city.escalation, [received(category, occurred_at=NIGHT - n * 5 * MINUTE)])
    suggested = [(e.data.pattern, e.data.count) for e in await city.events() if isinstance(e, SuggestionRaised)]
    assert suggested == [("ward_incidents", 3)]
    assert len(await stored(city, Link)) == 6

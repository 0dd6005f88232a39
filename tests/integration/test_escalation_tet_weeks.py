"""Simulated Tết weeks: random reports, answers, commands, changing holders, late entries and outages, an hour at a
time. At every moment somebody who can act is waited for, and nobody is told what is not true; nothing is forgotten,
nobody is named outside their tenure, and replay equals."""

import random
from collections import defaultdict
from datetime import datetime

import pytest

from tests.integration.escalation_support import City, decisions_that_differ_when_computed_again
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Decision, DueTime, Event, Incident, Tenure
from tests.integration.tet_rules import whoever_a_decision_names_never_acts_for_an_office
from tests.integration.tet_week import BEGIN, END, HOUR, MUNG_MOT, Week
from tests.support import wards

ALWAYS_TOLD = {"accountable", "still_open", "review", "not_acknowledged", "exhausted", "stand_down"}
FULL = [pytest.param(seed, END, marks=pytest.mark.full) for seed in range(1, 10)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "end"), [(2023, MUNG_MOT), *FULL])
async def test_a_tet_week_forgets_nothing_and_names_nobody_wrongly(city: City, seed: int, end: datetime) -> None:
    city.clock.set(BEGIN)
    week = Week(city, random.Random(seed), wards()[:8], end)
    await week.live()
    assert len(await stored(city, Incident)) > 10, "a week in which something happens"
    assert week.told.keys() >= ALWAYS_TOLD
    await each_incident_ended_or_has_something_due(city)
    await nobody_is_named_outside_their_tenure(city)
    await whoever_a_decision_names_never_acts_for_an_office(city)
    await events_are_numbered_without_a_gap(city)
    assert not await decisions_that_differ_when_computed_again(city)


async def each_incident_ended_or_has_something_due(city: City) -> None:
    pending = await stored(city, DueTime, state="pending")
    watched = {due.incident_id for due in pending if due.kind != "directory"}
    forgotten = [i for i in await stored(city, Incident) if i.is_waited_for != (i.incident_id in watched)]
    assert not forgotten, "open without a due time, or ended with one"
    assert not [due for due in pending if due.due_at <= city.clock.now() - HOUR]


async def nobody_is_named_outside_their_tenure(city: City) -> None:
    """Asked of the tenures by itself, not of the code that picked them."""
    tenures = await stored(city, Tenure)

    def holds(holder: str, post: str, when: datetime, known_at: datetime) -> bool:
        theirs = (t for t in tenures if (t.holder_id, t.post) == (holder, post))
        return any(tenure.covers(when, known_at) for tenure in theirs)

    for decision in await stored(city, Decision):
        occurred_at = datetime.fromisoformat(decision.said["time_of_occurrence"])
        evaluated_at = datetime.fromisoformat(decision.said["evaluated_at"])
        for party in decision.said["parties"]:
            for place, when in (("accountable", occurred_at), ("present", evaluated_at)):
                if place in party:
                    named = party[place]["holder_id"]
                    assert holds(named, party["post"], when, evaluated_at), f"{place} without a tenure"


async def events_are_numbered_without_a_gap(city: City) -> None:
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in sorted(await stored(city, Event), key=lambda e: e.position):
        if event.incident_id is not None:
            numbers[event.incident_id].append(event.data["sequence"])
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())

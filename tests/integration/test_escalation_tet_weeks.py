"""Simulated Tết weeks: random reports, answers, commands, changing holders, late entries and outages, an hour at a
time. At every moment somebody who can act is waited for, and nobody is told what is not true; nothing is forgotten,
nobody is named outside their tenure, and replay equals."""

import random
from collections import defaultdict
from datetime import datetime

import pytest

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices.notification import holders_are_told
from services.escalation.domain.rules.record import Decision as Record
from tests.integration.escalation_support import City, decisions_that_differ_when_computed_again
from tests.integration.stored.looking import stored, waited_for
from tests.integration.stored.records import ASKING, Decision, Delivery, DueTime, Event, Incident, Notice, Tenure
from tests.integration.tet_rules import whoever_a_decision_names_never_acts_for_an_office
from tests.integration.tet_week import BEGIN, END, HOUR, MUNG_MOT, Week
from tests.support import wards

ALWAYS_TOLD = {"accountable", "still_open", "review", "not_acknowledged", "exhausted", "stand_down"}
FULL = [pytest.param(seed, END, marks=pytest.mark.full) for seed in range(1, 15)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "end"), [(2023, MUNG_MOT), *FULL])
async def test_a_tet_week_forgets_nothing_and_names_nobody_wrongly(city: City, seed: int, end: datetime) -> None:
    city.clock.set(BEGIN)
    week = Week(city, random.Random(seed), wards()[:8], end)
    await week.live()
    assert len(await stored(city, Incident)) > 10, "a week in which something happens"
    assert week.told.keys() >= ALWAYS_TOLD
    await each_incident_ended_or_has_something_due(city)
    await whoever_was_not_reached_is_a_task_of_the_desk(city)
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


async def whoever_was_not_reached_is_a_task_of_the_desk(city: City) -> None:
    """Where nothing brought the request of this round to a post-holder, and nothing still may."""
    incidents = {i.incident_id: i for i in await stored(city, Incident) if i.state not in FINAL}
    arrives = {d.notice_id for d in await stored(city, Delivery) if d.state not in {"given_up", "cancelled"}}
    decisions = {d.incident_id: Record.model_validate(d.said) for d in await stored(city, Decision)}
    owed = await waited_for(city)
    for n in await stored(city, Notice, acknowledged_at=None, withdrawn_at=None):
        incident, decision = incidents.get(n.incident_id), decisions.get(n.incident_id)
        if incident is None or decision is None or n.round != incident.round:
            continue
        acts = decision.acting_for & {(n.recipient, post) for post in n.posts}
        if n.purpose in ASKING and n.notice_id not in arrives and acts and holders_are_told(decision):
            assert "mend_lost_notice" in {o.what for o in owed[n.incident_id] if o.who == DESK}, n


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

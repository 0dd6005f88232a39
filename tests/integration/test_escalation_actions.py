"""What people find out about an incident: how serious it is, that it is false, that it is over."""

import asyncio
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any

import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from shared.events import (
    DecisionMade,
    Harm,
    SeverityRevised,
)
from shared.http.identity import Principal
from shared.http.problem import Problem
from tests.integration.command_support import (
    AGAIN,
    ASKED,
    DESK,
    HERE,
    HOUR,
    MINUTE,
    NO_LONGER,
    OFFICER,
    SECRETARY_HERE,
    WHY,
    Act,
    acknowledged,
    answered,
    close,
    designate,
    dismiss,
    hand_off,
    in_order,
    latest,
    of,
    one_fire,
    pending,
    propose,
    refused,
    reopen,
    reported,
    respond,
    revise,
    split,
    state,
    still_to_be_sent,
    verified,
    verify,
    written,
)
from tests.integration.escalation_support import City, route_all
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Incident, Notice, Report
from tests.support import NIGHT, received

# --- how serious ---


async def test_the_desks_figures_replace_what_was_known_up_and_down(city: City) -> None:
    incident = await reported(city, received("FIRE", harm=Harm(deaths=1)))
    assert await city.told() == ASKED, "life at stake"
    await revise(city, incident, deaths=3)
    await revise(city, incident, deaths=0, injured=0, property_vnd=0)
    revised = await of(city, SeverityRevised)
    assert [(d.previous, d.severity) for d in revised] == [(2, 4), (4, 1)]
    record = await latest(city, incident)
    assert (record["severity"], record["outcome"]) == (1, "does_not_apply")
    assert (await only(city, Incident)).severity == 1
    await in_order(city)


@pytest.mark.parametrize("caller", [HERE, OFFICER], ids=["official", "officer"])
async def test_a_wards_own_add_to_what_is_known_and_take_nothing_away(city: City, caller: Principal) -> None:
    incident = await reported(city, received("FIRE", harm=Harm(deaths=1, property_vnd=600_000_000)))
    kept = await written(city)
    problem = await refused(revise(city, incident, caller, deaths=0, injured=4, property_vnd=600_000_000))
    assert problem.status == 403
    assert "deaths" in problem.detail
    assert await written(city) == kept
    await revise(city, incident, caller, injured=4)
    (revised,) = await of(city, SeverityRevised)
    assert revised.harm == Harm(deaths=1, injured=4, property_vnd=600_000_000)
    assert (revised.previous, revised.severity) == (3, 3)
    await revise(city, incident, caller, deaths=3)
    assert (await latest(city, incident))["severity"] == 4


@pytest.mark.parametrize("caller", [HERE, OFFICER], ids=["official", "officer"])
async def test_a_wards_own_do_not_call_slight_what_is_unknown(city: City, caller: Principal) -> None:
    incident = await one_fire(city)
    kept = await written(city)
    problem = await refused(revise(city, incident, caller, deaths=0, injured=0, property_vnd=0))
    assert problem.status == 403
    assert "only the desk may lower it" in problem.detail
    assert await written(city) == kept


async def test_a_wards_own_do_not_undo_what_the_desk_found(city: City) -> None:
    incident = await one_fire(city)
    await revise(city, incident, DESK, deaths=2)
    await revise(city, incident, HERE, injured=1)
    assert (await latest(city, incident))["severity"] == 3


async def test_a_report_that_comes_after_an_assessment_adds_to_it(city: City) -> None:
    incident = await one_fire(city)
    await revise(city, incident, DESK, deaths=0, injured=0, property_vnd=0)
    city.clock.set(NIGHT + 10 * MINUTE)
    late = received("FIRE", received_at=NIGHT + 9 * MINUTE, harm=Harm(deaths=1), subject="cam-bien-2")
    await route_reports(city.escalation, [late])
    assert (await latest(city, incident))["severity"] == 2


async def test_a_report_that_was_on_its_way_while_the_desk_assessed_is_not_lost(city: City) -> None:
    """Intake had received it, escalation was away: the assessor did not know it."""
    incident = await one_fire(city)
    city.clock.set(NIGHT + 10 * MINUTE)
    await revise(city, incident, DESK, deaths=0, injured=0, property_vnd=0)
    on_its_way = received("FIRE", received_at=NIGHT + 5 * MINUTE, harm=Harm(deaths=3), subject="cam-bien-2")
    await route_reports(city.escalation, [on_its_way])
    assert (await latest(city, incident))["severity"] == 4


async def test_prominent_is_what_a_person_calls_so_and_no_longer(city: City) -> None:
    incident = await reported(city, received("CONGESTION", kind="officer"))
    assert (await latest(city, incident))["outcome"] == "does_not_apply"
    await designate(city, incident)
    record = await latest(city, incident)
    assert (record["outcome"], record["limb"]) == ("applies", "serious")
    assert await city.told() == ASKED
    await designate(city, incident, prominent=False)
    assert (await latest(city, incident))["outcome"] == "does_not_apply"
    await designate(city, incident)
    assert (await latest(city, incident))["outcome"] == "applies"
    assert await city.told() == [*ASKED, *NO_LONGER, *AGAIN], "who had not answered is asked again"


# --- false, and after all not ---


async def test_a_wards_own_do_not_keep_the_desk_from_being_pointed_to_what_many_report(city: City) -> None:
    incident = await acknowledged(city)
    await respond(city, incident)
    await route_reports(city.escalation, [received(subject=f"cam-bien-{n}") for n in range(2, 12)])
    assert "desk:prominence" in await city.told()


async def test_what_the_desk_looked_at_is_not_pointed_out_to_it(city: City) -> None:
    incident = await acknowledged(city)
    await verify(city, incident)
    await route_reports(city.escalation, [received(subject=f"cam-bien-{n}") for n in range(2, 12)])
    assert "desk:prominence" not in await city.told()


async def test_what_follows_from_a_command_names_it_as_its_cause(city: City) -> None:
    incident = await one_fire(city)
    await revise(city, incident, DESK, deaths=2)
    by_id = {e.id: e for e in await city.events(incident)}
    (said,) = (e for e in by_id.values() if isinstance(e, SeverityRevised))
    caused = [e for e in by_id.values() if e.data.cause == said.id]
    assert [e.type.split(".")[2:4] for e in caused] == [["decision", "made"], *[["notice", "issued"]] * 2]


async def test_of_a_dismissed_incident_nothing_more_is_sent_or_falls_due(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    assert await pending(city, incident) == []
    assert await still_to_be_sent(city, incident) == 0
    told = await city.told()
    city.clock.set(NIGHT + 24 * HOUR)
    assert await fire_due_timers(city.escalation) == 0
    assert await city.told() == told


async def test_a_report_after_a_dismissal_joins_it_and_rings_nobody_of_the_ward(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    told = await city.told()
    assert await reported(city, received(subject="cam-bien-2")) == incident
    assert await city.told() == [*told, "desk:late_reports"], "a second source confirms what was dismissed"
    await in_order(city)


async def test_who_acknowledges_a_dismissed_incident_does_not_revive_it(city: City) -> None:
    incident = await reported(city)
    await dismiss(city, incident)
    await answered(city, incident)
    assert await state(city, incident) == "dismissed"
    await in_order(city)


@pytest.mark.parametrize(("end", "meanwhile"), [(dismiss, NO_LONGER), (hand_off, [])], ids=["dismissed", "handed off"])
async def test_when_it_is_reopened_everybody_is_told_again(city: City, end: Act, meanwhile: list[str]) -> None:
    incident = await verified(city)
    await end(city, incident, DESK)
    city.clock.set(NIGHT + HOUR)
    done = await reopen(city, incident)
    assert await city.told(incident) == [*ASKED, *meanwhile, *AGAIN]
    assert (done.case.state, done.case.round) == ("notified", 2)
    again = ["acknowledge", "acknowledge", "lapse", "remind", "remind", "review"]
    assert sorted(await pending(city, incident)) == again
    assert (await latest(city, incident))["standing"] == "provisional", "it has to be verified again"
    assert await still_to_be_sent(city, incident) == 2
    city.clock.set(NIGHT + HOUR + 16 * MINUTE)
    await fire_due_timers(city.escalation)
    assert (await city.told(incident))[-1] == "desk:not_acknowledged"


async def test_what_is_reopened_undetermined_goes_to_the_desk_again(city: City) -> None:
    incident = await one_fire(city)
    await dismiss(city, incident)
    await reopen(city, incident)
    assert await city.told() == ["desk:review", "desk:review"]
    assert await pending(city, incident) == ["lapse", "review"]


async def test_an_incident_may_be_reopened_each_time_that_it_ended(city: City) -> None:
    incident = await reported(city)
    for round_ in (2, 3, 4):
        await dismiss(city, incident)
        assert (await reopen(city, incident)).case.round == round_
    assert await city.told() == [*ASKED, *(*NO_LONGER, *AGAIN) * 3]


# --- until it is over ---


async def test_a_response_is_a_state_once_somebody_has_acknowledged(city: City) -> None:
    incident = await reported(city)
    assert (await respond(city, incident)).case.state == "notified"
    await answered(city, incident)
    assert (await respond(city, incident, SECRETARY_HERE)).case.state == "responding"


async def test_a_response_of_a_post_holder_is_their_acknowledgement_and_of_nobody_else(city: City) -> None:
    incident = await reported(city)
    await respond(city, incident)
    answered_by = {n.recipient for n in await stored(city, Notice) if n.acknowledged_at is not None}
    assert answered_by == {HERE.subject}
    await acknowledge(city.escalation, incident, SECRETARY_HERE)
    assert await state(city, incident) == "acknowledged"


async def test_the_ward_proposes_closure_and_the_desk_decides(city: City) -> None:
    incident = await verified(city)
    assert (await propose(city, incident)).case.state == "closure_proposed"
    assert (await city.told())[-1] == "desk:closure"
    assert (await close(city, incident)).case.state == "closed"
    await in_order(city)


async def test_each_proposal_to_close_is_told_to_the_desk(city: City) -> None:
    incident = await verified(city)
    await propose(city, incident)
    await respond(city, incident)
    await commands.propose_closure(city.escalation, incident, HERE, "Đã dọn dẹp xong")
    assert (await city.told())[-2:] == ["desk:closure"] * 2


async def test_closure_is_proposed_of_what_was_acknowledged(city: City) -> None:
    problem = await refused(propose(city, await reported(city)))
    assert (problem.status, "notified" in problem.detail) == (409, True)


async def test_nothing_is_closed_that_is_not_verified_or_not_determined(city: City) -> None:
    incident = await acknowledged(city)
    assert "not verified" in (await refused(close(city, incident))).detail
    other = await one_fire(city)
    assert "not determined" in (await refused(close(city, other))).detail
    await verify(city, other)
    assert "not determined" in (await refused(close(city, other))).detail


async def test_nothing_is_closed_while_a_post_holder_is_still_asked(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident)
    await acknowledge(city.escalation, incident, HERE)
    assert "still asked" in (await refused(close(city, incident))).detail
    await acknowledge(city.escalation, incident, SECRETARY_HERE)
    assert (await close(city, incident)).is_new


async def test_when_the_chain_has_ended_unanswered_the_desk_may_close(city: City) -> None:
    incident = await reported(city)
    await verify(city, incident)
    for minutes in (16, 32, 48):
        assert "still asked" in (await refused(close(city, incident))).detail
        city.clock.set(NIGHT + minutes * MINUTE)
        await fire_due_timers(city.escalation)
    assert (await city.told())[-1] == "desk:exhausted"
    assert (await close(city, incident)).is_new


async def test_what_the_rule_does_not_apply_to_may_be_closed_at_once(city: City) -> None:
    incident = await reported(city, received("FIRECRACKER_POSSESSION", kind="officer"))
    assert (await close(city, incident)).case.state == "closed"


async def test_every_decision_of_a_long_story_is_linked_and_the_same_when_computed_again(city: City) -> None:
    incident = await reported(city, received("EXPLOSION"))
    await verify(city, incident, firecrackers_exploded=True)
    await revise(city, incident, HERE, deaths=1)
    await designate(city, incident)
    await answered(city, incident)
    await dismiss(city, incident)
    await reopen(city, incident)
    await answered(city, incident)
    await verify(city, incident)
    await respond(city, incident)
    await propose(city, incident)
    await close(city, incident)
    made = await of(city, DecisionMade, incident)
    assert [d.previous for d in made] == [None, *(d.decision_id for d in made[:-1])]
    assert len(made) >= 5
    await in_order(city)


async def test_all_at_once_blocks_nobody_and_leaves_everything_in_order(city: City) -> None:
    hours = [NIGHT - n * 2 * HOUR for n in range(4)]
    ids = [await reported(city, received("FIRE", occurred_at=hour)) for hour in hours]
    both = await reported(city, *(received(subject=f"cam-bien-{n}") for n in range(3)))
    city.clock.set(NIGHT + 40 * MINUTE)

    async def later(number: int) -> None:
        event = received("FIRE", occurred_at=hours[number % 4], received_at=NIGHT, subject=f"nguon-{number}")
        await route_all(city.escalation, [event])

    async with city.another() as other:
        doing: list[Awaitable[Any]] = [later(n) for n in range(8)]
        doing += [fire_due_timers(c.escalation) for c in (city, other) for _ in range(3)]
        doing += [commands.merge(city.escalation, a, DESK, WHY, b) for a, b in pairwise(ids)]
        doing += [verify(other, i) for i in ids] + [dismiss(city, ids[3]), split(other, both), reopen(city, ids[3])]
        doing += [acknowledge(other.escalation, both, holder) for holder in (HERE, SECRETARY_HERE, DESK)]
        done = await asyncio.gather(*doing, return_exceptions=True)
    assert [d for d in done if isinstance(d, Exception) and not isinstance(d, Problem)] == []
    assert len(await stored(city, Report)) == 15
    await in_order(city)

"""Two incidents that are one, one that is two, and one that goes to others."""

import asyncio
from datetime import date

import pytest

from services.escalation.application import commands
from services.escalation.application.fire_timers import fire_due_timers
from shared.events import (
    Harm,
    IncidentDesignated,
    IncidentHandedOff,
    IncidentMerged,
    IncidentSplit,
    ReportCorrelated,
    ReportReceived,
    SeverityRevised,
    UnitRef,
)
from shared.http.problem import Problem
from tests.integration.command_support import (
    ASKED,
    DESK,
    HOLDERS,
    HOUR,
    MINUTE,
    PARTS,
    WHY,
    answered,
    designate,
    dismiss,
    divided_unit,
    hand_off,
    in_order,
    latest,
    merge,
    of,
    one_fire,
    reassign,
    refused,
    reported,
    reports_of,
    revise,
    split,
    state,
    still_to_be_sent,
    two_fires,
    two_reports,
    verify,
)
from tests.integration.directory_changes import end_unit
from tests.integration.escalation_support import (
    City,
)
from tests.integration.stored.looking import only, still_asked, stored
from tests.integration.stored.records import Incident, Link
from tests.support import NGOC_TRAO, NIGHT, SINCE, at, received


async def other_than(city: City, incident: str) -> str:
    """Id of the only other incident."""
    (other,) = (i.incident_id for i in await stored(city, Incident) if i.incident_id != incident)
    return other


# --- the same, or two ---


async def test_of_merged_incidents_one_is_left_with_the_reports_of_both(city: City) -> None:
    first = await reported(city, received("FIRE", occurred_at=NIGHT - 2 * HOUR, harm=Harm(deaths=1)))
    second = await reported(city, received("FIRE", harm=Harm(deaths=3)))
    before, moved = await reports_of(city, first), await reports_of(city, second)
    await merge(city, second)
    assert await state(city, second) == "merged"
    assert await reports_of(city, first) == [*before, *moved]
    assert await reports_of(city, second) == []
    assert (await latest(city, first))["severity"] == 4
    (merged,) = await of(city, IncidentMerged)
    assert (merged.incident, merged.into, list(merged.reports)) == (second, first, moved)
    correlated = [d for d in await of(city, ReportCorrelated, first) if d.report_id in moved]
    assert [d.incident for d in correlated] == [first], "the receipt says where it went"
    await in_order(city)


async def test_what_a_merged_incident_was_reported_to_do_is_not_covered_by_an_earlier_assessment(city: City) -> None:
    """The assessor of the one did not know the other's reports, though they had been received by then."""
    first = await reported(city, received("FIRE", occurred_at=NIGHT - 2 * HOUR, harm=Harm(deaths=3)))
    second = await reported(city, received("FIRE"))
    await revise(city, second, deaths=0, injured=0, property_vnd=0)
    await merge(city, first)
    assert (await latest(city, second))["severity"] == 4
    revised = await of(city, SeverityRevised, second)
    assert [(d.previous, d.severity) for d in revised] == [(None, 1), (1, 4)]
    await in_order(city)


async def test_what_was_found_about_a_merged_incident_holds_of_what_is_left(city: City) -> None:
    first = await reported(city, received("EXPLOSION", occurred_at=NIGHT - 2 * HOUR))
    await verify(city, first, firecrackers_exploded=True)
    await revise(city, first, deaths=2)
    await designate(city, first)
    second = await reported(city, received("EXPLOSION"))
    await merge(city, first)
    record = await latest(city, second)
    assert [record[name] for name in ("limb", "standing", "severity")] == ["firecracker", "confirmed", 3]
    assert len(await of(city, IncidentDesignated, second)) == 1
    await in_order(city)


async def test_that_nothing_was_set_off_in_one_place_is_not_said_of_the_other(city: City) -> None:
    first = await reported(city, received("EXPLOSION", occurred_at=NIGHT - 2 * HOUR))
    await verify(city, first, firecrackers_exploded=False)
    second = await reported(city, received())
    await commands.merge(city.escalation, first, DESK, WHY, second)
    assert (await latest(city, second))["limb"] == "firecracker"


async def test_later_reports_of_either_join_what_is_left(city: City) -> None:
    first = await reported(city, received("FIRE", occurred_at=NIGHT - 2 * HOUR))
    second = await reported(city, received("FIRE"))
    await merge(city, second)
    for when in (NIGHT - 2 * HOUR, NIGHT + 5 * MINUTE):
        later = received("FIRE", occurred_at=when, received_at=NIGHT + 6 * MINUTE, subject="cam-bien-2")
        assert await reported(city, later) == first


async def test_later_reports_join_even_what_was_of_another_kind(city: City) -> None:
    blast = await reported(city, received("EXPLOSION"))
    fire = await reported(city, received("FIRE"))
    await commands.merge(city.escalation, fire, DESK, WHY, blast)
    assert await reported(city, received("FIRE", subject="cam-bien-2")) == blast
    assert await reported(city, received("EXPLOSION", subject="cam-bien-2")) == blast


async def test_what_was_merged_into_a_merged_incident_goes_where_that_went(city: City) -> None:
    ids = [await reported(city, received("FIRE", occurred_at=NIGHT - n * 2 * HOUR)) for n in range(3)]
    await commands.merge(city.escalation, ids[0], DESK, WHY, ids[1])
    await commands.merge(city.escalation, ids[1], DESK, WHY, ids[2])
    later = received("FIRE", subject="cam-bien-2")
    assert await reported(city, later) == ids[2]
    await dismiss(city, ids[2])
    assert await reported(city, received("FIRE", subject="cam-bien-3")) == ids[2], "a late report of it"
    assert [d.outcome for d in await of(city, ReportCorrelated)][-1] == "late"


async def test_merges_at_once_both_ways_leave_one(city: City) -> None:
    second = await two_fires(city)
    first = await other_than(city, second)
    merges = [commands.merge(city.escalation, a, DESK, WHY, b) for a, b in ((first, second), (second, first))]
    done = await asyncio.gather(*merges, return_exceptions=True)
    assert sorted(isinstance(d, Problem) for d in done) == [False, True]
    states = {await state(city, i) for i in (first, second)}
    assert "merged" in states
    assert len(states) == 2
    await in_order(city)


@pytest.mark.parametrize("other", [received("FIRE", unit=NGOC_TRAO), received("FIRE", exercise=True)], ids=str)
async def test_incidents_of_two_wards_or_an_exercise_and_a_real_one_are_not_one(
    city: City, other: ReportReceived
) -> None:
    here, there = await one_fire(city), await reported(city, other.model_copy(update={"id": f"{other.id}-x"}))
    assert (await refused(commands.merge(city.escalation, here, DESK, WHY, there))).status == 409


async def test_nothing_is_merged_into_itself_or_into_what_ended(city: City) -> None:
    incident = await two_fires(city)
    other = await other_than(city, incident)
    assert (await refused(commands.merge(city.escalation, incident, DESK, WHY, incident))).status == 409
    await dismiss(city, other)
    problem = await refused(merge(city, incident))
    assert problem.status == 409
    assert "dismissed" in problem.detail


async def test_a_split_makes_two_incidents_each_decided_anew(city: City) -> None:
    point = (19.8075, 105.7764)
    slight, grave = received("FIRE"), received("FIRE", subject="cam-bien-2", harm=Harm(deaths=3), point=point)
    incident = await reported(city, slight, grave)
    done = await commands.split(city.escalation, incident, DESK, WHY, [grave.data.report_id])
    assert done.new_incident is not None
    assert await reports_of(city, incident) == [slight.data.report_id]
    assert await reports_of(city, done.new_incident) == [grave.data.report_id]
    assert (await latest(city, incident)).get("severity") is None
    assert (await latest(city, done.new_incident))["severity"] == 4
    assert await city.told(done.new_incident) == ASKED
    (said,) = await of(city, IncidentSplit)
    assert (said.new_incident, list(said.reports)) == (done.new_incident, [grave.data.report_id])
    linked = await only(city, Link)
    assert (linked.incident_id, linked.other_id) == (done.new_incident, incident)
    new = await only(city, Incident, incident_id=done.new_incident)
    assert ((new.latitude, new.longitude), new.family, new.category) == (point, "fire", "FIRE")
    await in_order(city)


async def test_what_was_merged_from_another_kind_is_of_its_own_kind_again_when_it_is_split_off(city: City) -> None:
    blast = await reported(city, received("EXPLOSION"))
    burning = received("FIRE")
    fire = await reported(city, burning)
    await commands.merge(city.escalation, fire, DESK, WHY, blast)
    done = await commands.split(city.escalation, blast, DESK, WHY, [burning.data.report_id])
    new = await only(city, Incident, incident_id=done.new_incident)
    assert (new.family, new.category) == ("fire", "FIRE")


async def test_when_the_first_report_is_split_off_what_remains_has_the_time_and_place_of_the_next(city: City) -> None:
    """Who answers is who held the post at the time of occurrence, by the rulebook in force at that time."""
    later, point = NIGHT + 20 * MINUTE, (19.8075, 105.7764)
    city.clock.set(NIGHT + HOUR)
    first = received("FIRE", received_at=NIGHT + HOUR, harm=Harm(deaths=1))
    second = received("FIRE", occurred_at=later, received_at=NIGHT + HOUR, subject="cam-bien-2", point=point)
    incident = await reported(city, first, second)
    done = await commands.split(city.escalation, incident, DESK, WHY, [first.data.report_id])
    assert done.is_new
    remaining = await only(city, Incident, incident_id=incident)
    assert (remaining.occurred_at, (remaining.latitude, remaining.longitude)) == (later, point)
    assert (await latest(city, incident))["time_of_occurrence"] == "2023-01-21T17:10:00Z"
    assert (await latest(city, str(done.new_incident)))["time_of_occurrence"] == "2023-01-21T16:50:00Z"
    await in_order(city)


async def test_what_was_split_off_and_merged_back_may_be_split_off_again(city: City) -> None:
    incident = await two_reports(city)
    first = await split(city, incident)
    assert first.new_incident is not None
    await commands.merge(city.escalation, first.new_incident, DESK, WHY, incident)
    again = await split(city, incident)
    assert again.is_new
    assert again.new_incident not in {None, first.new_incident}
    await in_order(city)


async def test_a_split_leaves_a_report_on_each_side_and_takes_no_others(city: City) -> None:
    incident = await two_reports(city)
    both = await reports_of(city, incident)
    for reports in (both, ["tin-bao-khong-co"], [both[0], "tin-bao-khong-co"]):
        assert (await refused(commands.split(city.escalation, incident, DESK, WHY, reports))).status == 409


# --- to others ---


async def test_what_the_police_take_over_ends_here(city: City) -> None:
    incident = await reported(city)
    await hand_off(city, incident)
    assert await state(city, incident) == "handed_off"
    (said,) = await of(city, IncidentHandedOff)
    assert (said.to, said.successor) == ("police", None)
    await in_order(city)


async def test_handing_a_crime_to_the_police_at_once_takes_nothing_from_who_answers_for_the_ward(city: City) -> None:
    """What they had not been sent yet they are sent all the same, and may acknowledge."""
    incident = await reported(city)
    await hand_off(city, incident)
    assert await still_to_be_sent(city, incident) == 2
    await answered(city, incident)
    assert await state(city, incident) == "handed_off"
    assert await still_to_be_sent(city, incident) == 0


async def test_the_desk_hands_the_incident_of_a_divided_unit_to_one_of_its_parts(city: City) -> None:
    incident = await divided_unit(city)
    await fire_due_timers(city.escalation)
    assert "desk:unit_split" in await city.told()
    await reassign(city, incident)
    assert (await city.told())[-2:] == ["mau-14758-bi-thu-moi:accountable", "mau-14758-chu-tich-moi:accountable"]
    record = await latest(city, incident)
    assert record["successor"]["code"] == "14758"
    assert [p["accountable"]["holder_id"] for p in record["parties"]] == HOLDERS
    (said,) = await of(city, IncidentHandedOff)
    assert (said.to, said.successor) == ("unit", PARTS[0])
    assert await state(city, incident) == "notified"
    await in_order(city)


async def test_when_what_took_its_place_is_divided_in_turn_the_desk_hands_it_to_one_of_those_parts(city: City) -> None:
    incident = await reported(city)
    heir = UnitRef(code="14776", valid_from=date(2023, 1, 22), name="Ba Đình mới (mẫu)")
    await end_unit(city, [heir])
    city.clock.set(at("2023-01-22 00:30"))
    await fire_due_timers(city.escalation)
    later = [p.model_copy(update={"valid_from": date(2023, 1, 23)}) for p in PARTS]
    await end_unit(city, later, unit=heir)
    city.clock.set(at("2023-01-23 00:30"))
    await fire_due_timers(city.escalation)
    record = await latest(city, incident)
    assert (record["successor"]["valid_from"], record["divided"]) == ("2023-01-22", True)
    wanted = (later[1].code, later[1].valid_from)
    await commands.reassign(city.escalation, incident, DESK, WHY, wanted)
    record = await latest(city, incident)
    assert (record["successor"]["code"], record.get("divided")) == ("14797", None)
    assert f"mau-{later[1].code}-chu-tich-moi:accountable" in await city.told()


async def test_what_was_handed_to_the_wrong_part_is_handed_to_the_other(city: City) -> None:
    incident = await divided_unit(city)
    await reassign(city, incident)
    await reassign(city, incident, part=1)
    assert (await latest(city, incident))["successor"]["code"] == "14797"
    assert (await city.told())[-2:] == ["mau-14797-bi-thu-moi:accountable", "mau-14797-chu-tich-moi:accountable"]
    assert await still_asked(city) == ["mau-14797-bi-thu-moi", "mau-14797-chu-tich-moi"]


async def test_no_incident_is_handed_to_a_unit_that_took_no_part_of_its_own(city: City) -> None:
    incident = await reported(city)
    assert "no unit was divided" in (await refused(reassign(city, incident))).detail
    await end_unit(city, PARTS)
    city.clock.set(at("2023-01-22 00:30"))
    wrong = commands.reassign(city.escalation, incident, DESK, WHY, (NGOC_TRAO.code, SINCE))
    problem = await refused(wrong)
    assert problem.status == 409
    assert "14758" in problem.detail

"""Reminder, step-up, lapse and idle end as they are stored, with the directory changing under an open incident."""

import asyncio
from collections import Counter
from datetime import date, datetime, timedelta

import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge, acknowledge_by_link
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.import_directory import import_directory
from services.escalation.application.route_reports import route_reports
from shared.events import (
    AcknowledgementLapsed,
    AcknowledgementRecorded,
    ChainExhausted,
    DecisionMade,
    Harm,
    IncidentClosed,
    StepRaised,
    SuggestionRaised,
    UnitRef,
)
from shared.http.identity import Principal
from tests.integration.directory_changes import appoint, end_unit, leave, on_duty, reachable
from tests.integration.escalation_support import (
    City,
    decisions_that_differ_when_computed_again,
    events_without_their_cause,
)
from tests.integration.stored.looking import next_due, only, still_asked, stored
from tests.integration.stored.records import Decision, Delivery, DueTime, Finding, Incident, Link, Notice
from tests.support import BA_DINH, CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SECRETARY, at, received

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
DESK = Principal("mau-truc-ban", "desk")
LEADER = Principal("mau-lanh-dao", "leader")
SECRETARY_HERE = Principal("mau-14776-bi-thu", "official", "14776", SECRETARY)
CHAIR_HERE = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
ASKED = ["mau-14776-bi-thu:accountable", "mau-14776-chu-tich:accountable"]
AGAIN = ["mau-14776-bi-thu:still_open", "mau-14776-chu-tich:still_open"]
REMINDED = ["mau-14776-bi-thu:reminder", "mau-14776-chu-tich:reminder"]
WHOLE = UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Ba Đình mới (mẫu)")
PARTS = (WHOLE, UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"))
MIDNIGHT = at("2023-01-22 00:00")
LATE = b"""\
unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,document,channel,sample
14776,2021-02-01,chair,mau-moi,mau,2023-01-20,so 9,outbox://mau-moi,true
"""
"""A chair of Ba Đình since the day before the night, entered later."""


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


async def channels(city: City, purpose: str) -> dict[str, list[tuple[str, datetime]]]:
    found: dict[str, list[tuple[str, datetime]]] = {}
    for delivery in await stored(city, Delivery, purpose=purpose):
        found.setdefault(delivery.recipient, []).append((delivery.channel, delivery.next_at))
    return found


async def state(city: City) -> str:
    return (await only(city, Incident)).state


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


# --- posts change hands ---


async def test_a_new_holder_is_told_by_a_new_decision_and_the_old_ones_deadline_ends(city: City) -> None:
    await leave(city, "mau-14776-chu-tich", MIDNIGHT)
    await appoint(city, "mau-moi", MIDNIGHT)
    incident = await reported(city)
    assert await city.told() == ASKED
    assert sorted(await go(city, MIDNIGHT + MINUTE)) == [*REMINDED, "mau-moi:accountable"]
    assert await still_asked(city) == ["mau-14776-bi-thu", "mau-moi"]
    first, second = (e.data for e in await city.events(incident) if isinstance(e, DecisionMade))
    assert second.previous == first.decision_id
    parties = second.record["parties"]
    assert isinstance(parties, list)
    chair = parties[1]
    assert isinstance(chair, dict)
    assert (chair["changed"], chair["accountable"]["holder_id"], chair["present"]["holder_id"]) == (  # type: ignore[index,call-overload]
        True,
        "mau-14776-chu-tich",
        "mau-moi",
    )
    assert {d.state for d in await stored(city, Delivery, recipient="mau-14776-chu-tich")} == {"cancelled"}
    assert not await decisions_that_differ_when_computed_again(city)


async def test_a_change_that_is_recorded_while_the_incident_is_open_is_seen_at_once(city: City) -> None:
    await reported(city)
    await go(city, NIGHT + 5 * MINUTE)
    await leave(city, "mau-14776-chu-tich", NIGHT + 4 * MINUTE)
    await appoint(city, "mau-moi", NIGHT + 4 * MINUTE)
    assert await wake(city, NIGHT + 6 * MINUTE) == ["mau-moi:accountable"]
    assert await still_asked(city) == ["mau-14776-bi-thu", "mau-moi"]


async def test_a_holder_who_left_is_not_reminded(city: City) -> None:
    await reported(city)
    await leave(city, "mau-14776-chu-tich", NIGHT + 5 * MINUTE)
    assert await go(city, NIGHT + 14 * MINUTE) == ["desk:vacancy", "mau-14776-bi-thu:reminder"]
    assert await still_asked(city) == ["mau-14776-bi-thu"]


async def test_when_one_who_held_both_posts_left_the_two_who_follow_answer_for_the_incident(city: City) -> None:
    await leave(city, "mau-14776-bi-thu", NIGHT - DAY, post=SECRETARY)
    await leave(city, "mau-14776-chu-tich", NIGHT - DAY)
    for post in (SECRETARY, CHAIR):
        await appoint(city, "mau-kiem-nhiem", NIGHT - DAY, MIDNIGHT, post=post)
        await appoint(city, f"mau-sau-{post}", MIDNIGHT, post=post)
    incident = await reported(city)
    assert await city.told() == ["mau-kiem-nhiem:accountable"]
    await go(city, MIDNIGHT + MINUTE)
    for post in (SECRETARY, CHAIR):
        await acknowledge(city.escalation, incident, Principal(f"mau-sau-{post}", "official", "14776", post))
    assert await state(city) == "acknowledged"
    assert await still_asked(city) == []


async def test_who_follows_answers_by_a_link_though_who_left_never_did(city: City) -> None:
    await leave(city, "mau-14776-chu-tich", MIDNIGHT)
    await appoint(city, "mau-moi", MIDNIGHT)
    incident = await reported(city)
    await go(city, MIDNIGHT + MINUTE)
    await acknowledge(city.escalation, incident, SECRETARY_HERE)
    notice = await only(city, Notice, recipient="mau-moi")
    done = await acknowledge_by_link(city.escalation, notice.notice_id, "mau-moi")
    assert done is not None
    assert done.state == "acknowledged"


async def test_a_deputy_is_told_and_answers_in_the_holders_place_and_the_holder_may_too(city: City) -> None:
    await appoint(city, "mau-uy-quyen", NIGHT - DAY, MIDNIGHT + DAY, capacity="deputy")
    incident = await reported(city)
    assert await city.told() == ["mau-14776-bi-thu:accountable", "mau-uy-quyen:accountable"]
    deputy = Principal("mau-uy-quyen", "official", "14776", CHAIR)
    assert (await acknowledge(city.escalation, incident, deputy)).is_new
    assert not (await acknowledge(city.escalation, incident, CHAIR_HERE)).is_new
    assert (await acknowledge(city.escalation, incident, SECRETARY_HERE)).state == "acknowledged"
    inputs = (await only(city, Decision)).inputs
    assert {t["capacity"] for t in inputs["tenures"]} == {"holder", "deputy"}
    assert not await decisions_that_differ_when_computed_again(city)


async def test_a_holder_answers_though_the_deputy_was_told(city: City) -> None:
    await appoint(city, "mau-uy-quyen", NIGHT - DAY, MIDNIGHT + DAY, capacity="deputy")
    incident = await reported(city)
    assert (await acknowledge(city.escalation, incident, CHAIR_HERE)).is_new
    assert await still_asked(city) == ["mau-14776-bi-thu"]


async def test_a_holder_is_asked_again_when_the_deputy_goes_unless_they_had_answered(city: City) -> None:
    for post, name in ((SECRETARY, "mau-uy-quyen-1"), (CHAIR, "mau-uy-quyen-2")):
        await appoint(city, name, MIDNIGHT, MIDNIGHT + 5 * MINUTE, capacity="deputy", post=post)
    incident = await reported(city)
    await acknowledge(city.escalation, incident, SECRETARY_HERE)
    await go(city, MIDNIGHT + 6 * MINUTE)
    assert AGAIN[1] in await city.told()
    assert AGAIN[0] not in await city.told(), "no notice to a person who has acknowledged"
    assert await still_asked(city) == ["mau-14776-chu-tich"]


async def test_a_late_entry_corrects_the_record_of_what_has_ended_and_tells_nobody(city: City) -> None:
    incident = await reported(city)
    await commands.dismiss(city.escalation, incident, DESK, "Báo nhầm")
    city.clock.set(NIGHT + DAY)
    assert not (await import_directory(city.escalation, LATE)).errors
    assert await wake(city, NIGHT + DAY + MINUTE) == []
    assert await state(city) == "dismissed"
    *_, last = (e.data for e in await city.events(incident) if isinstance(e, DecisionMade))
    assert last.record["parties"][1]["accountable"]["holder_id"] == "mau-moi"  # type: ignore[index,call-overload]
    assert await next_due(city) is None
    assert not await decisions_that_differ_when_computed_again(city)


# --- rosters and quiet hours ---


async def test_who_is_on_duty_in_the_ward_is_told_beside_the_post_holders(city: City) -> None:
    await on_duty(city, "mau-truc-phuong", "ward", unit=BA_DINH)
    await on_duty(city, "mau-truc-noi-khac", "ward", unit=NGOC_TRAO)
    await reported(city)
    assert await city.told() == [*ASKED, "mau-truc-phuong:duty"]
    assert (await channels(city, "duty"))["mau-truc-phuong"][0][0] == "outbox://mau-truc-phuong"
    assert await still_asked(city) == ["mau-14776-bi-thu", "mau-14776-chu-tich"]


@pytest.mark.parametrize(("office", "minutes"), [("desk", 16), ("leadership", 31)])
async def test_who_is_on_duty_at_an_office_is_told_too(city: City, office: str, minutes: int) -> None:
    await reported(city)
    await on_duty(city, "mau-truc", office)
    await go(city, NIGHT + minutes * MINUTE)
    told = await channels(city, "not_acknowledged")
    assert sorted(channel for channel, _ in told[office]) == [f"outbox://{office}", "outbox://mau-truc"]


@pytest.mark.parametrize(("office", "minutes"), [("desk", 16), ("leadership", 31)])
async def test_whoever_the_decision_names_gets_no_link_of_an_office(city: City, office: str, minutes: int) -> None:
    """A chair on the roster of the leadership would end their own step-up with it."""
    await reported(city)
    await on_duty(city, "mau-14776-chu-tich", office)
    await go(city, NIGHT + minutes * MINUTE)
    told = await channels(city, "not_acknowledged")
    assert [channel for channel, _ in told[office]] == [f"outbox://{office}"]


async def test_quiet_hours_hold_back_what_is_slight_and_nothing_else(city: City) -> None:
    for holder in ("mau-14776-bi-thu", "mau-14776-chu-tich"):
        await reachable(city, holder, ("22:00", "06:00"))
    slight = Harm(deaths=0, injured=0, property_vnd=0)
    await route_reports(city.escalation, [received("FIRE", kind="officer", harm=slight)])
    incident = await city.incident()
    await commands.verify(city.escalation, incident, DESK, "Đã xem")
    await commands.designate(city.escalation, incident, DESK, "Nổi cộm", prominent=True)
    morning = at("2023-01-22 06:00")
    assert await channels(city, "accountable") == {
        holder: [(f"outbox://{holder}", morning)] for holder in ("mau-14776-bi-thu", "mau-14776-chu-tich")
    }
    assert await due(city, "acknowledge") == [("acknowledge", 400)] * 2, "half an hour after it rings"
    await city.emptied()
    for holder in ("mau-14776-bi-thu", "mau-14776-chu-tich"):
        await reachable(city, holder, ("22:00", "06:00"))
    await reported(city)
    sent = await channels(city, "accountable")
    assert all(when <= city.clock.now() for found in sent.values() for _, when in found)


# --- units end ---


async def test_when_one_unit_takes_its_place_its_holders_are_told_and_accountability_stays(city: City) -> None:
    await end_unit(city, [WHOLE])
    incident = await reported(city)
    assert await city.told() == ASKED
    await go(city, MIDNIGHT + MINUTE)
    assert (await city.told())[-2:] == ["mau-14758-bi-thu-moi:accountable", "mau-14758-chu-tich-moi:accountable"]
    assert await still_asked(city) == ["mau-14758-bi-thu-moi", "mau-14758-chu-tich-moi"]
    there = Principal("mau-14758-chu-tich-moi", "official", "14758", CHAIR)
    assert (await acknowledge(city.escalation, incident, there)).is_new
    *_, last = (e.data for e in await city.events(incident) if isinstance(e, DecisionMade))
    assert [p["accountable"]["holder_id"] for p in last.record["parties"]] == [  # type: ignore[index,call-overload,union-attr]
        "mau-14776-bi-thu",
        "mau-14776-chu-tich",
    ]
    assert not await decisions_that_differ_when_computed_again(city)


async def test_of_several_that_take_its_place_nobody_is_guessed_and_the_desk_is_told(city: City) -> None:
    await end_unit(city, PARTS)
    await reported(city)
    await go(city, MIDNIGHT + MINUTE)
    assert (await city.told())[-1] == "desk:unit_split"
    assert await still_asked(city) == []
    await go(city, MIDNIGHT + DAY)
    assert not any("moi" in t for t in await city.told())
    assert await next_due(city) is not None


async def test_a_report_after_the_unit_ended_goes_to_those_who_act_now(city: City) -> None:
    await end_unit(city, [WHOLE])
    city.clock.set(MIDNIGHT + DAY)
    await reported(city)
    assert await city.told() == ["mau-14758-bi-thu-moi:accountable", "mau-14758-chu-tich-moi:accountable"]


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

"""Whom an open incident asks while the directory changes: posts, rosters, quiet hours and units, as stored."""

from datetime import date, datetime

import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge, acknowledge_by_link
from services.escalation.application.import_directory import import_directory
from services.escalation.application.route_reports import route_reports
from shared.events import DecisionMade, Harm, UnitRef
from shared.http.identity import Principal
from tests.integration.chain_support import (
    AGAIN,
    CHAIR_HERE,
    DAY,
    DESK,
    MINUTE,
    REMINDED,
    SECRETARY_HERE,
    due,
    go,
    reported,
    state,
    wake,
)
from tests.integration.directory_changes import appoint, end_unit, leave, on_duty, reachable
from tests.integration.escalation_support import City, decisions_that_differ_when_computed_again
from tests.integration.stored.looking import next_due, only, still_asked, stored
from tests.integration.stored.records import Decision, Delivery, Notice
from tests.support import BA_DINH, CHAIR, NGOC_TRAO, NIGHT, SECRETARY, at, received

ASKED = ["mau-14776-bi-thu:accountable", "mau-14776-chu-tich:accountable"]
WHOLE = UnitRef(code="14758", valid_from=date(2023, 1, 22), name="Ba Đình mới (mẫu)")
PARTS = (WHOLE, UnitRef(code="14797", valid_from=date(2023, 1, 22), name="Phần hai (mẫu)"))
MIDNIGHT = at("2023-01-22 00:00")
LATE = b"""\
unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,document,channel,sample
14776,2021-02-01,chair,mau-moi,mau,2023-01-20,so 9,outbox://mau-moi,true
"""
"""A chair of Ba Đình since the day before the night, entered later."""


async def channels(city: City, purpose: str) -> dict[str, list[tuple[str, datetime]]]:
    found: dict[str, list[tuple[str, datetime]]] = {}
    for delivery in await stored(city, Delivery, purpose=purpose):
        found.setdefault(delivery.recipient, []).append((delivery.channel, delivery.next_at))
    return found


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

"""Whom an open incident asks while the directory changes: posts, rosters, quiet hours and units."""

from dataclasses import replace
from datetime import date, time
from typing import Any

import pytest

from services.escalation.domain.directory.model import Contact, Unit, key_of
from services.escalation.domain.notices.notification import Notice
from shared.events import Harm, UnitRef
from tests.support import BA_DINH, BOTH_POSTS, CHAIR, NGOC_TRAO, NIGHT, SECRETARY, at, engine, received, tenure
from tests.unit.escalation.incidents.night import (
    AGAIN,
    ANOTHER_CHAIR_AT_MIDNIGHT,
    ASKED,
    DAY,
    MINUTE,
    NO_LONGER,
    OTHER_PART,
    SLIGHT,
    SUCCESSOR,
    THERE,
    Night,
    divided,
    duty,
    with_directory,
)

# --- posts change hands ---


def test_a_new_holder_is_told_and_the_old_ones_deadline_ends() -> None:
    night = Night(using=engine(ANOTHER_CHAIR_AT_MIDNIGHT))
    assert ("directory", 10) in night.due()
    assert night.go(at("2023-01-22 00:01")) == ["mau-bi-thu:reminder", "mau-cu:reminder", "mau-moi:accountable"]
    assert night.due("acknowledge") == [("acknowledge", 15), ("acknowledge", 25)]


def test_a_holder_who_left_is_not_reminded_and_nobody_is_told_that_they_did_not_answer() -> None:
    night = Night(using=engine(ANOTHER_CHAIR_AT_MIDNIGHT))
    told = night.wake(NIGHT + 16 * MINUTE)
    assert told == ["mau-moi:accountable", "desk:not_acknowledged"]
    assert night.notices[-1].notice.posts == (SECRETARY,), "the new chair has just been told"


def test_who_left_while_the_reminder_was_held_up_is_not_reminded() -> None:
    night = Night(using=engine(ANOTHER_CHAIR_AT_MIDNIGHT))
    assert night.wake(NIGHT + 12 * MINUTE) == ["mau-moi:accountable", "mau-bi-thu:reminder"]


def test_each_post_that_falls_vacant_is_told_to_the_desk_each_time() -> None:
    chairs = (
        tenure(CHAIR, "mau-cu", end="2023-01-22 00:30"),
        tenure(CHAIR, "mau-moi", "2023-01-22 01:00", "2023-01-22 02:00"),
    )
    night = Night(using=engine((tenure(SECRETARY, "mau-bi-thu", end="2023-01-22 01:30"), *chairs)))
    night.go(at("2023-01-22 03:00"))
    told = [n for n in night.notices if n.notice.purpose == "vacancy" and n.notice.recipient == "desk"]
    assert [(n.issued_at, n.notice.posts) for n in told] == [
        (at("2023-01-22 00:30"), (CHAIR,)),
        (at("2023-01-22 01:30"), (SECRETARY,)),
        (at("2023-01-22 02:00"), (CHAIR,)),
    ]


def test_a_change_that_is_nearer_than_the_one_that_was_waited_for_is_not_missed() -> None:
    held = (BOTH_POSTS[0], tenure(CHAIR, "mau-cu", end="2023-06-01 00:00"))
    night = Night(using=engine(held))
    night.go(NIGHT + 5 * MINUTE)
    night.change(
        BOTH_POSTS[0], tenure(CHAIR, "mau-cu", end="2023-01-22 00:30"), tenure(CHAIR, "mau-moi", "2023-01-22 00:30")
    )
    night.go(at("2023-01-22 00:31"))
    assert "mau-moi:accountable" in night.told


def test_a_holder_who_is_told_as_the_round_lapses_is_asked_in_the_new_round() -> None:
    night = Night()
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    night.go(NIGHT + 360 * MINUTE)
    night.change(BOTH_POSTS[0], tenure(CHAIR, "mau-moi"))
    told = night.wake(NIGHT + 360 * MINUTE)
    assert sorted(told) == ["mau-bi-thu:still_open", "mau-moi:accountable"]
    night.acknowledge("mau-bi-thu")
    assert night.case.state == "notified", "the new chair is asked, and has not answered"
    assert night.due("acknowledge") == [("acknowledge", 375)]


def test_a_deputy_is_told_in_the_holders_place_and_the_holder_stays_accountable() -> None:
    stands_in = tenure(CHAIR, "mau-uy-quyen").model_copy(update={"capacity": "deputy", "reason": "Đi công tác"})
    night = Night(using=engine((*BOTH_POSTS, stands_in)))
    assert night.told == ["mau-bi-thu:accountable", "mau-uy-quyen:accountable"]
    assert night.case.decision is not None
    chair = night.case.decision.parties[1]
    assert chair.accountable is not None
    assert chair.deputy is not None
    assert (chair.accountable.holder_id, chair.deputy.holder_id) == ("mau-chu-tich", "mau-uy-quyen")


def test_a_holder_whose_deputy_goes_before_answering_is_asked_again() -> None:
    """Else nobody would be asked for the post until the round lapses."""
    for_an_hour = tenure(CHAIR, "mau-uy-quyen", "2023-01-22 00:00", "2023-01-22 00:10")
    stands_in = for_an_hour.model_copy(update={"capacity": "deputy"})
    night = Night(using=engine((*BOTH_POSTS, stands_in)))
    night.go(at("2023-01-22 00:12"))
    assert [t for t in night.told if "chu-tich" in t or "uy-quyen" in t] == [
        "mau-chu-tich:accountable",
        "mau-chu-tich:reminder",
        "mau-uy-quyen:accountable",
        "mau-uy-quyen:reminder",
        "mau-chu-tich:still_open",
    ]
    night.acknowledge("mau-bi-thu")
    assert night.case.state == "notified"


def test_a_holder_who_had_answered_is_not_asked_again_when_the_deputy_goes() -> None:
    for_an_hour = tenure(CHAIR, "mau-uy-quyen", "2023-01-22 00:00", "2023-01-22 00:10")
    night = Night(using=engine((*BOTH_POSTS, for_an_hour.model_copy(update={"capacity": "deputy"}))))
    night.acknowledge("mau-chu-tich")
    night.go(at("2023-01-22 00:12"))
    assert [t for t in night.told if "mau-chu-tich" in t] == ["mau-chu-tich:accountable"]


def test_who_was_told_is_asked_again_when_the_rule_applies_after_all() -> None:
    night = Night()
    night.find("verification", firecrackers_exploded=False)
    assert not night.due("acknowledge", "remind", "lapse")
    night.find("verification", firecrackers_exploded=True)
    assert night.told == [*ASKED, *NO_LONGER, *AGAIN]
    assert len(night.due("acknowledge")) == 2


def test_however_often_the_rule_stops_applying_its_post_holders_are_asked_when_it_applies() -> None:
    night = Night()
    for _ in range(3):
        night.find("verification", firecrackers_exploded=False)
        night.find("verification", firecrackers_exploded=True)
        assert len(night.due("acknowledge", "remind")) == 4
    assert night.told == [*ASKED, *(*NO_LONGER, *AGAIN) * 3]
    assert night.case.round == 3


def test_when_everybody_is_asked_in_another_round_nobody_is_told_that_they_did_not_answer_in_the_last() -> None:
    night = Night()
    night.find("verification", firecrackers_exploded=False)
    night.find("verification", firecrackers_exploded=True)
    night.engine.now = NIGHT + 1 * MINUTE
    night.change(BOTH_POSTS[0], tenure(CHAIR, "mau-moi"))
    night.go(NIGHT + 18 * MINUTE)
    night.change(*BOTH_POSTS)
    assert night.wake(NIGHT + 40 * MINUTE) == AGAIN
    assert (night.case.round, night.case.level) == (2, 0)
    assert night.due("acknowledge") == [("acknowledge", 55)] * 2


def test_who_is_not_asked_in_one_round_is_asked_when_the_rule_applies_in_it() -> None:
    night = Night(received("FIRE", kind="officer", harm=Harm(deaths=1)))
    night.go(NIGHT + 20 * MINUTE)
    night.find("severity", harm={}, until=night.engine.now.isoformat())
    night.go(NIGHT + 400 * MINUTE)
    assert not set(AGAIN) & set(night.told), "nobody knows whether the rule applies: the desk is asked"
    night.find("severity", harm={"deaths": 2}, until=night.engine.now.isoformat())
    assert night.told[-2:] == AGAIN


# --- rosters and quiet hours ---


def test_who_is_on_duty_in_the_ward_is_told_once_without_a_deadline() -> None:
    on_duty = (duty("ward", "mau-truc", unit=BA_DINH), duty("ward", "mau-noi-khac", unit=NGOC_TRAO))
    night = Night(using=with_directory(duties=on_duty))
    assert night.told == [*ASKED, "mau-truc:duty"]
    assert {r.kind for r in night.rows if r.notice_id == night.notices[-1].notice_id} == set()
    night.go(NIGHT + DAY)
    assert night.told.count("mau-truc:duty") == 1


def test_who_is_on_duty_is_not_told_of_what_the_post_holders_are_not() -> None:
    assert Night(received("FIRE"), using=with_directory(duties=(duty("ward", "mau-truc", unit=BA_DINH),))).told == [
        "desk:review"
    ]


@pytest.mark.parametrize(("office", "minutes"), [("desk", 16), ("leadership", 31)])
def test_who_is_on_duty_at_an_office_adds_their_channels_to_its_own(office: str, minutes: int) -> None:
    turns = (duty(office, "mau-truc"), duty(office, "mau-mai", start=NIGHT + 3 * DAY))
    contacts = {"mau-truc": (Contact("outbox://mau-truc"),), "mau-mai": (Contact("outbox://mau-mai"),)}
    using = with_directory(duties=turns)
    using.directory = replace(using.directory, contacts={**using.directory.contacts, **contacts})
    night = Night(using=using)
    night.go(NIGHT + minutes * MINUTE)
    assert night.notices[-1].notice.recipient == office
    assert [url for url, _ in night.notices[-1].channels] == [f"outbox://{office}", "outbox://mau-truc"]


QUIET = {
    "mau-bi-thu": (Contact("outbox://nha", time(22), time(6)),),
    "mau-chu-tich": (Contact("outbox://nha", time(22), time(6)), Contact("outbox://co-quan")),
}
"""The secretary's only channel is quiet at night; of the chair's two one is not."""


def test_a_slight_incident_waits_for_the_end_of_quiet_hours_and_so_does_its_deadline() -> None:
    night = Night(received("FIRE", kind="officer", harm=SLIGHT), using=with_directory(contacts=QUIET))
    assert night.told == []
    night.find("designation", prominent=True)
    night.find("verification")
    morning = at("2023-01-22 06:00")
    by = {n.notice.recipient: n for n in night.notices if n.notice.purpose == "accountable"}
    assert by["mau-bi-thu"].channels == (("outbox://nha", morning),)
    assert by["mau-bi-thu"].due_at == morning + 30 * MINUTE, "the time to answer runs from when it rings"
    assert by["mau-chu-tich"].channels == (("outbox://nha", morning), ("outbox://co-quan", NIGHT))
    assert by["mau-chu-tich"].due_at == NIGHT + 30 * MINUTE


def test_what_waits_for_the_end_of_quiet_hours_rings_at_once_when_the_incident_turns_out_grave() -> None:
    night = Night(received("FIRE", kind="officer", harm=SLIGHT), using=with_directory(contacts=QUIET))
    night.find("designation", prominent=True)
    night.acknowledge("mau-chu-tich")
    night.engine.now = NIGHT + 5 * MINUTE
    night.find("severity", harm={"deaths": 3}, until=night.engine.now.isoformat())
    again = next(n for n in night.notices[-2:] if n.notice.recipient == "mau-bi-thu")
    assert night.told[-2:] == AGAIN, "who had answered was told of less"
    assert again.channels == (("outbox://nha", night.engine.now),)
    assert night.due("acknowledge") == [("acknowledge", 10)] * 2, "nothing is left of the deadline in the morning"


@pytest.mark.parametrize("harm", [None, Harm(deaths=1), Harm(property_vnd=10**8)], ids=["set off", "death", "loss"])
def test_quiet_hours_hold_back_nothing_that_is_immediate_or_serious(harm: Harm | None) -> None:
    reported = received("FIRE", kind="officer", harm=harm) if harm else received()
    night = Night(reported, using=with_directory(contacts=QUIET))
    assert night.told == ASKED
    assert {rings for n in night.notices for _, rings in n.channels} == {NIGHT}


# --- units end ---


def test_the_holders_of_the_only_successor_are_told_and_accountability_stays() -> None:
    night = Night(using=with_directory(tenures=(*BOTH_POSTS, *THERE), units=divided(SUCCESSOR)))
    assert night.told == ASKED
    night.go(at("2023-01-22 00:01"))
    assert night.told[-2:] == ["mau-bi-thu-moi:accountable", "mau-chu-tich-moi:accountable"]
    assert night.due("acknowledge") == [("acknowledge", 25)] * 2, "nobody of the unit that ended is asked any more"
    assert night.case.successor == SUCCESSOR
    assert night.case.decision is not None
    accountable = [p.accountable.holder_id for p in night.case.decision.parties if p.accountable]
    assert accountable == ["mau-bi-thu", "mau-chu-tich"]


def test_of_several_successors_nobody_is_guessed_and_the_desk_is_told() -> None:
    night = Night(using=with_directory(tenures=(*BOTH_POSTS, *THERE), units=divided(SUCCESSOR, OTHER_PART)))
    night.go(at("2023-01-22 00:01"))
    assert night.told[-1] == "desk:unit_split"
    assert not night.due("acknowledge", "remind")
    night.go(NIGHT + DAY)
    assert "moi" not in " ".join(night.told)
    assert night.case.is_open


def test_when_the_part_that_took_an_incident_is_divided_itself_the_desk_is_told_again() -> None:
    night = Night(using=with_directory(tenures=(*BOTH_POSTS, *THERE), units=divided(SUCCESSOR, OTHER_PART)))
    night.go(at("2023-01-22 00:01"))
    night.case.successor = SUCCESSOR
    night.find("reassignment", to=SUCCESSOR.model_dump(mode="json"))
    later = UnitRef(code="14779", valid_from=date(2023, 1, 23), name="Phần ba")
    parts = {key_of(u): Unit(u, "phường") for u in (OTHER_PART, later)}
    ended = {key_of(SUCCESSOR): Unit(SUCCESSOR, "phường", date(2023, 1, 23), (OTHER_PART, later))}
    night.change(units=divided(SUCCESSOR, OTHER_PART) | parts | ended)
    night.go(at("2023-01-23 00:01"))
    assert night.told.count("desk:unit_split") == 2


def test_nobody_answers_for_a_unit_that_ended_without_a_successor_and_the_desk_is_told() -> None:
    gone = {key_of(BA_DINH): Unit(BA_DINH, "phường", date(2023, 1, 22))}
    night = Night(using=with_directory(units=gone))
    night.go(at("2023-01-22 00:01"))
    assert night.notices[-1].notice == Notice("desk", "vacancy", (CHAIR, SECRETARY))
    assert not night.due("acknowledge", "remind")


def test_nobody_is_accountable_for_a_unit_that_was_no_more_when_it_happened() -> None:
    gone = {key_of(BA_DINH): Unit(BA_DINH, "phường", date(2023, 1, 20))}
    night = Night(using=with_directory(units=gone))
    assert night.case.decision is not None
    assert [p.accountable for p in night.case.decision.parties] == [None, None]


@pytest.mark.parametrize(
    ("units", "told", "successor"),
    [
        (divided(OTHER_PART), "mau-chu-tich-khac:accountable", OTHER_PART),
        (divided(SUCCESSOR, OTHER_PART), "desk:unit_split", None),
        ({key_of(BA_DINH): Unit(BA_DINH, "phường")}, "mau-chu-tich:still_open", None),
    ],
    ids=["another successor", "divided", "never ended"],
)
def test_a_late_correction_of_what_became_of_a_unit_moves_the_incident_again(
    units: dict[Any, Unit], told: str, successor: UnitRef | None
) -> None:
    others = (
        tenure(SECRETARY, "mau-bi-thu-khac", unit=OTHER_PART),
        tenure(CHAIR, "mau-chu-tich-khac", unit=OTHER_PART),
    )
    night = Night(using=with_directory(tenures=(*BOTH_POSTS, *THERE, *others), units=divided(SUCCESSOR)))
    night.go(at("2023-01-22 00:01"))
    assert night.case.successor == SUCCESSOR
    night.change(units=units)
    night.go(at("2023-01-22 00:02"))
    assert (night.told[-1], night.case.successor) == (told, successor)


def test_a_report_after_the_unit_ended_goes_to_the_successors_holders_from_the_start() -> None:
    using = with_directory(tenures=(*BOTH_POSTS, *THERE), units=divided(SUCCESSOR))
    using.now = at("2023-01-23 08:00")
    assert Night(using=using).told == ["mau-bi-thu-moi:accountable", "mau-chu-tich-moi:accountable"]

"""What falls due is acted on once: reminder, step-up, end of the chain, lapse, idle end; after any outage no storm."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.model import Contact, Unit, key_of
from services.escalation.domain.notices.notification import Notice
from shared.events import (
    AcknowledgementLapsed,
    ChainExhausted,
    Harm,
    IncidentClosed,
    ReportReceived,
    StepRaised,
    UnitRef,
)
from tests.support import (
    BA_DINH,
    BOTH_POSTS,
    CHAIR,
    NGOC_TRAO,
    NIGHT,
    SECRETARY,
    at,
    engine,
    received,
    tenure,
)
from tests.unit.escalation.incidents.night import (
    AGAIN,
    ANOTHER_CHAIR_AT_MIDNIGHT,
    ASKED,
    DAY,
    LAWFUL,
    MINUTE,
    NO_LONGER,
    OTHER_PART,
    REMINDED,
    SLIGHT,
    SUCCESSOR,
    THERE,
    Night,
    divided,
    duty,
    with_directory,
)

# --- while nobody answers ---


def test_a_reminder_comes_before_the_deadline_and_names_it() -> None:
    night = Night()
    assert night.go(NIGHT + 9 * MINUTE) == []
    assert night.go(NIGHT + 10 * MINUTE) == REMINDED
    assert {n.due_at for n in night.notices} == {NIGHT + 15 * MINUTE}


def test_who_acknowledged_is_not_reminded() -> None:
    night = Night()
    night.acknowledge("mau-bi-thu")
    assert night.go(NIGHT + 10 * MINUTE) == REMINDED[1:]


def test_the_desk_then_the_leadership_are_told_and_then_that_nobody_answers() -> None:
    night = Night()
    night.go(NIGHT + 15 * MINUTE)
    assert night.go(NIGHT + 16 * MINUTE) == ["desk:not_acknowledged"]
    assert night.go(NIGHT + 30 * MINUTE) == []
    assert night.go(NIGHT + 31 * MINUTE) == ["leadership:not_acknowledged"]
    assert night.go(NIGHT + 46 * MINUTE) == ["desk:exhausted"]
    assert [(d.level, d.reason) for d in night.of(StepRaised)] == [
        *[("desk", "not_acknowledged")] * 2,
        ("leadership", "not_acknowledged"),
    ]
    assert [d.round for d in night.of(ChainExhausted)] == [1]
    assert night.notices[-1].notice.posts == (CHAIR, SECRETARY), "it says who did not answer"
    assert night.due() == [("lapse", 360)]


def test_the_more_severe_the_sooner_each_level_is_told() -> None:
    night = Night(received(harm=Harm(deaths=3)))
    night.go(NIGHT + 6 * MINUTE)
    night.go(NIGHT + 11 * MINUTE)
    night.go(NIGHT + 16 * MINUTE)
    assert night.told[-3:] == ["desk:not_acknowledged", "leadership:not_acknowledged", "desk:exhausted"]


@pytest.mark.parametrize(("office", "minutes"), [("desk", 20), ("leadership", 40)])
def test_an_office_that_answers_stops_the_chain(office: str, minutes: int) -> None:
    night = Night()
    night.go(NIGHT + minutes * MINUTE)
    night.acknowledge(office)
    assert night.go(NIGHT + 300 * MINUTE) == []
    assert not night.of(ChainExhausted)


def test_post_holders_who_answer_late_stop_the_chain() -> None:
    night = Night()
    night.go(NIGHT + 20 * MINUTE)
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    assert night.case.state == "acknowledged"
    assert night.go(NIGHT + 300 * MINUTE) == []


def test_each_who_does_not_answer_goes_up_the_chain_in_their_own_time() -> None:
    night = Night(using=engine(ANOTHER_CHAIR_AT_MIDNIGHT))
    night.go(NIGHT + 60 * MINUTE)
    late = [n.notice for n in night.notices if n.notice.purpose in {"not_acknowledged", "exhausted"}]
    assert [(n.recipient, n.posts) for n in late] == [
        ("desk", (SECRETARY,)),
        ("desk", (CHAIR,)),
        ("leadership", (SECRETARY,)),
        ("leadership", (CHAIR,)),
        ("desk", (SECRETARY,)),
        ("desk", (CHAIR,)),
    ]


def test_an_office_that_answered_for_one_is_told_of_the_next() -> None:
    night = Night(using=engine(ANOTHER_CHAIR_AT_MIDNIGHT))
    night.go(NIGHT + 20 * MINUTE)
    night.acknowledge("desk")
    assert night.go(NIGHT + 60 * MINUTE) == ["desk:not_acknowledged", "leadership:not_acknowledged", "desk:exhausted"]


def test_of_who_answers_late_nobody_further_up_is_told() -> None:
    night = Night(using=engine(ANOTHER_CHAIR_AT_MIDNIGHT))
    night.go(NIGHT + 20 * MINUTE)
    night.acknowledge("mau-bi-thu")
    night.go(NIGHT + 60 * MINUTE)
    assert {n.notice.posts for n in night.notices if n.notice.recipient == "leadership"} == {(CHAIR,)}


def test_a_vacancy_that_is_told_as_a_deadline_passes_does_not_stand_for_it() -> None:
    night = Night(using=engine((BOTH_POSTS[0], tenure(CHAIR, "mau-cu", end="2023-01-22 00:00"))))
    assert night.wake(NIGHT + 16 * MINUTE) == ["desk:vacancy", "desk:not_acknowledged"]


def test_a_review_that_nobody_does_goes_up_to_the_end_of_the_chain() -> None:
    night = Night(received("FIRE"))
    night.go(NIGHT + 200 * MINUTE)
    assert night.told == ["desk:review", "leadership:not_reviewed", "desk:exhausted"]
    assert [(d.level, d.reason) for d in night.of(StepRaised)] == [("leadership", "not_reviewed")]
    assert [d.reason for d in night.of(ChainExhausted)] == ["not_reviewed"]


def test_a_leadership_that_answers_has_not_been_silent_and_the_review_comes_back_to_the_desk() -> None:
    night = Night(received("FIRE"))
    night.go(NIGHT + 40 * MINUTE)
    night.acknowledge("leadership")
    assert night.go(NIGHT + 380 * MINUTE) == []
    assert not night.of(ChainExhausted)
    assert night.go(NIGHT + 400 * MINUTE) == ["desk:not_reviewed"]


# --- open still ---


def test_what_was_acknowledged_lapses_while_the_incident_is_open() -> None:
    night = Night()
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    assert night.go(NIGHT + 361 * MINUTE) == AGAIN
    assert (night.case.state, night.case.round) == ("notified", 2)
    assert [d.round for d in night.of(AcknowledgementLapsed)] == [2]
    assert night.due("acknowledge", "lapse") == [("acknowledge", 375), ("acknowledge", 375), ("lapse", 1080)]


def test_in_a_new_round_everybody_may_be_told_again() -> None:
    night = Night()
    night.go(NIGHT + 360 * MINUTE)
    first = night.told[len(ASKED) :]
    assert first == [*REMINDED, "desk:not_acknowledged", "leadership:not_acknowledged", "desk:exhausted"]
    assert night.go(NIGHT + 720 * MINUTE) == [*AGAIN, *first[2:]], "a second request needs no reminder"
    assert not night.of(AcknowledgementLapsed), "nobody had acknowledged"
    assert [d.round for d in night.of(ChainExhausted)] == [1, 2]


def test_a_response_does_not_make_an_open_incident_forgotten() -> None:
    night = Night()
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    night.case.state = "responding"
    assert night.go(NIGHT + 361 * MINUTE) == AGAIN
    assert len(night.of(AcknowledgementLapsed)) == 1


def test_an_undetermined_incident_goes_back_to_the_desk_in_each_round() -> None:
    night = Night(received("FIRE"))
    night.go(NIGHT + 700 * MINUTE)
    assert night.told.count("desk:not_reviewed") == 1
    assert night.told.count("leadership:not_reviewed") == 2


def test_what_the_rule_does_not_apply_to_ends_by_itself_so_long_after_the_last_report() -> None:
    night = Night(received("FIRECRACKER_POSSESSION", kind="officer"))
    assert night.due() == [("idle", 4320)]
    night.go(NIGHT + 60 * MINUTE)
    later = NIGHT + 60 * MINUTE
    night.report(received("FIRECRACKER_POSSESSION", kind="officer", occurred_at=NIGHT, received_at=later))
    night.go(NIGHT + 3 * DAY + 30 * MINUTE)
    assert night.case.state == "received"
    night.go(NIGHT + 3 * DAY + 61 * MINUTE)
    assert night.case.state == "closed"
    (closed,) = night.of(IncidentClosed)
    assert (closed.author, closed.reason) == ("trucban", None)
    assert [f.kind for f in night.case.findings] == ["closure"]
    assert night.told == []


def test_what_turns_out_to_apply_after_all_does_not_end_by_itself() -> None:
    night = Night(received("FIRECRACKER_POSSESSION", kind="officer"))
    night.report(received("FIRECRACKER_POSSESSION", kind="officer", harm=Harm(deaths=1)))
    assert night.told == ASKED
    assert "idle" not in night.case.pending
    night.go(NIGHT + 4 * DAY)
    assert night.case.is_open


# --- after an outage ---


def _never(_: Night) -> None:
    pass


def _one_answers(night: Night) -> None:
    night.acknowledge("mau-bi-thu")


def _all_answer(night: Night) -> None:
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")


REPORTS: Sequence[tuple[ReportReceived, ...]] = (
    (received(),),
    (received("FIRE"),),
    (received("FIRE"), received("FIRE", kind="officer", subject="cb-1", harm=Harm(deaths=2))),
    (received(), received(kind="officer", subject="cb-1", firecracker=LAWFUL)),
    (received(clock_ahead=True, harm=Harm(deaths=1)),),
    (received("FIRECRACKER_POSSESSION"),),
)
some_night = st.sampled_from(REPORTS).map(lambda reports: Night(*reports))


@given(
    some_night,
    st.sampled_from((_never, _one_answers, _all_answer)),
    st.integers(0, 1_500),
    st.integers(1, 6_000),
)
def test_after_an_outage_of_any_length_one_pass_makes_no_storm(
    night: Night, answer: Callable[[Night], None], until: int, outage: int
) -> None:
    answer(night)
    night.go(NIGHT + until * MINUTE)
    awake = night.engine.now + outage * MINUTE
    told = night.wake(awake)
    recipients = Counter(t.split(":")[0] for t in told)
    assert not recipients or max(recipients.values()) == 1, f"at most one message to each: {told}"
    reminded = [n for n in night.notices if n.notice.purpose == "reminder" and n.issued_at == awake]
    assert all(n.due_at is not None and n.due_at > awake for n in reminded)
    assert not night.wake(awake), "and nothing more the next moment"


@given(st.integers(0, 400), st.integers(1, 5_000))
def test_after_an_outage_whoever_is_told_has_their_whole_time(until: int, outage: int) -> None:
    night = Night()
    night.go(NIGHT + until * MINUTE)
    awake = night.engine.now + outage * MINUTE
    night.wake(awake)
    new = {n.notice_id for n in night.notices if n.issued_at == awake and n.notice.purpose != "reminder"}
    set_now = [r for r in night.rows if r.notice_id in new and r.kind == "acknowledge"]
    assert all(r.due_at == awake + 15 * MINUTE for r in set_now)


def test_after_three_days_the_post_holders_are_asked_again_and_the_chain_begins_anew() -> None:
    night = Night()
    assert sorted(night.wake(NIGHT + 3 * DAY)) == ["desk:not_acknowledged", *AGAIN]
    assert night.case.round == 2
    night.go(night.engine.now + 60 * MINUTE)
    assert night.told.count("leadership:not_acknowledged") == 1
    assert night.told.count("desk:exhausted") == 1


def test_who_is_asked_again_is_not_reminded_as_well() -> None:
    """A holder who came late has a reminder due in the moment in which the round lapses."""
    night = Night()
    night.go(NIGHT + 350 * MINUTE)
    night.change(BOTH_POSTS[0], tenure(CHAIR, "mau-moi"))
    assert night.wake(NIGHT + 350 * MINUTE) == ["mau-moi:accountable"]
    told = night.wake(NIGHT + 361 * MINUTE)
    assert sorted(told) == ["mau-bi-thu:still_open", "mau-moi:still_open"]
    assert len(night.due("acknowledge")) == 2


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
    _all_answer(night)
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

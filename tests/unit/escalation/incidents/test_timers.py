"""What falls due is acted on once: reminder, step-up, end of the chain, lapse, idle end; after any outage no storm."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import AcknowledgementLapsed, ChainExhausted, Harm, IncidentClosed, ReportReceived, StepRaised
from tests.support import BOTH_POSTS, CHAIR, NIGHT, SECRETARY, engine, received, tenure
from tests.unit.escalation.incidents.night import (
    AGAIN,
    ANOTHER_CHAIR_AT_MIDNIGHT,
    ASKED,
    DAY,
    LAWFUL,
    MINUTE,
    REMINDED,
    Night,
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

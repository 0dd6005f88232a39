"""An open incident waits for somebody who can act, and who is told when their time is over; never for nobody."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.incidents.obligations import LONGEST_INTERVAL, Waiting, waits_for
from shared.clock import local
from shared.events import ChainExhausted, Harm, ReportReceived, StepRaised
from tests.support import BOTH_POSTS, CHAIR, NIGHT, SECRETARY, at, depth, engine, received, tenure
from tests.unit.escalation.incidents.night import (
    DAY,
    MINUTE,
    OTHER_PART,
    SUCCESSOR,
    THERE,
    Night,
    divided,
    with_directory,
)

GRAVE = Harm(deaths=3)
GONE = (tenure(SECRETARY, "mau-bi-thu", end="2023-01-10 00:00"), tenure(CHAIR, "mau-cu", end="2023-01-10 00:00"))


def verified(harm: Harm | None = None) -> Night:
    return Night(received(kind="officer", harm=harm))


def longest_silence(night: Night) -> timedelta:
    times = sorted({n.issued_at for n in night.notices} | {night.engine.now})
    return max(later - earlier for earlier, later in pairwise(times))


def told(night: Night, office: str, since: int = 0) -> list[str]:
    return [n.notice.purpose for n in night.notices[since:] if n.notice.recipient == office]


# --- a gap in the directory ---


def test_after_an_outage_the_desk_is_asked_for_a_review_once() -> None:
    """Its time and the round's are over at once: it is told that it is late, and has one time from now."""
    night = Night(received())
    for holder in ("mau-bi-thu", "mau-chu-tich"):
        night.acknowledge(holder)
    assert night.wake(NIGHT + DAY).count("desk:not_reviewed") == 1
    assert len(night.due("review")) == 1
    assert "desk:not_reviewed" not in night.go(NIGHT + DAY + 60 * MINUTE)


def test_that_nobody_held_a_post_when_it_occurred_asks_nothing_once_somebody_acts() -> None:
    """The desk is told, for nobody is accountable; there is nothing that it has to do by a time."""
    since = NIGHT - 10 * MINUTE
    held = (tenure(SECRETARY, "mau-bi-thu"), tenure(CHAIR, "mau-moi", str(local(since))[:16]))
    night = Night(received(kind="officer", occurred_at=since - MINUTE, received_at=NIGHT), using=engine(held))
    (gap,) = [n for n in night.notices if n.notice.purpose == "vacancy"]
    assert (gap.notice.posts, gap.due_at) == ((CHAIR,), None)
    assert "trước" not in gap.body
    assert "vacancy" not in night.case.pending


def test_when_both_posts_are_vacant_the_leadership_hears_after_the_desk() -> None:
    night = Night(received(kind="officer", harm=GRAVE), using=engine(GONE))
    assert night.told == ["desk:vacancy"]
    assert night.notices[0].due_at == NIGHT + 5 * MINUTE
    assert night.go(NIGHT + 6 * MINUTE) == ["leadership:vacancy"]
    assert night.notices[-1].notice.posts == (CHAIR, SECRETARY)
    assert night.go(NIGHT + 11 * MINUTE) == ["desk:exhausted"]
    assert [(d.level, d.reason, d.task) for d in night.of(StepRaised)] == [("leadership", "not_reviewed", "vacancy")]
    assert [(d.reason, d.task) for d in night.of(ChainExhausted)] == [("not_reviewed", "vacancy")]


def test_the_vacancy_of_a_post_is_said_again_at_intervals_that_grow_up_to_a_day() -> None:
    night = Night(received(kind="officer", harm=GRAVE), using=engine(GONE))
    night.go(NIGHT + 10 * DAY)
    assert longest_silence(night) <= LONGEST_INTERVAL
    assert len(night.told) < 60
    assert {n.notice.purpose for n in night.notices if n.issued_at > NIGHT + 9 * DAY} == {"vacancy", "exhausted"}


def test_a_post_that_is_filled_is_no_vacancy_any_more_and_its_holder_is_asked() -> None:
    night = Night(received(kind="officer", harm=GRAVE), using=engine(GONE))
    night.go(NIGHT + 2 * MINUTE)
    night.change(*GONE, tenure(SECRETARY, "mau-moi", "2023-01-20 00:00"), tenure(CHAIR, "mau-moi", "2023-01-20 00:00"))
    assert night.go(NIGHT + 4 * MINUTE) == ["mau-moi:accountable"]
    assert night.due("vacancy") == []


def test_a_vacancy_that_was_filled_in_an_outage_is_put_to_nobody_although_its_time_passed() -> None:
    night = Night(received(kind="officer", harm=GRAVE), using=engine(GONE))
    night.go(NIGHT + 2 * MINUTE)
    night.change(*GONE, tenure(SECRETARY, "mau-moi", "2023-01-20 00:00"), tenure(CHAIR, "mau-moi", "2023-01-20 00:00"))
    assert night.wake(NIGHT + 30 * MINUTE) == ["mau-moi:accountable"]


def test_a_unit_that_is_divided_after_the_acknowledgements_waits_for_the_desk_and_then_the_leadership() -> None:
    night = verified(GRAVE)
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    night.look_up(with_directory(units=divided(SUCCESSOR, OTHER_PART)).directory)
    night.change()
    assert night.go(at("2023-01-22 00:30"))[:3] == ["desk:unit_split", "leadership:unit_split", "desk:exhausted"]


# --- what waits for the desk ---


def test_a_proposed_closure_waits_for_the_desk_and_never_for_the_post_holders() -> None:
    night = verified(GRAVE)
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    night.propose_closure()
    before = len(night.told)
    night.go(NIGHT + 10 * DAY)
    assert {n.notice.recipient for n in night.notices[before:]} == {"desk", "leadership"}
    assert told(night, "leadership", before)[0] == "closure"
    assert night.case.state == "closure_proposed"
    assert longest_silence(night) <= LONGEST_INTERVAL


def test_what_nobody_verified_waits_for_the_desk_though_both_post_holders_acknowledged() -> None:
    night = Night(received(harm=GRAVE))
    assert night.told == ["mau-bi-thu:accountable", "mau-chu-tich:accountable"], "the desk has its time first"
    night.acknowledge("mau-bi-thu")
    night.acknowledge("mau-chu-tich")
    assert night.go(NIGHT + 31 * MINUTE) == ["desk:not_reviewed"]
    assert night.go(NIGHT + 36 * MINUTE) == ["leadership:not_reviewed"]


def test_what_the_desk_verified_waits_for_it_no_longer() -> None:
    night = Night(received(harm=GRAVE))
    night.find("verification")
    assert night.due("review") == []


def test_a_small_thing_that_nobody_verifies_is_said_again_and_again() -> None:
    night = Night(received("FIRE", harm=Harm(deaths=0, injured=0, property_vnd=0)))
    night.go(NIGHT + 10 * DAY)
    assert told(night, "desk")[:3] == ["review", "exhausted", "not_reviewed"]
    assert longest_silence(night) <= LONGEST_INTERVAL + 30 * MINUTE


def test_when_the_leadership_has_acknowledged_the_desk_is_still_waited_for() -> None:
    slight = Harm(deaths=0, injured=0, property_vnd=0)
    night = Night(received("FIRE", harm=slight))
    assert night.go(NIGHT + 31 * MINUTE) == ["leadership:not_reviewed"]
    night.report(received("FIRE", harm=slight.model_copy(update={"property_vnd": 1}), received_at=night.engine.now))
    night.acknowledge("leadership")
    assert night.due() != []
    assert "desk:not_reviewed" in night.go(NIGHT + 2 * DAY)


# --- repetition ---


@pytest.mark.parametrize("events", [(received(kind="officer", harm=GRAVE),), (received(harm=GRAVE),)])
def test_an_incident_that_nobody_answers_costs_fewer_than_sixty_messages_in_three_days(
    events: tuple[ReportReceived, ...],
) -> None:
    night = Night(*events)
    night.go(NIGHT + 3 * DAY)
    assert len(night.told) < 60
    assert longest_silence(night) <= LONGEST_INTERVAL


def test_whoever_is_asked_anew_by_a_new_decision_is_asked_at_the_first_interval_again() -> None:
    night = verified(Harm(deaths=1))
    night.go(NIGHT + 5 * DAY)
    night.report(received(kind="officer", subject="mau-can-bo-2", harm=GRAVE, received_at=night.engine.now))
    at_once = night.go(night.engine.now + 90 * MINUTE)
    assert at_once, "its severity rose"


# --- whom it waits for ---


def test_every_due_time_that_somebody_can_meet_names_them() -> None:
    night = Night(received(harm=GRAVE), using=engine((BOTH_POSTS[0],)))
    whom = {(row.kind, row.who) for row in night.rows}
    assert whom == {
        ("acknowledge", ("mau-bi-thu",)),
        ("remind", ()),
        ("review", ("desk",)),
        ("vacancy", ("desk",)),
        ("lapse", ("desk", "mau-bi-thu")),
    }


def test_what_is_due_first_is_named_first_and_nobody_twice_for_the_same() -> None:
    night = Night(received(harm=GRAVE))
    rows = [Waiting(r.kind, r.who, (), NIGHT, r.due_at, r.level) for r in night.rows if r.who]
    found = waits_for(night.case, [*reversed(rows), *rows])
    assert [(one.who, one.what) for one in found] == [
        ("mau-bi-thu", "acknowledge"),
        ("mau-chu-tich", "acknowledge"),
        ("desk", "review"),
    ]
    assert [one.due_at for one in found] == sorted(one.due_at for one in found)


# --- who answers for a second post, and whose word is whose ---


def test_who_comes_to_answer_for_a_second_post_is_asked_for_both() -> None:
    night = verified(GRAVE)
    night.acknowledge("mau-bi-thu")
    deputy = tenure(CHAIR, "mau-bi-thu").model_copy(update={"capacity": "deputy"})
    night.change(tenure(SECRETARY, "mau-bi-thu"), tenure(CHAIR, "mau-chu-tich"), deputy)
    assert night.go(NIGHT + MINUTE) == ["mau-bi-thu:still_open"]
    assert night.notices[-1].notice.posts == (CHAIR, SECRETARY)
    assert night.case.state == "notified", "the acknowledgement for one post is none for the other"
    assert night.go(NIGHT + 7 * MINUTE)[-1:] == ["desk:not_acknowledged"]
    night.acknowledge("mau-bi-thu")
    assert night.case.state == "acknowledged"


def test_a_report_that_comes_after_an_assessment_adds_its_harm_whenever_it_was_received() -> None:
    night = Night(received("FIRE", harm=Harm(deaths=0, injured=0, property_vnd=0)))
    night.find("severity", harm={"deaths": 0}, until=night.engine.now.isoformat(), reports=1)
    night.report(received("FIRE", subject="mau-2", harm=GRAVE, received_at=NIGHT - 18 * MINUTE))
    assert night.case.standing.severity == 4


# --- what no longer holds ---


def test_who_was_told_that_the_rule_applies_is_told_when_it_does_not() -> None:
    night = Night(received(harm=GRAVE))
    night.find("severity", harm={"deaths": 0, "injured": 0, "property_vnd": 0}, until=night.engine.now.isoformat())
    night.find("verification", firecrackers_exploded=False)
    assert night.told[-2:] == ["mau-bi-thu:stand_down", "mau-chu-tich:stand_down"]
    before = len(night.told)
    night.go(NIGHT + DAY)
    assert night.told[before:] == []


# --- whatever happens ---

HARMS = st.sampled_from([None, GRAVE, Harm(deaths=1), Harm(deaths=0, injured=0, property_vnd=0)])
STEPS = st.one_of(
    st.tuples(st.just("go"), st.integers(1, 3000)),
    st.tuples(st.just("acknowledge"), st.sampled_from(["mau-bi-thu", "mau-chu-tich", "desk", "leadership"])),
    st.tuples(st.just("report"), st.tuples(st.sampled_from(["device", "officer"]), HARMS)),
    st.tuples(st.just("verify"), st.sampled_from([None, True, False])),
    st.tuples(st.just("assess"), HARMS.filter(lambda harm: harm is not None)),
    st.tuples(st.just("designate"), st.booleans()),
    st.tuples(st.just("propose"), st.none()),
    st.tuples(st.just("respond"), st.none()),
    st.tuples(st.just("hands"), st.sampled_from([BOTH_POSTS, BOTH_POSTS[:1], GONE, THERE])),
)


@depth(ci=150, full=3000)
@given(st.sampled_from(["FIRE", "FIRECRACKER_SET_OFF"]), HARMS, st.lists(STEPS, max_size=25))
def test_an_open_incident_always_waits_for_somebody(
    category: str, harm: Harm | None, steps: list[tuple[str, Any]]
) -> None:
    night = Night(received(category, harm=harm))
    for what, how in steps:
        if not night.case.is_open:
            break
        take(night, what, how)
        if night.case.is_open:
            assert any(row.who for row in night.rows), f"after {what} {how} nobody is waited for"
            first = min(row.due_at for row in night.rows if row.who)
            assert first <= night.engine.now + 4 * DAY, "not for ever"


def take(night: Night, what: str, how: Any) -> None:
    if what == "go":
        night.go(night.engine.now + how * MINUTE)
    elif what == "acknowledge":
        night.acknowledge(how)
    elif what == "report":
        kind, harm = how
        night.report(received(night.case.category, kind=kind, harm=harm, received_at=night.engine.now))
    elif what == "verify":
        night.find("verification", firecrackers_exploded=how)
    elif what == "assess":
        now = night.engine.now.isoformat()
        night.find("severity", harm=how.model_dump(), until=now, reports=len(night.case.reports))
    elif what == "designate":
        night.find("designation", prominent=how)
    elif what == "propose" and night.case.state in {"acknowledged", "responding"}:
        night.propose_closure()
    elif what == "respond":
        night.respond()
    elif what == "hands":
        night.change(*how)

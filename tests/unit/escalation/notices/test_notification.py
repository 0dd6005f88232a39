"""Who is told what, once."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.model import DESK, Tenure
from services.escalation.domain.notices.notification import plan
from services.escalation.domain.rules.accountability import ReportFacts, decide
from services.escalation.domain.rules.record import Decision
from shared.events import Harm
from tests.support import CHAIR, RULEBOOK, SECRETARY, at, facts, inputs, rulebook, tenure
from tests.unit.escalation.drawn import some_reports, tenures

BOTH = frozenset({SECRETARY, CHAIR})
UNKNOWN_FIRE = facts("FIRE", kind="officer")


def told(decision: Decision, *already: tuple[str, str]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(n.recipient, n.purpose, n.posts) for n in plan(decision, dict.fromkeys(already, BOTH))]


def decided(*found: ReportFacts, **more: Any) -> Decision:
    return decide(inputs(*found, **more), RULEBOOK)


# --- who is told ---


def test_setting_off_tells_both_holders_at_once_though_it_is_not_verified() -> None:
    decision = decided(facts())
    assert decision.standing == "provisional"
    assert told(decision) == [
        ("mau-bi-thu", "accountable", (SECRETARY,)),
        ("mau-chu-tich", "accountable", (CHAIR,)),
    ]


def test_one_person_in_both_posts_gets_one_notice_for_two_parties() -> None:
    held = [tenure(SECRETARY, "mau-kiem-nhiem"), tenure(CHAIR, "mau-kiem-nhiem")]
    decision = decided(facts(), tenures=held)
    assert len(decision.parties) == 2
    assert told(decision) == [("mau-kiem-nhiem", "accountable", (CHAIR, SECRETARY))]


def test_who_holds_the_post_now_is_told_and_not_who_held_it_then() -> None:
    held = [
        tenure(SECRETARY),
        tenure(CHAIR, "mau-cu", "2021-02-01 00:00", "2023-01-25 00:00"),
        tenure(CHAIR, "mau-moi", "2023-01-25 00:00"),
    ]
    decision = decided(facts(), tenures=held, evaluated=at("2023-01-26 08:00"))
    assert [recipient for recipient, _, _ in told(decision)] == ["mau-bi-thu", "mau-moi"]


def test_a_vacant_post_is_told_to_the_desk_besides_the_other_holder() -> None:
    assert told(decided(facts(), tenures=[tenure(SECRETARY)])) == [
        ("mau-bi-thu", "accountable", (SECRETARY,)),
        (DESK, "vacancy", (CHAIR,)),
    ]


def test_a_vacancy_at_the_time_is_told_to_the_desk_though_the_post_is_filled_since() -> None:
    held = [tenure(SECRETARY), tenure(CHAIR, "mau-moi", "2023-01-24 00:00")]
    assert told(decided(facts(), tenures=held, evaluated=at("2023-01-25 08:00"))) == [
        ("mau-bi-thu", "accountable", (SECRETARY,)),
        ("mau-moi", "accountable", (CHAIR,)),
        (DESK, "vacancy", (CHAIR,)),
    ]


def test_what_does_not_apply_is_recorded_and_tells_nobody() -> None:
    assert told(decided(facts("FIRECRACKER_POSSESSION", kind="officer"))) == []


def test_an_unverified_report_of_possession_goes_to_the_desk() -> None:
    assert told(decided(facts("FIRECRACKER_POSSESSION"))) == [(DESK, "review", ())]


def test_an_unverified_fire_waits_for_the_desk_unless_life_is_at_stake() -> None:
    damage = decided(facts("FIRE", harm=Harm(property_vnd=10**9)))
    life = decided(facts("FIRE", harm=Harm(life_threatening=1)))
    assert (damage.outcome, told(damage)) == ("applies", [(DESK, "review", ())])
    assert (life.outcome, [n[1] for n in told(life)]) == ("applies", ["accountable", "accountable"])


def test_a_confirmed_serious_incident_tells_both_holders() -> None:
    decision = decided(facts("FIRE", kind="officer", harm=Harm(property_vnd=10**9)))
    assert [n[1] for n in told(decision)] == ["accountable", "accountable"]


def test_what_is_undetermined_goes_to_the_desk_verified_or_not() -> None:
    assert told(decided(UNKNOWN_FIRE)) == [(DESK, "review", ())]
    assert told(decided(facts("EXPLOSION"))) == [(DESK, "review", ())]


def test_what_is_undetermined_with_life_at_stake_tells_the_holders_and_the_desk() -> None:
    both_needed = rulebook(("requires: either", "requires: both"))
    decision = decide(inputs(facts("FIRE", harm=Harm(deaths=1))), both_needed)
    assert (decision.outcome, decision.immediate) == ("undetermined", True)
    assert [n[1] for n in told(decision)] == ["accountable", "accountable", "review"]


def test_without_a_rulebook_there_is_nobody_to_name_and_the_desk_is_told_alone() -> None:
    assert told(decide(inputs(facts(harm=Harm(deaths=1))), None)) == [(DESK, "review", ())]


def test_a_senders_clock_that_runs_ahead_is_told_to_the_desk_besides_the_holders() -> None:
    purposes = [n[1] for n in told(decided(facts(kind="officer", clock_ahead=True)))]
    assert purposes == ["accountable", "accountable", "review"]


@given(some_reports, st.lists(tenures(), max_size=4), st.booleans())
def test_whatever_is_unverified_or_open_reaches_somebody(
    found: list[ReportFacts], held: list[Tenure], designated: bool
) -> None:
    decision = decided(*found, tenures=held, designated=designated)
    if decision.outcome != "does_not_apply" or decision.standing == "provisional":
        assert told(decision)


@given(some_reports, st.lists(tenures(), max_size=4), st.sets(st.integers(0, 5)))
def test_a_notice_that_was_issued_is_never_issued_again(
    found: list[ReportFacts], held: list[Tenure], kept: set[int]
) -> None:
    decision = decided(*found, tenures=held)
    all_of_them = plan(decision, {})
    assert len({(n.recipient, n.purpose) for n in all_of_them}) == len(all_of_them)
    issued = {(n.recipient, n.purpose) for place, n in enumerate(all_of_them) if place in kept}
    rest = plan(decision, dict.fromkeys(issued, BOTH))
    assert not issued & {(n.recipient, n.purpose) for n in rest}
    assert set(rest) | {n for n in all_of_them if (n.recipient, n.purpose) in issued} == set(all_of_them)


def test_confirmation_is_not_a_second_notice() -> None:
    first = {(recipient, purpose) for recipient, purpose, _ in told(decided(facts()))}
    confirmed = decided(facts(), facts(kind="officer"))
    assert confirmed.standing == "confirmed"
    assert told(confirmed, *first) == []

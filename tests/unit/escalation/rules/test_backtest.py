"""A rulebook tried on past decisions: what it would have said, and nothing but that."""

from datetime import timedelta

import pytest

from services.escalation.domain.rules.accountability import Inputs, decide
from services.escalation.domain.rules.backtest import Difference, compare, verdict
from services.escalation.domain.rules.record import Decision
from shared.events import Harm
from tests.support import CHAIR, RULEBOOK, SECRETARY, facts, inputs, rulebook

FIRE = inputs(facts("FIRE", kind="officer", harm=Harm(deaths=0, injured=0, property_vnd=200_000_000)))
SET_OFF = inputs(facts())


def tried(of: Inputs, *changes: tuple[str, str]) -> Difference | None:
    return compare(decide(of, RULEBOOK), of, rulebook(*changes))


@pytest.mark.parametrize("of", [FIRE, SET_OFF], ids=["fire", "set off"])
def test_the_same_rule_decides_the_same(of: Inputs) -> None:
    assert tried(of) is None


@pytest.mark.parametrize(
    "change",
    [
        ('version: "2023-01-06.1"', 'version: "2024"'),
        ("valid_from: 2023-01-06T00", "valid_from: 2030-01-01T00"),
        ("radius_m: 300", "radius_m: 5"),
        ("source: Báo Thanh Hóa", "source: Báo khác"),
    ],
    ids=str,
)
def test_a_version_that_rules_the_same_differs_in_nothing_even_if_it_was_never_in_force(
    change: tuple[str, str],
) -> None:
    assert tried(FIRE, change) is None


def test_a_higher_threshold_takes_the_fire_out_of_the_rule() -> None:
    found = tried(FIRE, ("minimum_severity: 2", "minimum_severity: 3"))
    assert found is not None
    assert (found.old.outcome, found.old.limb) == ("applies", "serious")
    assert (found.new.outcome, found.new.limb) == ("does_not_apply", None)
    assert (found.incident, found.ward) == (FIRE.incident, {"code": "14776", "name": "Ba Đình"})
    assert found.by == "2023-01-06.1"


def test_another_ladder_changes_the_severity_and_with_it_the_time_to_acknowledge() -> None:
    found = tried(FIRE, ("property_vnd: 500000000", "property_vnd: 150000000"))
    assert found is not None
    assert (found.old.severity, found.old.acknowledge_minutes) == (2, 15)
    assert (found.new.severity, found.new.acknowledge_minutes) == (3, 10)


def test_other_deadlines_alone_are_a_difference() -> None:
    found = tried(SET_OFF, ("review_minutes: 30", "review_minutes: 45"))
    assert found is not None
    assert (found.old.review_minutes, found.new.review_minutes) == (30, 45)
    assert found.old.outcome == found.new.outcome


def test_a_rule_that_names_another_post_is_a_difference() -> None:
    found = tried(SET_OFF, ("key: chair", "key: police_chief"))
    assert found is not None
    assert (found.old.posts, found.new.posts) == ((CHAIR, SECRETARY), (SECRETARY, "police_chief"))


def test_what_was_decided_without_any_rulebook_is_compared_too() -> None:
    without = SET_OFF.model_copy(update={"rulebook_version": None})
    found = compare(decide(without, None), without, RULEBOOK)
    assert found is not None
    assert (found.by, found.old.outcome, found.old.acknowledge_minutes) == (None, "undetermined", None)
    assert found.new.outcome == "applies"


def test_what_counts_as_decided_is_the_stored_record_and_not_what_the_program_says_today() -> None:
    record = decide(FIRE, RULEBOOK).model_dump(mode="json") | {"severity": 4}
    found = compare(Decision.model_validate(record), FIRE, RULEBOOK)
    assert found is not None
    assert (found.old.severity, found.new.severity) == (4, 2)


def test_times_are_minutes_from_the_decision_whenever_it_was_made() -> None:
    later = inputs(facts(), evaluated=SET_OFF.evaluated_at + timedelta(hours=5))
    assert verdict(decide(later, RULEBOOK)) == verdict(decide(SET_OFF, RULEBOOK))


def test_a_difference_is_one_line_that_a_person_can_read() -> None:
    found = tried(FIRE, ("minimum_severity: 2", "minimum_severity: 3"), ("review_minutes: 30", "review_minutes: 45"))
    assert str(found) == (
        "vu-viec-1 Ba Đình 2023-01-21 23:50: applies (serious), severity 2, 15 min → does_not_apply, severity 2, 15 min"
        "; review_minutes 30 → 45"
    )
    exercise = SET_OFF.model_copy(update={"exercise": True, "rulebook_version": None})
    without = compare(decide(exercise, None), exercise, RULEBOOK)
    assert str(without).startswith("vu-viec-1 Ba Đình 2023-01-21 23:50 (exercise): undetermined, severity unknown → ")
    assert "; posts none → chair, party_secretary" in str(without)

"""When the rule of 6 January 2023 applies, and by which limb."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.model import Tenure
from services.escalation.domain.rules.accountability import Inputs, ReportFacts, decide
from services.escalation.domain.rules.record import Decision, ReportSet, record_bytes
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from shared.events import Firecracker, Harm
from shared.taxonomy import categories
from tests.support import BOTH_POSTS, RULEBOOK, SECRETARY, facts, inputs, rulebook, tenure
from tests.unit.escalation.drawn import (
    POSSESSION_ONLY,
    harms,
    maybe_bools,
    reports,
    some_reports,
    tenures,
)

BOTH_NEEDED = rulebook(("requires: either", "requires: both"))
UNKNOWN_HARM_TO_THE_DESK = (
    "FIRE",
    "EXPLOSION",
    "TRAFFIC_ACCIDENT",
    "ILLEGAL_RACING",
    "THEFT_ROBBERY",
    "VIOLENT_CRIME",
    "PUBLIC_ORDER_HARM",
    "OTHER_SERIOUS",
)


def decided(*found: ReportFacts, adopted: AdoptedRulebook | None = RULEBOOK, designated: bool = False) -> Decision:
    return decide(inputs(*found, designated=designated), adopted)


# --- the firecracker limb: nổ pháo trái phép ---


@given(
    st.builds(Firecracker, explosion_sound=st.none() | st.just(True), licensed=st.none() | st.just(False)),
    st.none() | harms,
    st.lists(reports(), max_size=4),
)
def test_setting_off_applies_by_the_firecracker_limb_whatever_else_is_reported(
    firecracker: Firecracker, harm: Harm | None, others: list[ReportFacts]
) -> None:
    decision = decided(facts(firecracker=firecracker, harm=harm), *others)
    assert (decision.outcome, decision.limb) == ("applies", "firecracker")
    assert decision.immediate, "setting off tells the holders at once"


def test_setting_off_applies_when_nothing_more_is_known() -> None:
    assert decided(facts(firecracker=None)).limb == "firecracker"


@given(maybe_bools.filter(lambda licensed: licensed is not False))
def test_fireworks_without_an_explosion_sound_are_not_firecrackers(licensed: bool | None) -> None:
    decision = decided(facts(firecracker=Firecracker(explosion_sound=False, licensed=licensed)))
    assert decision.outcome == "does_not_apply"


def test_soundless_fireworks_without_a_licence_are_looked_at_by_the_desk() -> None:
    decision = decided(facts(firecracker=Firecracker(explosion_sound=False, licensed=False)))
    assert (decision.outcome, decision.limb, decision.immediate) == ("undetermined", None, False)


@given(st.none() | st.just(True))
def test_an_explosion_that_is_called_licensed_is_looked_at_by_the_desk(sound: bool | None) -> None:
    decision = decided(facts(firecracker=Firecracker(explosion_sound=sound, licensed=True)))
    assert decision.outcome == "undetermined"


@given(
    st.lists(reports(st.sampled_from(sorted({*categories()} - {"FIRECRACKER_SET_OFF"}))), min_size=1, max_size=5),
    st.booleans(),
)
def test_nothing_but_setting_off_reaches_the_firecracker_limb(found: list[ReportFacts], designated: bool) -> None:
    assert decided(*found, designated=designated).limb != "firecracker"


@given(st.lists(reports(st.sampled_from(POSSESSION_ONLY)), min_size=1, max_size=4))
def test_possession_and_trade_reach_the_rule_by_the_serious_limb_only(found: list[ReportFacts]) -> None:
    decision = decided(*found)
    serious = decision.severity is not None and decision.severity >= 2
    assert decision.outcome == ("applies" if serious else "does_not_apply")
    assert decision.limb == ("serious" if serious else None)


@pytest.mark.parametrize("category", ["EXPLOSION", "FIRECRACKER_MANUFACTURE"])
def test_whether_firecrackers_exploded_stays_open_until_somebody_finds_out(category: str) -> None:
    without_harm = Harm(deaths=0, injured=0, property_vnd=0)
    decision = decided(facts(category, harm=without_harm))
    assert decision.severity == 1
    assert (decision.outcome, decision.limb) == ("undetermined", None)


# --- the serious limb: nghiêm trọng, nổi cộm ---


@given(some_reports)
def test_unknown_severity_never_meets_the_serious_limb(found: list[ReportFacts]) -> None:
    decision = decided(*found)
    if decision.severity is None:
        assert decision.limb != "serious"


@pytest.mark.parametrize("category", UNKNOWN_HARM_TO_THE_DESK)
def test_unknown_is_not_zero_and_the_desk_finds_out(category: str) -> None:
    decision = decided(facts(category))
    assert decision.severity is None
    assert decision.outcome == "undetermined"


@pytest.mark.parametrize("category", sorted({*categories()} - {"CONGESTION"}))
@pytest.mark.parametrize(
    ("harm", "severity"),
    [
        (Harm(deaths=1), 2),
        (Harm(deaths=2), 3),
        (Harm(deaths=3), 4),
        (Harm(injury_percent=61), 2),
        (Harm(injury_percent=122), 3),
        (Harm(injury_percent=201), 4),
        (Harm(life_threatening=1), 2),
        (Harm(property_vnd=100_000_000), 2),
        (Harm(property_vnd=500_000_000), 3),
        (Harm(property_vnd=1_500_000_000), 4),
    ],
)
def test_severity_two_or_more_applies_by_the_serious_limb(category: str, harm: Harm, severity: int) -> None:
    soundless = Firecracker(explosion_sound=False)
    decision = decided(facts(category, harm=harm, firecracker=soundless))
    assert (decision.outcome, decision.limb, decision.severity) == ("applies", "serious", severity)


@pytest.mark.parametrize(
    "harm",
    [
        Harm(deaths=0, injured=0, property_vnd=99_999_999),
        Harm(deaths=0, injured=3, injury_percent=60, property_vnd=0),
        Harm(deaths=0, life_threatening=0, property_vnd=0),
    ],
)
def test_a_fire_known_to_be_slight_is_severity_one_and_outside_the_rule(harm: Harm) -> None:
    decision = decided(facts("FIRE", harm=harm))
    assert (decision.outcome, decision.severity) == ("does_not_apply", 1)


@given(harms, st.booleans())
def test_congestion_is_prominent_by_designation_only(harm: Harm, designated: bool) -> None:
    decision = decided(facts("CONGESTION", harm=harm), designated=designated)
    assert decision.limb == ("serious" if designated else None)
    assert decision.outcome == ("applies" if designated else "does_not_apply")


@given(st.lists(reports(st.just("FIRE")), min_size=1, max_size=3), st.booleans())
def test_either_word_suffices_or_both_are_needed_as_the_rulebook_says(
    found: list[ReportFacts], designated: bool
) -> None:
    either = decided(*found, designated=designated)
    both = decided(*found, adopted=BOTH_NEEDED, designated=designated)
    serious = either.severity is not None and either.severity >= 2
    assert (either.outcome == "applies") == (serious or designated)
    assert (both.outcome == "applies") == (serious and designated)
    if serious and not designated:
        assert both.outcome == "undetermined", "serious, and prominent or not is for the desk"


def test_the_firecracker_limb_is_named_before_the_serious_one() -> None:
    assert decided(facts(harm=Harm(deaths=2))).limb == "firecracker"


# --- severity ---


@given(harms)
def test_a_measure_that_nobody_gave_never_makes_severity_one(harm: Harm) -> None:
    severity = RULEBOOK.rulebook.severity_of(harm)
    unknown_injury = harm.injury_percent is None and harm.life_threatening is None and harm.injured != 0
    if severity == 1:
        assert harm.deaths == 0
        assert harm.property_vnd is not None
        assert not unknown_injury


@given(some_reports, reports())
def test_another_report_never_lowers_severity(found: list[ReportFacts], another: ReportFacts) -> None:
    before, after = decided(*found).severity, decided(*found, another).severity
    assert before is None or (after is not None and after >= before)


@given(some_reports, reports())
def test_another_report_never_takes_the_rule_away(found: list[ReportFacts], another: ReportFacts) -> None:
    before, after = decided(*found), decided(*found, another)
    if before.outcome == "applies":
        assert after.outcome == "applies"
    if before.limb == "firecracker":
        assert after.limb == "firecracker"


@given(some_reports)
def test_life_at_stake_is_told_at_once(found: list[ReportFacts]) -> None:
    at_stake = any(r.harm is not None and (r.harm.deaths or r.harm.life_threatening) for r in found)
    decision = decided(*found)
    assert decision.immediate == (at_stake or decision.limb == "firecracker")


# --- the record ---


@given(some_reports, st.permutations(range(5)), st.lists(tenures(), max_size=4))
def test_the_order_in_which_reports_came_does_not_matter(
    found: list[ReportFacts], order: list[int], held: list[Tenure]
) -> None:
    shuffled = [found[i] for i in order if i < len(found)]
    one, other = inputs(*found, tenures=held), inputs(*shuffled, tenures=held)
    assert record_bytes(decide(one, RULEBOOK)) == record_bytes(decide(other, RULEBOOK))


@given(some_reports, st.booleans(), st.booleans(), st.sampled_from([RULEBOOK, BOTH_NEEDED, None]))
def test_a_decision_computed_again_from_its_stored_inputs_is_the_same_byte_for_byte(
    found: list[ReportFacts], designated: bool, exercise: bool, adopted: AdoptedRulebook | None
) -> None:
    first = inputs(*found, designated=designated, exercise=exercise)
    stored = Inputs.model_validate_json(first.model_dump_json())
    assert record_bytes(decide(first, adopted)) == record_bytes(decide(stored, adopted))


@given(some_reports, st.sampled_from([RULEBOOK, None]))
def test_a_decision_record_comes_back_from_its_bytes(found: list[ReportFacts], adopted: AdoptedRulebook | None) -> None:
    decision = decide(inputs(*found), adopted)
    assert Decision.model_validate_json(record_bytes(decision)) == decision


def test_the_record_cites_the_sentence_it_applies_and_the_hash_of_its_rulebook() -> None:
    record = decided(facts()).rulebook
    assert record is not None
    assert record.version == "2023-01-06.1"
    assert len(record.sha256) == 64
    assert "Bí thư Đảng ủy" in record.citation_vi
    assert "must answer for it" in record.citation_en


def test_without_a_rulebook_in_force_it_stays_undetermined_and_names_nobody() -> None:
    decision = decide(inputs(facts(harm=Harm(deaths=3)), tenures=[tenure()]), None)
    assert (decision.outcome, decision.limb, decision.severity) == ("undetermined", None, None)
    assert decision.parties == ()
    assert decision.rulebook is None
    assert decision.reasons == ("no rulebook was in force at the time of occurrence",)


@given(some_reports)
def test_no_decision_calls_anybody_guilty(found: list[ReportFacts]) -> None:
    text = record_bytes(decided(*found)).decode().casefold()
    assert not [word for word in ("guilty", "liable", "có tội", "vi phạm", "at fault") if word in text]


@given(some_reports)
def test_a_report_that_says_the_same_again_makes_no_other_decision(found: list[ReportFacts]) -> None:
    again = found[0].model_copy(update={"report_id": "tin-bao-khac"})
    assert not decided(*found, again).differs_from(decided(*found))


# --- format 2 ---


def test_the_reports_are_named_by_their_count_and_root_whatever_their_order() -> None:
    one, two = facts(report_id="b"), facts(report_id="a", subject="cam-bien-2")
    records = [decide(inputs(*found), RULEBOOK) for found in ((one, two), (two, one))]
    assert {record_bytes(record) for record in records} == {record_bytes(records[0])}
    assert records[0].reports == ReportSet(count=2, root=hashlib.sha256(b"a\nb\n").hexdigest())


def test_a_record_has_no_free_text_and_is_the_same_once_that_was_erased() -> None:
    deputy = tenure(SECRETARY, "mau-pho").model_copy(update={"capacity": "deputy", "reason": "nghỉ ốm"})
    quoting = inputs(tenures=[*BOTH_POSTS, deputy])
    erased = quoting.model_copy(update={"tenures": (*BOTH_POSTS, deputy.model_copy(update={"reason": None}))})
    assert "nghỉ ốm" in record_bytes(decide(quoting.model_copy(update={"format": None}), RULEBOOK)).decode()
    assert "nghỉ ốm" not in record_bytes(decide(quoting, RULEBOOK)).decode()
    assert record_bytes(decide(quoting, RULEBOOK)) == record_bytes(decide(erased, RULEBOOK))


def test_however_many_reports_there_are_the_record_stays_as_small() -> None:
    many = [facts(report_id=f"tin-{n}") for n in range(10_000)]
    assert len(record_bytes(decide(inputs(*many), RULEBOOK))) < 4_000

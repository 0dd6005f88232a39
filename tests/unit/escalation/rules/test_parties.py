"""How sure a decision is, and whom it names: the holder at the time of occurrence, and the present one."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.rules.accountability import (
    Inputs,
    ReportFacts,
    combined_harm,
    decide,
    is_verified,
    time_of_occurrence,
)
from services.escalation.domain.rules.record import Decision, Party
from shared.events import Harm
from tests.support import BOTH_POSTS, CHAIR, NIGHT, RULEBOOK, SECRETARY, SourceKind, at, facts, inputs, rulebook, tenure
from tests.unit.escalation.drawn import harms, instants, reports, some_reports

UNVERIFIED: tuple[SourceKind, ...] = ("device", "desk", "admin")


def standing(*found: ReportFacts) -> str:
    return decide(inputs(*found), RULEBOOK).standing


def party(post: str, given_: Inputs) -> Party:
    (found,) = (p for p in decide(given_, RULEBOOK).parties if p.post == post)
    return found


def holder_ids(found: Party) -> tuple[str | None, str | None]:
    """Accountable, present."""
    return (
        found.accountable.holder_id if found.accountable else None,
        found.present.holder_id if found.present else None,
    )


# --- provisional or confirmed ---


def test_an_officers_report_is_verified_by_itself() -> None:
    assert standing(facts(kind="officer")) == "confirmed"


@pytest.mark.parametrize("kind", UNVERIFIED)
def test_one_unverified_source_leaves_it_provisional(kind: SourceKind) -> None:
    assert standing(facts(kind=kind)) == "provisional"


def test_five_neighbours_through_one_hotline_are_one_source() -> None:
    assert standing(*(facts(kind="desk", subject="tong-dai") for _ in range(5))) == "provisional"


def test_a_second_credential_confirms() -> None:
    assert standing(facts(subject="cam-bien-1"), facts(subject="cam-bien-2")) == "confirmed"


@given(some_reports)
def test_confirmed_takes_an_officer_or_two_credentials_with_plausible_clocks(found: list[ReportFacts]) -> None:
    trusted = [r for r in found if not r.clock_ahead]
    verified = any(r.source.kind == "officer" for r in trusted) or len({r.source.subject for r in trusted}) >= 2
    assert is_verified(found) == verified
    decision = decide(inputs(*found), RULEBOOK)
    assert decision.standing == ("confirmed" if verified and not decision.disputed else "provisional")
    assert verified or not decision.disputed


@given(some_reports, reports(clock_ahead=st.just(False)))
def test_another_report_never_takes_the_confirmation_of_a_ruling_back(
    found: list[ReportFacts], another: ReportFacts
) -> None:
    before, after = decide(inputs(*found), RULEBOOK), decide(inputs(*found, another), RULEBOOK)
    if before.standing == "confirmed" and before.limb == after.limb:
        assert after.standing == "confirmed"


# --- a sender's clock that runs ahead ---


def test_what_a_person_called_prominent_an_officer_confirms_however_slight_the_harm() -> None:
    """The ruling rests on the designation then, which no figure of harm denies."""
    slight = facts("FIRE", kind="officer", harm=Harm(deaths=0, injured=0, property_vnd=0))
    decision = decide(inputs(slight, designated=True), RULEBOOK)
    assert (decision.limb, decision.standing, decision.disputed) == ("serious", "confirmed", False)


def test_an_officers_report_from_the_future_is_not_confirmed() -> None:
    decision = decide(inputs(facts(kind="officer", clock_ahead=True)), RULEBOOK)
    assert (decision.standing, decision.clock_ahead) == ("provisional", True)


def test_a_plausible_clock_that_joins_takes_the_flag_away() -> None:
    decision = decide(inputs(facts(clock_ahead=True), facts(kind="officer")), RULEBOOK)
    assert (decision.standing, decision.clock_ahead) == ("confirmed", False)


@given(instants, st.timedeltas(timedelta(days=-20), timedelta(days=20)))
def test_nothing_is_reported_before_it_happened(received_at: datetime, off: timedelta) -> None:
    occurred = time_of_occurrence(received_at + off, received_at)
    assert occurred <= received_at
    assert occurred == (received_at + off if off <= timedelta(0) else received_at)
    assert occurred.utcoffset() == timedelta(0)


# --- harm ---


@given(st.lists(harms, max_size=4))
def test_each_measure_counts_at_its_highest_and_stays_unknown_where_nobody_gave_it(given_: list[Harm]) -> None:
    combined = combined_harm(given_)
    for measure in Harm.model_fields:
        figures = [f for f in (getattr(h, measure) for h in given_) if f is not None]
        assert getattr(combined, measure) == max(figures, default=None)


# --- the two posts ---


def test_both_post_holders_are_named_each_for_their_own_post() -> None:
    parties = decide(inputs(facts()), RULEBOOK).parties
    assert [(p.post, *holder_ids(p)) for p in parties] == [
        (SECRETARY, "mau-bi-thu", "mau-bi-thu"),
        (CHAIR, "mau-chu-tich", "mau-chu-tich"),
    ]
    assert not any(p.changed for p in parties)


def test_the_holder_at_the_time_of_occurrence_answers_and_the_present_one_is_told() -> None:
    held = [
        tenure(CHAIR, "mau-chu-tich", "2021-02-01 00:00", "2023-01-25 00:00"),
        tenure(CHAIR, "mau-chu-tich-2", "2023-01-25 00:00", acting=True),
    ]
    found = party(CHAIR, inputs(tenures=held, evaluated=at("2023-01-26 09:00")))
    assert holder_ids(found) == ("mau-chu-tich", "mau-chu-tich-2")
    assert found.changed
    assert found.accountable is not None
    assert found.present is not None
    assert (found.accountable.acting, found.present.acting) == (False, True)
    assert found.accountable.document == "QĐ mẫu số 1"


@pytest.mark.parametrize(
    ("occurred", "holder"),
    [("2023-01-24 23:59", "mau-chu-tich"), ("2023-01-25 00:00", "mau-chu-tich-2")],
)
def test_a_post_changes_hands_at_midnight_in_the_city(occurred: str, holder: str) -> None:
    held = [
        tenure(CHAIR, "mau-chu-tich", "2021-02-01 00:00", "2023-01-25 00:00"),
        tenure(CHAIR, "mau-chu-tich-2", "2023-01-25 00:00"),
    ]
    assert holder_ids(party(CHAIR, inputs(tenures=held, occurred=at(occurred)))) == (holder, holder)


def test_a_vacant_post_stays_in_the_decision_as_a_party_without_a_holder() -> None:
    parties = decide(inputs(tenures=[tenure(SECRETARY)]), RULEBOOK).parties
    assert [p.post for p in parties] == [SECRETARY, CHAIR]
    assert holder_ids(parties[1]) == (None, None)


def test_a_vacancy_at_the_time_that_was_filled_since_names_the_new_holder_as_present_only() -> None:
    held = [tenure(CHAIR, "mau-moi", "2023-01-24 00:00")]
    found = party(CHAIR, inputs(tenures=held, evaluated=at("2023-01-25 08:00")))
    assert holder_ids(found) == (None, "mau-moi")
    assert found.changed


def test_one_person_in_both_posts_is_two_parties() -> None:
    held = [tenure(SECRETARY, "mau-kiem-nhiem"), tenure(CHAIR, "mau-kiem-nhiem")]
    parties = decide(inputs(tenures=held), RULEBOOK).parties
    assert [(p.post, *holder_ids(p)) for p in parties] == [
        (SECRETARY, "mau-kiem-nhiem", "mau-kiem-nhiem"),
        (CHAIR, "mau-kiem-nhiem", "mau-kiem-nhiem"),
    ]


def test_what_was_recorded_after_the_evaluation_does_not_change_it() -> None:
    late = tenure(CHAIR, "mau-ghi-muon", "2023-01-01 00:00", recorded="2023-02-01 08:00")
    assert holder_ids(party(CHAIR, inputs(tenures=[late]))) == (None, None)


# --- deadlines ---


@pytest.mark.parametrize(
    ("harm", "minutes"),
    [
        (Harm(deaths=3), 5),
        (Harm(deaths=2), 10),
        (Harm(deaths=1), 15),
        (Harm(deaths=0, injured=0, property_vnd=0), 30),
        (None, 15),
    ],
)
def test_the_more_severe_the_sooner_and_unknown_counts_as_two(harm: Harm | None, minutes: int) -> None:
    evaluated = NIGHT + timedelta(minutes=3)
    deadlines = decide(inputs(facts(harm=harm), evaluated=evaluated), RULEBOOK).deadlines
    assert deadlines is not None
    assert deadlines.acknowledge_by == evaluated + timedelta(minutes=minutes)
    assert deadlines.review_by == evaluated + timedelta(minutes=30)


def test_minutes_and_posts_are_the_rulebooks_to_say() -> None:
    other = rulebook(("{4: 5, 3: 10, 2: 15, 1: 30}", "{4: 1, 3: 2, 2: 3, 1: 4}"))
    deadlines = decide(inputs(facts(harm=Harm(deaths=3))), other).deadlines
    assert deadlines is not None
    assert deadlines.acknowledge_by == NIGHT + timedelta(minutes=1)


def test_another_result_is_another_decision_and_a_later_time_alone_is_not() -> None:
    def decision(*found: ReportFacts, **more: Any) -> Decision:
        return decide(inputs(*found, tenures=BOTH_POSTS, **more), RULEBOOK)

    first = decision(facts())
    later = decision(facts(), evaluated=NIGHT + timedelta(minutes=5))
    assert not later.differs_from(first)
    assert decision(facts(kind="officer")).differs_from(first), "confirmed"
    assert decision(facts(harm=Harm(deaths=1))).differs_from(first), "severity"

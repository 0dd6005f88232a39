"""When reports of one incident lie on both sides of a change of hands: the desk says who answers, never the order."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents import lifecycle, obligations
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.grouping import assign
from services.escalation.domain.incidents.incident import Case, as_case
from services.escalation.domain.incidents.report import occurrence_of
from services.escalation.domain.rules.record import record_bytes
from services.escalation.domain.rules.replay import replay
from shared.events import Harm, ReportReceived
from tests.support import CHAIR, RULEBOOK, SECRETARY, at, engine, received, route, rulebook, tenure
from tests.unit.escalation.incidents.night import ANOTHER_CHAIR_AT_MIDNIGHT, MINUTE, SLIGHT, Night

MIDNIGHT = at("2023-01-22 00:00")
HALF_PAST = MIDNIGHT + 30 * MINUTE


def said(
    minutes: int, subject: str = "cam-bien-1", category: str = "FIRECRACKER_SET_OFF", **more: Any
) -> ReportReceived:
    """A report that says so many minutes from midnight, and comes at half past."""
    occurred_at = MIDNIGHT + timedelta(minutes=minutes)
    return received(category, occurred_at=occurred_at, received_at=HALF_PAST, subject=subject, **more)


def using() -> IncidentEngine:
    return engine(ANOTHER_CHAIR_AT_MIDNIGHT, now=HALF_PAST)


def named(case: Case, post: str = CHAIR) -> set[str]:
    (party,) = (p for p in case.standing.parties if p.post == post)
    return {h.holder_id for h in (party.accountable, *(party.contested or ())) if h}


def asked_of_desk(found: IncidentEngine) -> list[tuple[str, ...]]:
    return [n.notice.posts for n in found.changes.notices if (n.notice.recipient, n.notice.purpose) == (DESK, "review")]


@pytest.mark.parametrize("order", [(-5, 5), (5, -5)], ids=["before first", "after first"])
def test_who_answers_is_disputed_whichever_report_comes_first(order: tuple[int, int]) -> None:
    night = Night(*(said(minutes) for minutes in order), using=using())
    decision = night.case.standing
    assert (decision.disputed, decision.time_disputed) == (True, True)
    assert named(night.case) == {"mau-cu", "mau-moi"}
    assert named(night.case, SECRETARY) == {"mau-bi-thu"}
    assert [n.notice.posts for n in night.notices if n.notice.recipient == DESK] == [(CHAIR,)]
    assert obligations.desk_tasks(night.case) == {"review"}
    assert [r.due_at for r in night.rows if r.kind == "review"] == [HALF_PAST + 30 * MINUTE]


def test_both_who_may_answer_are_named_and_neither_acts_at_the_desk() -> None:
    night = Night(said(-5), said(5), using=using())
    refused = [lifecycle.interested("desk", who, night.case.standing) for who in ("mau-cu", "mau-moi", "mau-truc-ban")]
    assert [r.status if r else None for r in refused] == [403, 403, None]


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=6).flatmap(st.permutations), st.data())
def test_in_any_order_and_batches_the_same_are_named_and_who_is_not_alone_is_disputed(
    minutes: Sequence[int], data: st.DataObject
) -> None:
    found, events = using(), [said(m, f"cam-bien-{place % 3}") for place, m in enumerate(minutes)]
    while events:
        size = data.draw(st.integers(1, len(events)))
        route(found, *events[:size])
        events = events[size:]
    cases = [as_case(incident) for incident in found.changes.incidents.values()]
    assert set[str]().union(*map(named, cases)) == {"mau-cu" if m < 0 else "mau-moi" for m in minutes}
    for case in cases:
        assert bool(case.standing.time_disputed) == (len(named(case)) > 1)
        assert ("review" in case.pending) == (case.standing.standing == "provisional" or len(named(case)) > 1)


@given(st.permutations([-9, -5, 5, 12]))
def test_the_desk_is_told_of_it_once_whatever_comes_after(minutes: Sequence[int]) -> None:
    found = using()
    for m in minutes:
        route(found, said(m, kind="officer"))
    assert asked_of_desk(found) == [(CHAIR,)]


def test_a_report_that_repeats_what_was_said_is_looked_at_when_its_time_is_one_of_another_holder() -> None:
    """Which would otherwise be filed without its incident's history."""
    found = using()
    route(found, said(5))
    for minute, is_weighed in ((6, False), (-5, True)):
        report = said(minute)
        assert assign(found, report, occurrence_of(report)).matters is is_weighed


def test_the_desk_is_told_of_a_dispute_although_it_has_reviewed_the_incident() -> None:
    night = Night(said(5), using=using())
    night.find("verification")
    assert obligations.desk_tasks(night.case) == set()
    night.report(said(-5, "cam-bien-2"))
    assert night.told[-1] == "desk:review"
    assert obligations.desk_tasks(night.case) == {"review"}


def test_verifying_it_does_not_say_when_it_was() -> None:
    night = Night(said(5), said(-5), using=using())
    night.find("verification")
    assert (night.case.standing.standing, night.case.standing.time_disputed) == ("confirmed", True)
    refused = lifecycle.may_close(night.case.standing, is_ack_pending=False)
    assert refused is not None
    assert "correct the time" in refused.reason


def test_what_the_rule_does_not_apply_to_is_not_disputed() -> None:
    night = Night(said(5, category="FIRE", harm=SLIGHT), said(-5, category="FIRE", harm=SLIGHT), using=using())
    assert (night.case.standing.outcome, night.case.standing.disputed) == ("does_not_apply", False)


def test_a_time_at_which_nobody_held_the_post_is_disputed_too() -> None:
    held = (tenure(SECRETARY, "mau-bi-thu"), tenure(CHAIR, "mau-moi", "2023-01-22 00:00"))
    night = Night(said(5), said(-5), using=engine(held, now=HALF_PAST))
    assert (night.case.standing.time_disputed, named(night.case)) == (True, {"mau-moi"})


def test_a_time_for_which_another_rulebook_was_in_force_is_disputed_too() -> None:
    started = rulebook(("valid_from: 2023-01-06T", "valid_from: 2023-01-22T"))
    found = engine(now=HALF_PAST, rulebooks=[started])
    night = Night(said(5), said(-5), using=found)
    assert (night.case.standing.outcome, night.case.standing.time_disputed) == ("applies", True)


def test_a_change_of_hands_that_no_report_lies_beyond_is_no_dispute() -> None:
    night = Night(said(-5), said(-1), using=using())
    assert (night.case.standing.disputed, named(night.case)) == (False, {"mau-cu"})


def test_a_disputed_decision_is_computed_again_byte_for_byte() -> None:
    found = using()
    route(found, *(said(minutes, harm=Harm(deaths=1)) for minutes in (-5, 5)))
    (made,) = found.changes.decisions
    assert made.decision.time_disputed
    books = {RULEBOOK.rulebook.version: RULEBOOK}
    stored = made.inputs.model_dump(mode="json")
    assert replay(made.decision_id, stored, record_bytes(made.decision), books).equal

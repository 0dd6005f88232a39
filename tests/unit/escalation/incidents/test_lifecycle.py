"""Which action leads from which state to which, and who may take it: a ward's own never end or lower their incident."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.incidents.lifecycle import (
    ACKNOWLEDGED_STATES,
    ACTIONS,
    FINAL,
    FROM,
    OPEN,
    STATES,
    WHO,
    Action,
    State,
    after,
    after_acknowledgement,
    after_notice,
    lowers,
    may_close,
    refusal,
)
from services.escalation.domain.rules.accountability import decide
from services.escalation.domain.rules.record import Decision
from shared.events import Firecracker
from shared.http.identity import ROLES
from tests.support import RULEBOOK, facts, inputs

CITYS_ALONE: tuple[Action, ...] = (
    "verify",
    "dismiss",
    "designate",
    "merge",
    "split",
    "hand_off",
    "reassign",
    "correct",
    "close",
    "reopen",
)
actions: st.SearchStrategy[Action] = st.sampled_from(ACTIONS)
states: st.SearchStrategy[State] = st.sampled_from(STATES)
severities = st.none() | st.integers(1, 4)
LAWFUL = Firecracker(explosion_sound=False, licensed=True)


# --- who may ---


@pytest.mark.parametrize("action", CITYS_ALONE)
@pytest.mark.parametrize("role", sorted(set(ROLES) - {"desk"}))
def test_what_ends_joins_divides_or_confirms_an_incident_is_the_citys_alone(action: Action, role: str) -> None:
    for state in STATES:
        refused = refusal(action, role, state)
        assert refused is not None
        assert refused.status == 403
        assert role in refused.reason


@given(actions, st.sampled_from(ROLES), states)
def test_each_action_is_allowed_or_refused_with_a_reason_that_names_the_way_out(
    action: Action, role: str, state: State
) -> None:
    refused = refusal(action, role, state)
    if refused is None:
        assert role in WHO[action]
        assert state in FROM[action]
        return
    assert refused.status == (403 if role not in WHO[action] else 409)
    assert "\n" not in refused.reason
    names = WHO[action] if refused.status == 403 else FROM[action]
    assert all(name in refused.reason for name in names)


@given(actions, states)
def test_who_may_not_learns_nothing_of_the_state(action: Action, state: State) -> None:
    refused = refusal(action, "auditor", state)
    assert refused is not None
    assert state not in refused.reason.split()


# --- from where to where ---


@given(actions, states)
def test_an_end_is_left_by_reopening_alone_and_never_after_a_merge(action: Action, state: State) -> None:
    allowed = any(refusal(action, role, state) is None for role in ROLES)
    if state in FINAL:
        assert allowed == (action == "reopen" and state != "merged")
    elif action == "reopen":
        assert not allowed


@given(actions, states)
def test_only_dismissing_merging_handing_off_and_closing_end_an_incident(action: Action, state: State) -> None:
    if state in FROM[action]:
        ends = after(action, state) in FINAL
        assert ends == (action in {"dismiss", "merge", "hand_off", "close"})


def test_every_action_has_who_may_take_it_and_from_where() -> None:
    assert set(WHO) == set(FROM) == set(ACTIONS)
    assert set(STATES) == OPEN | FINAL
    assert ACKNOWLEDGED_STATES < OPEN


@given(states)
def test_a_response_before_anybody_acknowledged_leaves_the_incident_asking(state: State) -> None:
    if state in OPEN:
        assert after("respond", state) == ("responding" if state in ACKNOWLEDGED_STATES else state)


@given(states)
def test_telling_and_answering_move_between_notified_and_acknowledged_only(state: State) -> None:
    assert after_notice(state) == ("notified" if state in {"received", "notified", "acknowledged"} else state)
    assert after_acknowledgement(state) == ("acknowledged" if state == "notified" else state)


# --- closing ---


def decided(*reports: object, **more: object) -> Decision:
    return decide(inputs(*reports, **more), RULEBOOK)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decision", "is_ack_pending", "reason"),
    [
        (decided(facts("FIRE")), False, "not determined"),
        (decided(facts("FIRE"), verified=True), False, "not determined"),
        (decided(), False, "not verified"),
        (decided(facts(), facts(kind="officer", firecracker=LAWFUL)), False, "not determined"),
        (decided(verified=True), True, "still asked"),
        (decided(verified=True), False, None),
        (decided(facts("FIRECRACKER_POSSESSION")), False, None),
    ],
    ids=str,
)
def test_nothing_is_closed_that_nobody_looked_at_or_while_somebody_is_asked(
    decision: Decision, is_ack_pending: bool, reason: str | None
) -> None:
    refused = may_close(decision, is_ack_pending=is_ack_pending)
    if reason is None:
        assert refused is None
    else:
        assert refused is not None
        assert refused.status == 409
        assert reason in refused.reason


# --- lowering ---


@given(severities, severities)
def test_a_severity_is_lowered_or_raised_or_the_same(a: int | None, b: int | None) -> None:
    assert [lowers(a, b), lowers(b, a), a == b].count(True) == 1


@given(severities, severities, severities)
def test_what_is_lower_than_a_lower_one_is_lower(a: int | None, b: int | None, c: int | None) -> None:
    if lowers(a, b) and lowers(b, c):
        assert lowers(a, c)


def test_unknown_may_be_anything_but_slight() -> None:
    assert lowers(1, None)
    assert not lowers(2, None)
    assert lowers(None, 2)

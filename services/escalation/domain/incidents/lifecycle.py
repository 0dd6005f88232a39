"""The states of an incident, the actions that lead from one to another, and who may take them. Pure.

Whoever is notified is accountable, and so has an interest in suppression. Therefore only the city verifies, lowers,
merges, splits or ends an incident, never the ward itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from services.escalation.domain.directory.model import OFFICE_OF
from services.escalation.domain.rules.record import Decision

State = Literal[
    "received",
    "notified",
    "acknowledged",
    "responding",
    "closure_proposed",
    "closed",
    "dismissed",
    "merged",
    "handed_off",
]
"""received → notified → acknowledged (by each) → responding → closure_proposed → closed. Provisional or confirmed is
not a state: the decision's `standing` says it."""
Action = Literal[
    "verify",
    "dismiss",
    "designate",
    "revise",
    "merge",
    "split",
    "hand_off",
    "reassign",
    "correct",
    "respond",
    "escalate",
    "propose_closure",
    "close",
    "reopen",
]
STATES: tuple[State, ...] = get_args(State)
ACTIONS: tuple[Action, ...] = get_args(Action)
FINAL: frozenset[State] = frozenset({"closed", "dismissed", "merged", "handed_off"})
OPEN: frozenset[State] = frozenset(STATES) - FINAL
ACKNOWLEDGED_STATES: frozenset[State] = frozenset({"acknowledged", "responding", "closure_proposed"})

WHO: Mapping[Action, frozenset[str]] = {
    "verify": frozenset({"desk"}),
    "dismiss": frozenset({"desk"}),
    "designate": frozenset({"desk"}),
    "revise": frozenset({"desk", "official", "officer"}),
    "merge": frozenset({"desk"}),
    "split": frozenset({"desk"}),
    "hand_off": frozenset({"desk"}),
    "reassign": frozenset({"desk"}),
    "correct": frozenset({"desk"}),
    "respond": frozenset({"desk", "official"}),
    "escalate": frozenset({"desk", "official"}),
    "propose_closure": frozenset({"official"}),
    "close": frozenset({"desk"}),
    "reopen": frozenset({"desk"}),
}
"""Roles that may take each action."""
FROM: Mapping[Action, frozenset[State]] = {
    "verify": OPEN,
    "dismiss": OPEN,
    "designate": OPEN,
    "revise": OPEN,
    "merge": OPEN,
    "split": OPEN,
    "hand_off": OPEN,
    "reassign": OPEN,
    "correct": OPEN,
    "respond": OPEN,
    "escalate": OPEN,
    "propose_closure": frozenset({"acknowledged", "responding"}),
    "close": OPEN,
    "reopen": FINAL - {"merged"},
}
"""States in which each action is possible."""
TO: Mapping[Action, State] = {
    "dismiss": "dismissed",
    "merge": "merged",
    "hand_off": "handed_off",
    "correct": "received",
    "propose_closure": "closure_proposed",
    "close": "closed",
    "reopen": "received",
}
"""The state that an action leads to by itself. The evaluation that follows may change it again."""


@dataclass(frozen=True)
class Refused:
    """Why an action is refused. `status`: 403 if the caller may not take it, 409 if the state does not allow it."""

    status: int
    reason: str


def forbidden(action: Action, role: str) -> Refused | None:
    """Return why `role` may never take `action`, or None if it may."""
    if role in WHO[action]:
        return None
    by = " or ".join(sorted(WHO[action]))
    return Refused(403, f"role {role} may not {_words(action)} an incident: the {by} does, for the city confirms")


def interested(role: str, subject: str, decision: Decision) -> Refused | None:
    """Return why `subject` may not act on the incident for an office, or None.

    Whoever a decision names acts on its incident for their post only, never as the desk or the leadership.
    """
    if role not in OFFICE_OF or subject not in decision.named:
        return None
    office = "at the desk" if role == "desk" else "in the leadership"
    return Refused(403, f"{subject} is named in the incident's decision: somebody else {office} has to do it")


def refusal(action: Action, role: str, state: State) -> Refused | None:
    """Return why `role` may not take `action` on an incident in `state`, or None."""
    if (never := forbidden(action, role)) is not None:
        return never
    if state not in FROM[action]:
        states = ", ".join(sorted(FROM[action]))
        return Refused(409, f"the incident is {state}: to {_words(action)} it, it must be {states}")
    return None


def may_close(decision: Decision, *, is_ack_pending: bool) -> Refused | None:
    """Return why the incident may not be closed, or None if it may.

    It may be closed when the rule does not apply, or when it is confirmed and no acknowledgement is pending. An
    undetermined or disputed one may not.
    """
    if decision.time_disputed:
        return Refused(409, "reports disagree when it occurred, and others answered then: correct the time first")
    if decision.outcome == "undetermined" or decision.disputed:
        return Refused(409, "whether the rule applies is not determined: verify, revise the harm or dismiss it first")
    if decision.outcome == "does_not_apply":
        return None
    if decision.standing == "provisional":
        return Refused(409, "the incident is not verified: verify or dismiss it first")
    if is_ack_pending:
        return Refused(409, "a post-holder is still asked to acknowledge: close it when they have, or the chain ended")
    return None


def after(action: Action, state: State) -> State:
    """Return the state that `action` leads to. `state` must be one of FROM[action]."""
    if action == "respond":
        return "responding" if state in ACKNOWLEDGED_STATES else state
    return TO.get(action, state)


def after_notice(state: State) -> State:
    """Return the state after a post-holder was asked to acknowledge."""
    return "notified" if state in {"received", "acknowledged"} else state


def after_acknowledgement(state: State) -> State:
    """Return the state after the last of those who were asked has acknowledged."""
    return "acknowledged" if state == "notified" else state


def lowers(new: int | None, old: int | None) -> bool:
    """Return whether severity `new` is lower than `old`. Unknown (None) ranks between 1 and 2."""
    return _rank(new) < _rank(old)


def _rank(severity: int | None) -> float:
    return 1.5 if severity is None else severity


def _words(action: Action) -> str:
    return action.replace("_", " ")

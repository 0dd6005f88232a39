"""The states of an incident, which action leads from one to another, and who may take it. Pure.

Who is notified is who is accountable, so they have an interest in suppression: what verifies, lowers, joins, divides or
ends an incident is the city's to do, never the ward's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from services.escalation.domain.rules.accountability import Decision

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
"""received → notified → acknowledged (by each) → responding → closure_proposed → closed. Whether it is provisional or
confirmed is the decision's standing, beside the state."""
Action = Literal[
    "verify",
    "dismiss",
    "designate",
    "revise",
    "merge",
    "split",
    "hand_off",
    "reassign",
    "respond",
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
    "respond": frozenset({"desk", "official"}),
    "propose_closure": frozenset({"official"}),
    "close": frozenset({"desk"}),
    "reopen": frozenset({"desk"}),
}
FROM: Mapping[Action, frozenset[State]] = {
    "verify": OPEN,
    "dismiss": OPEN,
    "designate": OPEN,
    "revise": OPEN,
    "merge": OPEN,
    "split": OPEN,
    "hand_off": OPEN,
    "reassign": OPEN,
    "respond": OPEN,
    "propose_closure": frozenset({"acknowledged", "responding"}),
    "close": OPEN,
    "reopen": FINAL - {"merged"},
}
TO: Mapping[Action, State] = {
    "dismiss": "dismissed",
    "merge": "merged",
    "hand_off": "handed_off",
    "propose_closure": "closure_proposed",
    "close": "closed",
    "reopen": "received",
}
"""Actions that set the state by themselves; what follows from a new decision comes on top."""


@dataclass(frozen=True)
class Refused:
    """`status`: 403 for who, 409 for when."""

    status: int
    reason: str


def forbidden(action: Action, role: str) -> Refused | None:
    """Why `role` may never take `action`, or None."""
    if role in WHO[action]:
        return None
    by = " or ".join(sorted(WHO[action]))
    return Refused(403, f"role {role} may not {_words(action)} an incident: the {by} does, for the city confirms")


def interested(role: str, subject: str, decision: Decision) -> Refused | None:
    """Why somebody at the desk may not take an incident in hand, or None: they answer for it themselves."""
    if role != "desk" or subject not in decision.named:
        return None
    return Refused(403, f"{subject} is named in the incident's decision: somebody else at the desk has to do it")


def refusal(action: Action, role: str, state: State) -> Refused | None:
    """Why `role` may not take `action` on an incident in `state`, or None."""
    if (never := forbidden(action, role)) is not None:
        return never
    if state not in FROM[action]:
        states = ", ".join(sorted(FROM[action]))
        return Refused(409, f"the incident is {state}: to {_words(action)} it, it must be {states}")
    return None


def may_close(decision: Decision, *, is_ack_pending: bool) -> Refused | None:
    """Nothing is closed that nobody looked at, or while an acknowledgement is pending."""
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
    """The state that `action` leads to from one of FROM[action]."""
    if action == "respond":
        return "responding" if state in ACKNOWLEDGED_STATES else state
    return TO.get(action, state)


def after_notice(state: State) -> State:
    """After a post-holder was told, who has yet to acknowledge."""
    return "notified" if state in {"received", "acknowledged"} else state


def after_acknowledgement(state: State) -> State:
    """After the last of those who were told has acknowledged."""
    return "acknowledged" if state == "notified" else state


def lowers(new: int | None, old: int | None) -> bool:
    """Whether a severity is less than it was; what is unknown may be anything but is no reason to look away."""
    return _rank(new) < _rank(old)


def _rank(severity: int | None) -> float:
    return 1.5 if severity is None else severity


def _words(action: Action) -> str:
    return action.replace("_", " ")

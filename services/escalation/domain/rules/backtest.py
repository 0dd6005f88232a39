"""Backtest: what another rulebook would have decided about an incident that was decided. Pure."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from services.escalation.domain.rules.accountability import Inputs, decide
from services.escalation.domain.rules.record import Decision
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from shared.clock import local


@dataclass(frozen=True)
class Verdict:
    """The part of a decision that depends on the rulebook. Times are minutes after the decision."""

    outcome: str
    limb: str | None
    severity: int | None
    standing: str
    immediate: bool
    disputed: bool
    acknowledge_minutes: int | None
    review_minutes: int | None
    posts: tuple[str, ...]

    def __str__(self) -> str:
        limb = f" ({self.limb})" if self.limb else ""
        severity = "unknown" if self.severity is None else self.severity
        minutes = f", {self.acknowledge_minutes} min" if self.acknowledge_minutes is not None else ""
        return f"{self.outcome}{limb}, severity {severity}{minutes}"


_SHOWN_WHERE_DIFFERENT = ("standing", "immediate", "disputed", "review_minutes", "posts")
"""Fields of a verdict that are printed only where they differ."""


@dataclass(frozen=True)
class Difference:
    """An incident that the other rulebook decides differently."""

    incident: str
    ward: dict[str, str]
    time_of_occurrence: datetime
    exercise: bool
    by: str | None
    """Version of the rulebook that decided it."""
    old: Verdict
    new: Verdict

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        mark = " (exercise)" if self.exercise else ""
        when = local(self.time_of_occurrence)
        more = "".join(
            f"; {name} {_word(old)} → {_word(new)}"
            for name in _SHOWN_WHERE_DIFFERENT
            if (old := getattr(self.old, name)) != (new := getattr(self.new, name))
        )
        return f"{self.incident} {self.ward['name']} {when:%Y-%m-%d %H:%M}{mark}: {self.old} → {self.new}{more}"


def _word(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value).lower()


def verdict(decision: Decision) -> Verdict:
    deadlines = decision.deadlines

    def minutes(until: datetime) -> int:
        return round((until - decision.evaluated_at).total_seconds() / 60)

    return Verdict(
        outcome=decision.outcome,
        limb=decision.limb,
        severity=decision.severity,
        standing=decision.standing,
        immediate=decision.immediate,
        disputed=decision.disputed,
        acknowledge_minutes=minutes(deadlines.acknowledge_by) if deadlines else None,
        review_minutes=minutes(deadlines.review_by) if deadlines else None,
        posts=tuple(sorted(party.post for party in decision.parties)),
    )


def compare(decided: Decision, inputs: Inputs, book: AdoptedRulebook) -> Difference | None:
    """Decide the same inputs by `book`, in force or not. Returns None where the verdict is the same."""
    old, new = verdict(decided), verdict(decide(inputs, book))
    if old == new:
        return None
    return Difference(
        incident=decided.incident,
        ward={"code": decided.unit.code, "name": decided.unit.name},
        time_of_occurrence=decided.time_of_occurrence,
        exercise=decided.exercise,
        by=decided.rulebook.version if decided.rulebook else None,
        old=old,
        new=new,
    )

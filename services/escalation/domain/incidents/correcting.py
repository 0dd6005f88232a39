"""Correcting an incident (đính chính): when and where it occurred, and whether it was an exercise (diễn tập). Pure.

Whoever was told what is corrected was told something untrue. So the incident begins anew: who was told in error is told
so, and whoever answers by the corrected facts is asked, in a new round.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import get_args

from services.escalation.domain.directory.model import LEADERSHIP, OFFICES, Unit, key_of
from services.escalation.domain.incidents import lifecycle
from services.escalation.domain.incidents.correlation import Point
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.evaluation import begin_round, evaluate
from services.escalation.domain.incidents.incident import Case, Corrected
from services.escalation.domain.incidents.notifying import issue_stand_down, told_of
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import Purpose

BEGINS_ANEW: frozenset[Corrected] = frozenset({"time", "unit", "exercise"})
"""What notices say of an incident. A corrected point tells nobody anything."""
MOVES: frozenset[Corrected] = frozenset({"unit", "exercise"})
"""After these, no notice of before is true of its recipient."""


@dataclass(frozen=True)
class Correction:
    """What holds instead of what reports say. None leaves it as it is."""

    occurred_at: datetime | None = None
    unit: Unit | None = None
    exercise: bool | None = None
    point: Point | None = None

    def changes(self, case: Case) -> frozenset[Corrected]:
        """Return what is different from what holds now."""
        anchor = case.anchor
        found: dict[Corrected, bool] = {
            "time": self.occurred_at is not None and self.occurred_at != anchor.at,
            "unit": self.unit is not None and key_of(self.unit.ref) != anchor.unit,
            "exercise": self.exercise is not None and self.exercise != anchor.exercise,
            "point": self.point is not None and self.point != anchor.point,
        }
        return frozenset(name for name, differs in found.items() if differs)


def correct(engine: IncidentEngine, case: Case, correction: Correction, cause: str) -> None:
    """Apply a correction, and evaluate the incident. `cause`: id of the event that recorded the correction.

    The case must be open, and must hold the finding already. A time that was said also ends a dispute about it.
    """
    changes = correction.changes(case)
    told: Mapping[str, frozenset[str]] = {}
    if changes & BEGINS_ANEW:
        told = _begin_anew(engine, case, changes, cause)
    _set_facts(case, correction, changes)
    evaluate(engine, case, cause)
    if not notification.holders_are_told(case.standing):
        issue_stand_down(engine, case, told, cause)


def _begin_anew(
    engine: IncidentEngine, case: Case, changes: frozenset[Corrected], cause: str
) -> Mapping[str, frozenset[str]]:
    """Begin a round in which nothing counts that was told or done before. What was not sent yet is not sent.

    Who was told of another ward, or of an exercise as if it were real, is told so at once, in the words and on the
    channels of before: the ward's people, and the leadership. Returns who else was told, for which posts.
    """
    told = told_of(engine, case)
    people = {who for who, _ in case.notified} - OFFICES
    begin_round(engine, case)
    case.corrected = changes
    if changes & MOVES:
        if not (case.anchor.exercise and "exercise" in changes):
            above = {LEADERSHIP: frozenset[str]()} if case.leadership_told else {}
            issue_stand_down(engine, case, told | above, cause)
        told = {}
    engine.withdraw(case, people)
    engine.changes.supersede(case.incident_id, frozenset(get_args(Purpose)))
    engine.cancel(case, *case.pending)
    case.notified.clear()
    case.state = lifecycle.after("correct", case.state)
    return told


def _set_facts(case: Case, correction: Correction, changes: frozenset[Corrected]) -> None:
    anchor = case.anchor
    if correction.unit is not None:
        case.unit, case.unit_kind = correction.unit.ref, correction.unit.kind
    if "time" in changes:
        case.rulebook_version = None  # the one in force at that time decides
    case.anchor = replace(
        anchor,
        unit=key_of(case.unit),
        at=correction.occurred_at or anchor.at,
        exercise=anchor.exercise if correction.exercise is None else correction.exercise,
        point=correction.point or anchor.point,
    )

"""Conversion of an incident to its row and back. Only the table and this module list the columns."""

from typing import Any

from sqlalchemy import Row

from services.escalation.domain.incidents.correlation import Occurrence, Point
from services.escalation.domain.incidents.incident import Incident, IncidentRow
from services.escalation.domain.incidents.report_summary import ReportSummary
from services.escalation.store.tables import incident
from shared.events import UnitRef

NEVER_CHANGING = frozenset({"incident_id", "opened_at"})
CHANGING = tuple(c.name for c in incident.c if c.name not in NEVER_CHANGING)


def from_row(row: Row[Any]) -> IncidentRow:
    return IncidentRow(
        incident_id=row.incident_id,
        unit=UnitRef(code=row.unit_code, valid_from=row.unit_valid_from, name=row.unit_name),
        unit_kind=row.unit_kind,
        category=row.category,
        anchor=anchor_of(row),
        opened_at=row.opened_at,
        state=row.state,
        sequence=row.sequence,
        rulebook_version=row.rulebook_version,
        round=row.round,
        level=row.level,
        successor=UnitRef.model_validate(row.successor) if row.successor else None,
        merged_into=row.merged_into,
        summary=ReportSummary.model_validate_json(row.digest),
        decided_at=row.decided_at,
    )


def anchor_of(row: Row[Any]) -> Occurrence:
    return Occurrence(
        unit=(row.unit_code, row.unit_valid_from),
        family=row.family,
        exercise=row.exercise,
        at=row.occurred_at,
        point=Point(row.latitude, row.longitude) if row.latitude is not None else None,
    )


def to_row(found: Incident) -> dict[str, Any]:
    """Return all columns. Raises LookupError for an incident that has no decision."""
    decision, point = found.standing, found.anchor.point
    return {
        "incident_id": found.incident_id,
        "unit_code": found.unit.code,
        "unit_valid_from": found.unit.valid_from,
        "unit_name": found.unit.name,
        "unit_kind": found.unit_kind,
        "family": found.anchor.family,
        "category": found.category,
        "exercise": found.anchor.exercise,
        "occurred_at": found.anchor.at,
        "latitude": point.latitude if point else None,
        "longitude": point.longitude if point else None,
        "state": found.state,
        "outcome": decision.outcome,
        "limb": decision.limb,
        "standing": decision.standing,
        "severity": decision.severity,
        "sequence": found.sequence,
        "opened_at": found.opened_at,
        "rulebook_version": found.rulebook_version,
        "round": found.round,
        "level": found.level,
        "successor": found.successor.model_dump(mode="json") if found.successor else None,
        "merged_into": found.merged_into,
        "digest": summary_text(found),
        "decided_at": found.decided_at,
    }


def summary_text(found: IncidentRow) -> str:
    return found.summary.model_dump_json(exclude_defaults=True)

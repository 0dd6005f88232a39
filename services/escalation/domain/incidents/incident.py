"""An incident in memory, in three depths: its row, with its standing decision, with its whole history. Pure.

Most reports of a storm need the row alone. A due time needs to know who was notified. Only a decision needs the
reports and findings.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypedDict

from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.lifecycle import FINAL, State
from services.escalation.domain.incidents.report_summary import ReportSummary
from services.escalation.domain.rules.accountability import Decision, ReportFacts
from shared.events import UnitRef

TimerKind = Literal["remind", "acknowledge", "review", "lapse", "idle", "directory"]


class EventData(TypedDict):
    """What the data of every event of an incident has in common (`shared.events.Data`)."""

    incident: str
    sequence: int
    cause: str | None
    unit: UnitRef
    category: str
    occurred_at: datetime
    officials: tuple[str, ...]


@dataclass
class IncidentRow:
    """What the row of an incident holds. A report that changes nothing is filed with this alone."""

    incident_id: str
    unit: UnitRef
    unit_kind: str
    category: str
    anchor: Occurrence
    opened_at: datetime
    state: State = "received"
    sequence: int = 0
    rulebook_version: str | None = None
    """Frozen at the first decision that found one in force."""
    round: int = 1
    level: int = 0
    successor: UnitRef | None = None
    merged_into: str | None = None
    aliases: list[Occurrence] = field(default_factory=list[Occurrence])
    """Anchors of incidents that were merged into this one: their reports come here."""
    summary: ReportSummary = field(default_factory=ReportSummary)
    decided_at: datetime | None = None
    """When the standing decision was made."""

    @property
    def is_open(self) -> bool:
        return self.state not in FINAL

    @property
    def wards(self) -> set[str]:
        """Codes of the units whose people may see it."""
        return {self.unit.code} | ({self.successor.code} if self.successor else set[str]())

    def number_event(self, cause: str | None, officials: Iterable[str] = ()) -> EventData:
        """Give the incident's next sequence number to an event that `cause` (an event id) led to."""
        self.sequence += 1
        return {
            "incident": self.incident_id,
            "sequence": self.sequence,
            "cause": cause,
            "unit": self.unit,
            "category": self.category,
            "occurred_at": self.anchor.at,
            "officials": tuple(sorted(officials)),
        }

    def row_fields(self) -> dict[str, Any]:
        """The fields of this class, to build a deeper form of the same incident."""
        return {f.name: getattr(self, f.name) for f in fields(IncidentRow)}


@dataclass
class Incident(IncidentRow):
    """An incident with its standing decision, who was notified, and what falls due."""

    decision: Decision | None = None
    """None for a new incident until its first decision."""
    decision_id: str | None = None
    decision_number: int = 0
    notified: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict[tuple[str, str], frozenset[str]])
    """Posts by (recipient, purpose), of this round where the purpose belongs to one."""
    ack_requested: set[str] = field(default_factory=set[str])
    """Post-holders whose acknowledgement was requested in this round."""
    acknowledged: set[str] = field(default_factory=set[str])
    """Who has acknowledged in this round."""
    pending: set[TimerKind] = field(default_factory=set[TimerKind])
    """Kinds of due times that wait."""

    @property
    def standing(self) -> Decision:
        """The decision that holds now. Every stored incident has one."""
        if self.decision is None:
            raise LookupError(f"incident {self.incident_id} has no decision yet: evaluate it first")
        return self.decision

    def record_notified(self, recipient: str, purpose: str, posts: Iterable[str]) -> None:
        key = (recipient, purpose)
        self.notified[key] = self.notified.get(key, frozenset()) | frozenset(posts)


@dataclass
class Case(Incident):
    """An incident with all its reports and findings (hồ sơ vụ việc). Only a case can be decided anew."""

    reports: list[ReportFacts] = field(default_factory=list[ReportFacts])
    findings: list[Finding] = field(default_factory=list[Finding])
    is_new: bool = False
    """Opened in this transaction."""


def as_case(incident: IncidentRow) -> Case:
    """The incident as a case. Raises TypeError where its reports were not loaded."""
    if not isinstance(incident, Case):
        raise TypeError(f"incident {incident.incident_id} was loaded without its reports: load it with its history")
    return incident

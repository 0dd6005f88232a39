"""An incident (vụ việc) in memory, in three depths: its row, its standing decision, its whole history. Pure.

Most reports of a storm need only the row. A timer also needs to know who was notified. Only an evaluation needs the
reports and findings.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, TypedDict

from services.escalation.domain.directory.model import UnitKey, key_of
from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.lifecycle import FINAL, State
from services.escalation.domain.incidents.report_summary import LateReports, ReportSummary
from services.escalation.domain.rules.accountability import ReportFacts
from services.escalation.domain.rules.record import Decision
from shared.events import UnitRef

DeskTask = Literal["review", "vacancy", "unit_split", "closure", "late_reports", "lost_notice"]
"""What may wait for the desk: verify and classify; fill a vacant post; say whose a divided unit's incident is; decide
on a proposed closure; reopen an ended incident, or say that its end stands although reports came after it; reach a
post-holder to whom nothing could be brought."""
Corrected = Literal["time", "unit", "exercise", "point"]
"""What a correction may change."""
TimerKind = Literal["remind", "acknowledge", DeskTask, "escalation", "lapse", "idle", "directory"]
NOT_ENOUGH: frozenset[TimerKind] = frozenset({"directory", "escalation"})
"""Kinds of timers that do not keep an open incident going: it needs another one beside them."""


class EventData(TypedDict):
    """The data that all events of an incident have in common (`shared.events.Data`)."""

    incident: str
    sequence: int
    cause: str | None
    unit: UnitRef
    category: str
    occurred_at: datetime
    officials: tuple[str, ...]


@dataclass
class IncidentRow:
    """What the row of an incident holds. It is enough to attach a report that changes no decision."""

    incident_id: str
    unit: UnitRef
    unit_kind: str
    category: str
    anchor: Occurrence
    opened_at: datetime
    state: State = "received"
    sequence: int = 0
    rulebook_version: str | None = None
    """Set by the first decision for which a rulebook was in force. Later decisions use the same version."""
    round: int = 1
    """The present round of asking, from 1."""
    level: int = 0
    """How far up the chain this round has gone. 0 means the post-holders."""
    successor: UnitRef | None = None
    merged_into: str | None = None
    aliases: list[Occurrence] = field(default_factory=list[Occurrence])
    """Anchors of incidents that were merged into this one. Reports that match them are assigned here."""
    summary: ReportSummary = field(default_factory=ReportSummary)
    decided_at: datetime | None = None
    """When the standing decision was made."""

    @property
    def is_open(self) -> bool:
        return self.state not in FINAL

    @property
    def late_reports_waiting(self) -> LateReports | None:
        """The reports after the incident's end if the desk is asked about them, or None."""
        late = self.summary.late
        return late if late is not None and late.asked and not self.is_open else None

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody has to do something about the incident."""
        return self.is_open or self.late_reports_waiting is not None

    @property
    def units(self) -> frozenset[UnitKey]:
        """The units whose people may see the incident: its own, and the one that took its place."""
        return frozenset(key_of(unit) for unit in (self.unit, self.successor) if unit is not None)

    def number_event(self, cause: str | None, officials: Iterable[str] = ()) -> EventData:
        """Take the incident's next sequence number, and return the common data of an event.

        `cause`: id of the event that led to it. `officials`: holder ids that it names.
        """
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
        """Return the fields of this class, from which a deeper form of the same incident is built."""
        return {f.name: getattr(self, f.name) for f in fields(IncidentRow)}


@dataclass
class Incident(IncidentRow):
    """An incident with its standing decision, who was notified, and which timers are pending."""

    decision: Decision | None = None
    """None for a new incident until its first decision."""
    decision_id: str | None = None
    decision_event: str | None = None
    """Id of the event that recorded the standing decision. It is the cause of whatever follows as time passes."""
    decision_number: int = 0
    notified: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict[tuple[str, str], frozenset[str]])
    """Posts by (recipient, purpose). A purpose that belongs to a round is here for the present round only.

    What was told before `told_since` is not here.
    """
    ack_requested: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Who was asked to acknowledge in this round, for which post: (holder id, post)."""
    acknowledged: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Who acknowledged in this round, or whose notice was acknowledged, for which post: (holder id, post)."""
    lost: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Whom this round's request did not reach, for which post: (holder id, post). No channel took it, and none is still
    to be tried."""
    pending: set[TimerKind] = field(default_factory=set[TimerKind])
    """Kinds of timers that are pending."""
    told_since: int = 0
    """The round from which it counts what was told: that of the last correction of time, ward or exercise."""
    leadership_told: bool = False
    """Whether the leadership was told anything in any of these rounds."""
    corrected: frozenset[Corrected] = frozenset()
    """What was corrected in this transaction."""

    @property
    def standing(self) -> Decision:
        """The decision that holds now. Raises LookupError for a new incident without one."""
        if self.decision is None:
            raise LookupError(f"incident {self.incident_id} has no decision yet: evaluate it first")
        return self.decision

    def record_notified(self, recipient: str, purpose: str, posts: Iterable[str]) -> None:
        key = (recipient, purpose)
        self.notified[key] = self.notified.get(key, frozenset()) | frozenset(posts)


@dataclass
class Case(Incident):
    """An incident with all its reports and findings (hồ sơ vụ việc). Only a case can be evaluated."""

    reports: list[ReportFacts] = field(default_factory=list[ReportFacts])
    late_reports: list[ReportFacts] = field(default_factory=list[ReportFacts])
    """Those that came after the incident had ended. They count once it is reopened."""
    findings: list[Finding] = field(default_factory=list[Finding])
    is_new: bool = False
    """Whether it was opened in this transaction."""


def as_case(incident: IncidentRow) -> Case:
    """Return the incident as a Case. Raises TypeError if its reports were not loaded."""
    if not isinstance(incident, Case):
        raise TypeError(f"incident {incident.incident_id} was loaded without its reports: load it with its history")
    return incident

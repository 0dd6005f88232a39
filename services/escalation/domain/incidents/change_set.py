"""All that one transaction on some incidents has to write. Pure: `store.incident_saving` writes it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import Case, Incident, IncidentRow, TimerKind
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.rules.accountability import Decision, Inputs, ReportFacts
from shared.events import Event, ReportReceived


@dataclass(frozen=True)
class IssuedNotice:
    notice_id: str
    incident: Incident
    notice: Notice
    decision_id: str | None
    title: str
    body: str
    issued_at: datetime
    due_at: datetime | None
    round: int
    channels: tuple[tuple[str, datetime], ...]
    """Each with the time from which it may be used."""


@dataclass(frozen=True)
class MadeDecision:
    decision_id: str
    case: Case
    number: int
    previous: str | None
    decision: Decision
    inputs: Inputs


@dataclass(frozen=True)
class AssignedReport:
    """A report and the incident that it belongs to. `matters`: it may change the decision."""

    event: ReportReceived
    facts: ReportFacts
    incident: IncidentRow
    outcome: Literal["new", "merged"]
    position: int
    matters: bool


@dataclass(frozen=True)
class NewTimer:
    incident: Incident
    kind: TimerKind
    due_at: datetime
    notice_id: str | None = None
    level: int = 0


@dataclass(frozen=True)
class Acknowledgement:
    """These notices were acknowledged: nothing about them falls due or is sent any more."""

    notice_ids: tuple[str, ...]
    by: str
    at: datetime


@dataclass
class ChangeSet:
    """Written in this order: what is called off, then what is new."""

    incidents: dict[str, IncidentRow] = field(default_factory=dict[str, IncidentRow])
    reports: list[AssignedReport] = field(default_factory=list[AssignedReport])
    cancelled_timers: dict[str, set[TimerKind]] = field(default_factory=dict[str, set[TimerKind]])
    """Kinds of due times, by incident, that no longer matter."""
    withdrawn: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Persons, by incident, who left or are asked anew. What is still to be sent to them ends, and what was asked."""
    superseded_purposes: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Purposes of notices, by incident, that need not be sent any more."""
    acknowledgements: list[Acknowledgement] = field(default_factory=list[Acknowledgement])
    moved: list[tuple[Case, tuple[str, ...]]] = field(default_factory=list[tuple[Case, tuple[str, ...]]])
    """Reports that are this incident's from now on, in this order."""
    ended: set[str] = field(default_factory=set[str])
    """Incidents that reached an end: nothing is sent or falls due any more."""
    decisions: list[MadeDecision] = field(default_factory=list[MadeDecision])
    findings: list[tuple[Case, Finding]] = field(default_factory=list[tuple[Case, Finding]])
    notices: list[IssuedNotice] = field(default_factory=list[IssuedNotice])
    timers: list[NewTimer] = field(default_factory=list[NewTimer])
    related: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """(incident, other incident, reason)."""
    events: list[Event] = field(default_factory=list[Event])

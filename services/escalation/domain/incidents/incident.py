"""An incident in memory, and all that a transaction on some of them has to write. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

from services.escalation.domain.incidents.correlation import Occurrence, Point
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.lifecycle import FINAL, State
from services.escalation.domain.incidents.report_summary import ReportSummary
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.rules.accountability import Decision, Inputs, ReportFacts, time_of_occurrence
from shared.events import Event, ReportReceived, UnitRef
from shared.taxonomy import categories

DueKind = Literal["remind", "acknowledge", "review", "lapse", "idle", "directory"]


@dataclass
class Case:
    """An incident in memory, with what its next report, finding or due time needs to know."""

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
    has_history: bool = True
    """False for a stored case of which only what its row holds was loaded: it cannot be decided anew."""
    reports: list[ReportFacts] = field(default_factory=list[ReportFacts])
    findings: list[Finding] = field(default_factory=list[Finding])
    decision: Decision | None = None
    decision_id: str | None = None
    decision_number: int = 0
    notified: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict[tuple[str, str], frozenset[str]])
    """Posts by (recipient, purpose), of this round where the purpose belongs to one."""
    ack_requested: set[str] = field(default_factory=set[str])
    """Post-holders whose acknowledgement was asked for in this round."""
    acknowledged: set[str] = field(default_factory=set[str])
    """Who has acknowledged in this round."""
    pending: set[DueKind] = field(default_factory=set[DueKind])
    """Kinds of due times that wait."""
    is_new: bool = False

    @property
    def is_open(self) -> bool:
        return self.state not in FINAL

    @property
    def wards(self) -> set[str]:
        """Codes of the units whose people may see it."""
        return {self.unit.code} | ({self.successor.code} if self.successor else set[str]())

    def record_notified(self, recipient: str, purpose: str, posts: Iterable[str]) -> None:
        """They were told of it for these posts."""
        self.notified[recipient, purpose] = self.notified.get((recipient, purpose), frozenset()) | frozenset(posts)


@dataclass(frozen=True)
class IssuedNotice:
    notice_id: str
    case: Case
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
    case: Case
    outcome: Literal["new", "merged"]
    position: int
    matters: bool


@dataclass(frozen=True)
class NewDeadline:
    case: Case
    kind: DueKind
    due_at: datetime
    notice_id: str | None = None
    level: int = 0


@dataclass
class ChangeSet:
    """All that a transaction has to write, in this order: what is settled, then what is new."""

    cases: dict[str, Case] = field(default_factory=dict[str, Case])
    reports: list[AssignedReport] = field(default_factory=list[AssignedReport])
    cancelled_timers: dict[str, set[DueKind]] = field(default_factory=dict[str, set[DueKind]])
    """Kinds of due times of an incident that no longer matter."""
    withdrawn: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Persons who left, or are asked anew: what is still to be sent to them, and was asked of them, ends."""
    moved: list[tuple[Case, tuple[str, ...]]] = field(default_factory=list[tuple[Case, tuple[str, ...]]])
    """Reports that are this incident's from now on, in this order."""
    ended: set[str] = field(default_factory=set[str])
    """Incidents that reached an end: nothing is sent or falls due any more."""
    decisions: list[MadeDecision] = field(default_factory=list[MadeDecision])
    findings: list[tuple[Case, Finding]] = field(default_factory=list[tuple[Case, Finding]])
    notices: list[IssuedNotice] = field(default_factory=list[IssuedNotice])
    deadlines: list[NewDeadline] = field(default_factory=list[NewDeadline])
    related: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    events: list[Event] = field(default_factory=list[Event])


def about(case: Case, cause: str | None, officials: Iterable[str] = ()) -> dict[str, Any]:
    """The common data (`shared.events.Data`) of an event of `case`, which takes the incident's next sequence number."""
    case.sequence += 1
    return {
        "incident": case.incident_id,
        "sequence": case.sequence,
        "cause": cause,
        "unit": case.unit,
        "category": case.category,
        "occurred_at": case.anchor.at,
        "officials": tuple(sorted(officials)),
    }


def occurrence_of(event: ReportReceived) -> Occurrence:
    data = event.data
    assert data.unit is not None
    assert data.occurred_at is not None
    point = None
    if data.location is not None:
        place = orjson.loads(data.location.value)
        point = Point(float(place["latitude"]), float(place["longitude"]))
    return Occurrence(
        unit=(data.unit.code, data.unit.valid_from),
        family=categories()[str(data.category)].family,
        exercise=data.exercise,
        at=time_of_occurrence(data.occurred_at, data.received_at),
        point=point,
    )


def facts_of(event: ReportReceived) -> ReportFacts:
    data = event.data
    assert data.occurred_at is not None
    return ReportFacts(
        report_id=data.report_id,
        category=str(data.category),
        source=data.from_source,
        occurred_at=data.occurred_at,
        received_at=data.received_at,
        harm=data.harm,
        firecracker=data.firecracker,
        clock_ahead=data.clock_ahead,
    )

"""The change set: everything that one transaction has to write about incidents. Pure.

`store.incident_saving` writes it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import Case, Incident, IncidentRow, TimerKind
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.rules.accountability import Inputs, ReportFacts
from services.escalation.domain.rules.record import Decision
from shared.events import AnyReport, Event


@dataclass(frozen=True)
class IssuedNotice:
    """A notice that this transaction issues. `event_id`: the event that records it."""

    notice_id: str
    event_id: str
    incident: Incident
    notice: Notice
    decision_id: str | None
    title: str
    body: str
    issued_at: datetime
    due_at: datetime | None
    round: int
    exercise: bool
    """As it was when this was issued: a correction in the same transaction may change the incident."""
    channels: tuple[tuple[str, datetime], ...]
    """Each channel with the time from which it may be used."""


@dataclass(frozen=True)
class MadeDecision:
    """A decision that this transaction makes. `previous`: the decision before it. `event_id`: what records it."""

    decision_id: str
    case: Case
    number: int
    previous: str | None
    decision: Decision
    inputs: Inputs
    event_id: str


Outcome = Literal["new", "merged", "late"]
"""The report opened its incident, joined an open one, or came after its end."""


@dataclass(frozen=True)
class AssignedReport:
    """A report and the incident that it belongs to. `matters`: whether it may change the decision."""

    event: AnyReport
    facts: ReportFacts
    incident: IncidentRow
    outcome: Outcome
    position: int
    matters: bool


@dataclass(frozen=True)
class NewTimer:
    """A due time that this transaction sets."""

    incident: Incident
    kind: TimerKind
    due_at: datetime
    notice_id: str | None = None
    level: int = 0
    who: tuple[str, ...] = ()
    """Holder ids or offices whom the incident waits for until then. Empty if it waits for nobody."""
    by_calendar: bool = False
    """The time is one of the calendar, such as a change of hands. It does not move when the clock is set."""


@dataclass(frozen=True)
class Acknowledgement:
    """Notices that `by` acknowledged. Their timers and unsent deliveries are to be cancelled."""

    notice_ids: tuple[str, ...]
    by: str
    at: datetime


@dataclass
class ChangeSet:
    """What one transaction has to write.

    Cancellations are written before new notices and timers, and so do not touch them.
    """

    incidents: dict[str, IncidentRow] = field(default_factory=dict[str, IncidentRow])
    reports: list[AssignedReport] = field(default_factory=list[AssignedReport])
    cancelled_timers: dict[str, set[TimerKind]] = field(default_factory=dict[str, set[TimerKind]])
    """Kinds of stored timers to cancel, by incident id."""
    withdrawn: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Holder ids, by incident id, of people who left their post or are asked anew. Their notices are withdrawn, and the
    timers and unsent deliveries of these are cancelled."""
    superseded_purposes: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Purposes of notices, by incident id, that need not be sent any more. Fill it by `supersede`."""
    lapse_waits_for: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Whom the stored lapse of an incident waits for from now on, by incident id."""
    asking_offices: set[str] = field(default_factory=set[str])
    """Ids of the new notices by which an office is asked for what somebody did not do."""
    acknowledgements: list[Acknowledgement] = field(default_factory=list[Acknowledgement])
    moved: list[tuple[Case, tuple[str, ...]]] = field(default_factory=list[tuple[Case, tuple[str, ...]]])
    """A case with the ids of all its reports, in order. They belong to it from now on."""
    ended: set[str] = field(default_factory=set[str])
    """Ids of incidents that reached a final state. Their timers and unsent deliveries are cancelled."""
    decisions: list[MadeDecision] = field(default_factory=list[MadeDecision])
    findings: list[tuple[Case, Finding]] = field(default_factory=list[tuple[Case, Finding]])
    notices: list[IssuedNotice] = field(default_factory=list[IssuedNotice])
    timers: list[NewTimer] = field(default_factory=list[NewTimer])
    related: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Links to store: (incident id, id of the other incident, reason)."""
    events: list[Event] = field(default_factory=list[Event])
    fell_due: int = 0
    """How many of the events, from the first, follow from a time that passed: they are no act of whoever commands."""

    def supersede(self, incident_id: str, purposes: frozenset[str]) -> None:
        """Cancel unsent deliveries of notices with these purposes."""
        self.superseded_purposes[incident_id] = self.superseded_purposes.get(incident_id, frozenset()) | purposes

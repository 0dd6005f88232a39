"""What one report does: which incident it joins, what is decided anew, who is told. In memory, without I/O.

`handlers` loads the cases that a batch of reports can touch, has each report routed here, and writes what came of it
in one transaction.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import orjson

from services.escalation import correlation, notification
from services.escalation.accountability import (
    Decision,
    Inputs,
    ReportFacts,
    decide,
    time_of_occurrence,
)
from services.escalation.correlation import Happening, Key, Point
from services.escalation.directory import Tenure
from services.escalation.notification import DESK, Notice, Purpose, Subject
from services.escalation.rulebook import AdoptedRulebook, in_force
from shared.events import (
    Data,
    DecisionMade,
    DecisionMadeData,
    Event,
    IncidentOpened,
    IncidentOpenedData,
    NoticeIssued,
    NoticeIssuedData,
    ReportCorrelated,
    ReportCorrelatedData,
    ReportReceived,
    UnitRef,
)
from shared.taxonomy import categories

SOURCE = "/trucban/escalation"


@dataclass
class Case:
    """An incident in memory, with what its next report needs to know."""

    incident_id: str
    unit: UnitRef
    unit_kind: str
    category: str
    anchor: Happening
    opened_at: datetime
    state: str = "received"
    sequence: int = 0
    reports: list[ReportFacts] = field(default_factory=list[ReportFacts])
    decision: Decision | None = None
    decision_id: str | None = None
    decision_number: int = 0
    told: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    is_new: bool = False


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
    channels: tuple[str, ...]


@dataclass(frozen=True)
class MadeDecision:
    decision_id: str
    case: Case
    number: int
    previous: str | None
    decision: Decision
    inputs: Inputs


@dataclass
class Outcome:
    """All that a transaction has to write."""

    cases: dict[str, Case] = field(default_factory=dict[str, Case])
    reports: list[tuple[ReportReceived, Case]] = field(default_factory=list[tuple[ReportReceived, Case]])
    decisions: list[MadeDecision] = field(default_factory=list[MadeDecision])
    notices: list[IssuedNotice] = field(default_factory=list[IssuedNotice])
    reviews: list[tuple[Case, datetime]] = field(default_factory=list[tuple[Case, datetime]])
    reviewed: set[str] = field(default_factory=set[str])
    """Incidents whose latest decision leaves the desk nothing to review."""
    events: list[Event] = field(default_factory=list[Event])


@dataclass(frozen=True)
class Channels:
    """Where people are told: Apprise URLs by holder id, the desk's, and the log that exercises go to."""

    of_holder: dict[str, tuple[str, ...]]
    desk: str
    log: str

    def of(self, recipient: str, *, exercise: bool) -> tuple[str, ...]:
        if exercise:
            return (self.log,)
        return (self.desk,) if recipient == DESK else self.of_holder.get(recipient, ())


@dataclass
class Router:
    """Routes reports one after the other over a working set of cases."""

    cases: dict[Key, list[Case]]
    """Open incidents that a report of the batch could join, by what has to be equal."""
    tenures: Sequence[Tenure]
    rulebooks: Sequence[AdoptedRulebook]
    unit_kinds: dict[tuple[str, object], str]
    channels: Channels
    now: datetime
    new_id: Callable[[], str]
    out: Outcome = field(default_factory=Outcome)
    _tenures_of: dict[tuple[str, date], tuple[Tenure, ...]] = field(
        default_factory=dict[tuple[str, date], tuple[Tenure, ...]]
    )

    def route(self, event: ReportReceived) -> None:
        happening, facts = happening_of(event), facts_of(event)
        adopted = in_force(self.rulebooks, happening.at)
        policy = (adopted or self._newest()).rulebook.correlation
        alike = {c.incident_id: c for c in self.cases.get(happening.key, ())}
        found = correlation.find(happening, ((id_, c.anchor) for id_, c in alike.items()), policy)
        case = alike[found] if found else None
        outcome = "merged" if case else "new"
        if case is None:
            case = self._open(event, happening)
        case.reports.append(facts)
        self.out.cases[case.incident_id] = case
        self.out.reports.append((event, case))
        correlated = ReportCorrelatedData(**about(case, event.id), report_id=facts.report_id, outcome=outcome)
        self.emit(ReportCorrelated(**self._envelope(case), data=correlated))
        self.evaluate(case, cause=event.id)

    def _open(self, event: ReportReceived, happening: Happening) -> Case:
        unit = event.data.unit
        assert unit is not None
        case = Case(
            incident_id=self.new_id(),
            unit=unit,
            unit_kind=self.unit_kinds.get((unit.code, unit.valid_from), ""),
            category=str(event.data.category),
            anchor=happening,
            opened_at=self.now,
            is_new=True,
        )
        self.cases.setdefault(happening.key, []).append(case)
        opened = IncidentOpenedData(**about(case, event.id), family=happening.family, exercise=happening.exercise)
        self.emit(IncidentOpened(**self._envelope(case), data=opened))
        return case

    def evaluate(self, case: Case, cause: str) -> None:
        """Decide again; a decision of another result is made, linked to the earlier one, and its notices issued."""
        adopted = in_force(self.rulebooks, case.anchor.at)
        inputs = Inputs(
            incident=case.incident_id,
            unit=case.unit,
            time_of_occurrence=case.anchor.at,
            evaluated_at=self.now,
            reports=tuple(case.reports),
            tenures=self.tenures_of(case.unit),
            rulebook_version=adopted.rulebook.version if adopted else None,
            exercise=case.anchor.exercise,
        )
        decision = decide(inputs, adopted)
        if case.decision is None or decision.differs_from(case.decision):
            self._adopt(case, decision, inputs, cause)
        self._notify(case, decision, cause)

    def tenures_of(self, unit: UnitRef) -> tuple[Tenure, ...]:
        """The unit's tenures, gathered once a unit."""
        key = (unit.code, unit.valid_from)
        if key not in self._tenures_of:
            mine = (t for t in self.tenures if (t.unit.code, t.unit.valid_from) == key)
            self._tenures_of[key] = tuple(mine)
        return self._tenures_of[key]

    def _adopt(self, case: Case, decision: Decision, inputs: Inputs, cause: str) -> None:
        made = MadeDecision(self.new_id(), case, case.decision_number + 1, case.decision_id, decision, inputs)
        self.out.decisions.append(made)
        case.decision, case.decision_id, case.decision_number = decision, made.decision_id, made.number
        holders = {h.holder_id for p in decision.parties for h in (p.accountable, p.present) if h}
        data = DecisionMadeData(
            **about(case, cause, officials=holders),
            decision_id=made.decision_id,
            previous=made.previous,
            record=decision.model_dump(mode="json", exclude_none=True),
        )
        self.emit(DecisionMade(**self._envelope(case), data=data))

    def _notify(self, case: Case, decision: Decision, cause: str) -> None:
        unreachable: set[str] = set()
        for notice in notification.plan(decision, case.told):
            due_at = None
            if notice.purpose == "accountable" and decision.deadlines is not None:
                due_at = decision.deadlines.acknowledge_by
            issued = self._issue(case, notice, due_at, cause)
            if notice.purpose == "review":
                self.out.reviews.append((case, self._review_by(decision)))
                self.out.reviewed.discard(case.incident_id)
            if notice.recipient != DESK:
                case.state = "notified"
                unreachable.update(() if issued.channels else notice.posts)
        if not notification.desk_reviews(decision):
            self.out.reviewed.add(case.incident_id)
        if unreachable:
            self.tell_desk(case, "unreachable", unreachable, cause)

    def _review_by(self, decision: Decision) -> datetime:
        """Where no rulebook was in force, the newest says how long the desk has."""
        if decision.deadlines is not None:
            return decision.deadlines.review_by
        return self.now + timedelta(minutes=self._newest().rulebook.deadlines.review_minutes)

    def _newest(self) -> AdoptedRulebook:
        return max(self.rulebooks, key=lambda a: a.rulebook.valid_from)

    def tell_desk(self, case: Case, purpose: Purpose, posts: Iterable[str], cause: str | None = None) -> None:
        """Tell the desk of something about these posts, once an incident and purpose."""
        if (DESK, purpose) not in case.told:
            self._issue(case, Notice(DESK, purpose, tuple(sorted(posts))), None, cause)

    def _issue(self, case: Case, notice: Notice, due_at: datetime | None, cause: str | None) -> IssuedNotice:
        """Word a notice, queue it on each channel of its recipient, and put it on the record."""
        decision, adopted = case.decision, in_force(self.rulebooks, case.anchor.at)
        assert decision is not None
        posts = adopted.rulebook.posts if adopted else ()
        subject = Subject(case.unit_kind, _category_of(case, decision, adopted), due_at)
        title, body = notification.words(decision, notice, subject, posts)
        issued = IssuedNotice(
            notice_id=self.new_id(),
            case=case,
            notice=notice,
            decision_id=case.decision_id,
            title=title,
            body=body,
            issued_at=self.now,
            due_at=due_at,
            channels=self.channels.of(notice.recipient, exercise=case.anchor.exercise),
        )
        self.out.notices.append(issued)
        case.told.add((notice.recipient, notice.purpose))
        holders = () if notice.recipient == DESK else (notice.recipient,)
        data = NoticeIssuedData(
            **about(case, cause, officials=holders),
            notice_id=issued.notice_id,
            recipient=notice.recipient,
            purpose=notice.purpose,
            posts=notice.posts,
            decision_id=case.decision_id,
            due_at=due_at,
            exercise=case.anchor.exercise,
        )
        self.emit(NoticeIssued(**self._envelope(case), data=data))
        return issued

    def emit(self, event: Event) -> None:
        self.out.events.append(event)

    def _envelope(self, case: Case) -> dict[str, Any]:
        return envelope(self.new_id(), case.incident_id, self.now)


def _category_of(case: Case, decision: Decision, adopted: AdoptedRulebook | None) -> str:
    """The category to speak of: of a report of setting off where that limb applies, else of the first report."""
    if decision.limb != "firecracker" or adopted is None:
        return case.category
    set_off = (r.category for r in case.reports if adopted.rulebook.of(r.category).firecracker == "yes")
    return next(set_off, case.category)


def envelope(event_id: str, subject: str, now: datetime) -> dict[str, Any]:
    return {"id": event_id, "source": SOURCE, "subject": subject, "time": now}


def about(case: Case, cause: str | None, officials: Iterable[str] = ()) -> dict[str, Any]:
    """The common data of an event of `case`, which takes the incident's next sequence number."""
    case.sequence += 1
    common = Data(
        incident=case.incident_id,
        sequence=case.sequence,
        cause=cause,
        unit=case.unit,
        category=case.category,
        occurred_at=case.anchor.at,
        officials=tuple(sorted(officials)),
    )
    return {name: getattr(common, name) for name in Data.model_fields}


def happening_of(event: ReportReceived) -> Happening:
    data = event.data
    assert data.unit is not None
    assert data.occurred_at is not None
    point = None
    if data.location is not None:
        place = orjson.loads(data.location.value)
        point = Point(float(place["latitude"]), float(place["longitude"]))
    return Happening(
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

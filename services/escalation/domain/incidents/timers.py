"""What happens when something falls due: reminder, step-up, end of the chain, lapse, idle end. In memory, without I/O.

After an outage of any length a due time is acted on once, from now: the next level gets its whole time, and what was
overtaken (a reminder after its deadline) is not sent at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import Case, DueKind, IssuedNotice, about
from services.escalation.domain.incidents.lifecycle import ACKNOWLEDGED_STATES
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import UNANSWERED, Notice
from shared.events import (
    AcknowledgementLapsed,
    AcknowledgementLapsedData,
    ChainExhausted,
    ChainExhaustedData,
    FindingData,
    IncidentClosed,
    StepRaised,
    StepRaisedData,
)

Reason = Literal["not_acknowledged", "not_reviewed"]
OF_A_ROUND: frozenset[DueKind] = frozenset({"remind", "acknowledge", "lapse"})
SYSTEM = "trucban"
"""Author of what nobody did by hand."""


@dataclass(frozen=True)
class FiredTimer:
    """A due time that has passed, of an incident that is locked."""

    kind: DueKind
    due_at: datetime
    notice_id: str | None
    level: int


@dataclass(frozen=True)
class TimedNotice:
    """A notice that a due time is about."""

    recipient: str
    posts: tuple[str, ...]
    due_at: datetime | None


def fire(engine: IncidentEngine, case: Case, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]) -> None:
    """Act on all that has passed of one incident, `notices` being the notices concerned."""
    kinds, before = {p.kind for p in fired}, case.round
    if "directory" in kinds:
        engine.cancel_timers(case, "directory")  # whatever changed then, the next change may be another
    if kinds & {"directory", "lapse", "idle", "remind"}:
        engine.evaluate(case, None)
    if case.round != before:  # everybody has just been asked again
        fired = [p for p in fired if p.kind not in OF_A_ROUND]
        kinds -= OF_A_ROUND
    overdue = _overdue(engine, case, fired, notices)
    overtaken = {p.notice_id for p in fired if p.kind == "acknowledge"}
    for p in fired:
        if p.kind == "remind" and p.notice_id not in overtaken and "lapse" not in kinds:
            _remind(engine, case, notices[str(p.notice_id)])
    _step_up(engine, case, "not_acknowledged", [p for p in overdue if _is_unanswered(case, notices, p)], notices)
    _step_up(engine, case, "not_reviewed", [p for p in fired if p.kind == "review"], notices)
    if "lapse" in kinds:
        _lapse(engine, case)
    if "idle" in kinds:
        _idle(engine, case)
    if case.is_open and not case.pending - {"directory"}:
        engine.lapse_later(case)


def _overdue(
    engine: IncidentEngine, case: Case, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]
) -> list[FiredTimer]:
    """Without the due times of who had left by then: their successors have just been told."""
    gone = engine.changes.withdrawn.get(case.incident_id, set())
    changed = min((p.due_at for p in fired if p.kind == "directory"), default=None)
    late = [p for p in fired if p.kind == "acknowledge"]
    if changed is None:
        return late
    return [p for p in late if p.due_at < changed or notices[str(p.notice_id)].recipient not in gone]


def _is_unanswered(case: Case, notices: Mapping[str, TimedNotice], fired: FiredTimer) -> bool:
    """Whether of the posts that it is about one has not been answered for; what an office was told of may be by now."""
    assert case.decision is not None
    acting = {p.post: p.acting.holder_id for p in case.decision.parties if p.acting}
    return any(acting.get(post) not in case.acknowledged for post in notices[str(fired.notice_id)].posts)


def _remind(engine: IncidentEngine, case: Case, asked: TimedNotice) -> None:
    """Unless somebody else answers for the post by now."""
    assert case.decision is not None
    if asked.recipient in case.decision.acting and (asked.recipient, "reminder") not in case.notified:
        engine.issue(case, Notice(asked.recipient, "reminder", asked.posts), asked.due_at, None)


def _step_up(
    engine: IncidentEngine, case: Case, reason: Reason, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]
) -> None:
    """The next level is told of all that passed together; every due time that passed is an event of its own."""
    if not fired:
        return
    levels = engine.policy_of(case).chain.levels
    target = max(p.level for p in fired) + 1
    cause: str | None = None
    for p in fired:
        if target <= len(levels):
            data = StepRaisedData(**about(case, None), level=levels[target - 1], reason=reason, due_at=p.due_at)
            cause = engine.emit(StepRaised(**engine.envelope(case), data=data))
    engine.changes.cases[case.incident_id] = case
    posts = {post for p in fired if p.notice_id for post in notices[p.notice_id].posts}
    if reason == "not_acknowledged":
        case.level = max(case.level, target)
    if target > len(levels):
        _exhausted(engine, case, reason, posts)
        return
    _ask_office(engine, case, Notice(levels[target - 1], reason, tuple(sorted(posts))), target, cause)


def _ask_office(engine: IncidentEngine, case: Case, notice: Notice, level: int, cause: str | None) -> None:
    """An office gets the time of its level; then the next is told."""
    assert case.decision is not None
    minutes = engine.policy_of(case).level_minutes(case.decision.severity)
    by = engine.now + timedelta(minutes=minutes)
    issued = _said(engine, case, notice.recipient) or engine.issue(case, notice, by, cause)
    if notice.purpose == "not_reviewed" and notice.recipient == DESK:
        engine.due(case, "review", by, level=level)
    elif notice.purpose == "not_reviewed":
        # who is above the desk is asked to answer, and not to do its work: then only the lapse is left
        engine.due(case, "review", by, issued.notice_id, level=level)
        if "lapse" not in case.pending:
            engine.lapse_later(case)
    else:
        engine.due(case, "acknowledge", by, issued.notice_id, level=level)


def _said(engine: IncidentEngine, case: Case, office: str) -> IssuedNotice | None:
    """That somebody did not answer, as the office has just been told: nobody gets two such messages in one pass."""
    said = (n for n in engine.changes.notices if n.case is case and n.notice.recipient == office)
    return next((n for n in said if n.notice.purpose in UNANSWERED), None)


def _exhausted(engine: IncidentEngine, case: Case, reason: Reason, posts: Iterable[str]) -> None:
    data = ChainExhaustedData(**about(case, None), reason=reason, round=case.round)
    cause = engine.emit(ChainExhausted(**engine.envelope(case), data=data))
    if _said(engine, case, DESK) is None:
        engine.tell_desk(case, "exhausted", posts, cause)
    if "lapse" not in case.pending:
        engine.lapse_later(case)


def ask_again(engine: IncidentEngine, case: Case, cause: str | None) -> None:
    """In a new round: the post-holders where they were told, else the desk, whose review is still owed."""
    assert case.decision is not None
    engine.cancel_stored_timers(case, "acknowledge", "remind", "review")
    engine.cancel_timers(case, "lapse")
    if notification.holders_are_told(case.decision):
        again = notification.to_holders(case.decision.parties, "still_open")
        engine.ask(case, [n for n in again if n.recipient not in case.ack_requested], cause)
    if notification.desk_reviews(case.decision) and "review" not in case.pending:
        _ask_office(engine, case, Notice(DESK, "not_reviewed"), 1, cause)
    engine.lapse_later(case)


def _lapse(engine: IncidentEngine, case: Case) -> None:
    """Open still: what was acknowledged lapses, and whoever answers is asked again."""
    assert case.decision is not None
    if not case.is_open or case.decision.outcome == "does_not_apply":
        return
    was_answered = case.state in ACKNOWLEDGED_STATES
    engine.begin_round(case)
    cause: str | None = None
    if was_answered:
        data = AcknowledgementLapsedData(**about(case, None), round=case.round)
        cause = engine.emit(AcknowledgementLapsed(**engine.envelope(case), data=data))
    ask_again(engine, case, cause)


def _idle(engine: IncidentEngine, case: Case) -> None:
    """What the rule does not apply to ends by itself, so long after the last report."""
    assert case.decision is not None
    if not case.is_open or case.decision.outcome != "does_not_apply" or "review" in case.pending:
        return
    minutes = engine.policy_of(case).chain.idle_minutes
    ends_at = max(r.received_at for r in case.reports) + timedelta(minutes=minutes)
    engine.cancel_timers(case, "idle")
    if ends_at > engine.now:
        engine.due(case, "idle", ends_at)
        return
    end(engine, case, "closed")
    closing = Finding(
        finding_id=engine.new_id(),
        kind="closure",
        author=SYSTEM,
        role=SYSTEM,
        content={"cause": "the rule does not apply, and nothing more was reported"},
        made_at=engine.now,
    )
    case.findings.append(closing)
    engine.changes.findings.append((case, closing))
    data = FindingData(**about(case, None), finding_id=closing.finding_id, author=SYSTEM, role=SYSTEM)
    engine.emit(IncidentClosed(**engine.envelope(case), data=data))


def end(engine: IncidentEngine, case: Case, state: Literal["closed", "dismissed", "merged", "handed_off"]) -> None:
    """Nothing more falls due or is sent."""
    case.state = state
    case.pending.clear()
    engine.changes.cases[case.incident_id] = case
    engine.changes.ended.add(case.incident_id)
    engine.changes.deadlines[:] = [d for d in engine.changes.deadlines if d.case is not case]

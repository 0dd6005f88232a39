"""What happens when something falls due: reminder, step-up, end of the chain, lapse, idle end. Pure.

After an outage of any length a due time is acted on once, from now: the next level gets its whole time, and what was
overtaken (a reminder after its due time) is not sent at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents.change_set import IssuedNotice
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.evaluation import begin_round, evaluate
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import Case, Incident, TimerKind, as_case
from services.escalation.domain.incidents.lifecycle import ACKNOWLEDGED_STATES
from services.escalation.domain.incidents.notifying import issue, request_acknowledgements, tell_desk
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
DECIDES_ANEW: frozenset[TimerKind] = frozenset({"directory", "lapse", "idle", "remind"})
"""Kinds that decide the incident anew, and so need its reports."""
OF_A_ROUND: frozenset[TimerKind] = frozenset({"remind", "acknowledge", "lapse"})
SYSTEM = "trucban"
"""Author of what nobody did by hand."""


@dataclass(frozen=True)
class FiredTimer:
    """A due time that has passed, of an incident that is locked."""

    kind: TimerKind
    due_at: datetime
    notice_id: str | None
    level: int


@dataclass(frozen=True)
class TimedNotice:
    """A notice that a due time is about."""

    recipient: str
    posts: tuple[str, ...]
    due_at: datetime | None


def fire(
    engine: IncidentEngine, incident: Incident, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]
) -> None:
    """Act on all that has passed of one incident. `notices`: those concerned, by id."""
    kinds, before = {t.kind for t in fired}, incident.round
    if "directory" in kinds:
        engine.cancel(incident, "directory")  # whatever changed then, the next change may be another
    if kinds & DECIDES_ANEW:
        evaluate(engine, as_case(incident), None)
    if incident.round != before:  # everybody has just been asked again
        fired = [t for t in fired if t.kind not in OF_A_ROUND]
        kinds -= OF_A_ROUND
    overdue = _overdue(engine, incident, fired, notices)
    overtaken = {t.notice_id for t in fired if t.kind == "acknowledge"}
    for t in fired:
        if t.kind == "remind" and t.notice_id not in overtaken and "lapse" not in kinds:
            _remind(engine, incident, notices[str(t.notice_id)])
    _step_up(
        engine, incident, "not_acknowledged", [t for t in overdue if _is_unanswered(incident, notices, t)], notices
    )
    _step_up(engine, incident, "not_reviewed", [t for t in fired if t.kind == "review"], notices)
    if "lapse" in kinds:
        _lapse(engine, incident)
    if "idle" in kinds:
        _end_idle(engine, as_case(incident))
    if incident.is_open and not incident.pending - {"directory"}:
        engine.schedule_lapse(incident)


def _overdue(
    engine: IncidentEngine, incident: Incident, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]
) -> list[FiredTimer]:
    """Missed acknowledgements. Skips people who no longer held the post: their successors have just been told."""
    gone = engine.changes.withdrawn.get(incident.incident_id, set())
    changed = min((t.due_at for t in fired if t.kind == "directory"), default=None)
    late = [t for t in fired if t.kind == "acknowledge"]
    if changed is None:
        return late
    return [t for t in late if t.due_at < changed or notices[str(t.notice_id)].recipient not in gone]


def _is_unanswered(incident: Incident, notices: Mapping[str, TimedNotice], timer: FiredTimer) -> bool:
    """Whether one of the posts that it is about has not been answered for, be it by somebody else."""
    acting = {p.post: p.acting.holder_id for p in incident.standing.parties if p.acting}
    return any(acting.get(post) not in incident.acknowledged for post in notices[str(timer.notice_id)].posts)


def _remind(engine: IncidentEngine, incident: Incident, asked: TimedNotice) -> None:
    """Remind once, and only who still answers for the post."""
    if asked.recipient in incident.standing.acting and (asked.recipient, "reminder") not in incident.notified:
        issue(engine, incident, Notice(asked.recipient, "reminder", asked.posts), asked.due_at, None)


def _step_up(
    engine: IncidentEngine,
    incident: Incident,
    reason: Reason,
    fired: Sequence[FiredTimer],
    notices: Mapping[str, TimedNotice],
) -> None:
    """Tell the next level of all that passed together. Every due time that passed is an event of its own."""
    if not fired:
        return
    levels = engine.policy_of(incident).chain.levels
    target = max(t.level for t in fired) + 1
    cause: str | None = None
    if target <= len(levels):
        for timer in fired:
            cause = _raise_step(engine, incident, levels[target - 1], reason, timer.due_at)
    engine.changes.incidents[incident.incident_id] = incident
    posts = {post for t in fired if t.notice_id for post in notices[t.notice_id].posts}
    if reason == "not_acknowledged":
        incident.level = max(incident.level, target)
    if target > len(levels):
        _exhaust(engine, incident, reason, posts)
        return
    _ask_office(engine, incident, Notice(levels[target - 1], reason, tuple(sorted(posts))), target, cause)


def _raise_step(engine: IncidentEngine, incident: Incident, level: str, reason: Reason, due_at: datetime) -> str:
    return engine.emit(
        incident,
        lambda head, data: StepRaised(**head, data=StepRaisedData(**data, level=level, reason=reason, due_at=due_at)),
    )


def _ask_office(engine: IncidentEngine, incident: Incident, notice: Notice, level: int, cause: str | None) -> None:
    """An office gets the time of its level. Then the next is told."""
    minutes = engine.policy_of(incident).level_minutes(incident.standing.severity)
    by = engine.now + timedelta(minutes=minutes)
    issued = _told_now(engine, incident, notice.recipient) or issue(engine, incident, notice, by, cause)
    if notice.purpose == "not_reviewed" and notice.recipient == DESK:
        engine.schedule(incident, "review", by, level=level)
    elif notice.purpose == "not_reviewed":
        # who is above the desk is asked to answer, and not to do its work: then only the lapse is left
        engine.schedule(incident, "review", by, issued.notice_id, level=level)
        if "lapse" not in incident.pending:
            engine.schedule_lapse(incident)
    else:
        engine.schedule(incident, "acknowledge", by, issued.notice_id, level=level)


def _told_now(engine: IncidentEngine, incident: Incident, office: str) -> IssuedNotice | None:
    """The notice of this transaction that tells the office of somebody who did not answer. Nobody gets two of them."""
    said = (n for n in engine.changes.notices if n.incident is incident and n.notice.recipient == office)
    return next((n for n in said if n.notice.purpose in UNANSWERED), None)


def _exhaust(engine: IncidentEngine, incident: Incident, reason: Reason, posts: Iterable[str]) -> None:
    round_ = incident.round
    cause = engine.emit(
        incident,
        lambda head, data: ChainExhausted(**head, data=ChainExhaustedData(**data, reason=reason, round=round_)),
    )
    if _told_now(engine, incident, DESK) is None:
        tell_desk(engine, incident, "exhausted", posts, cause)
    if "lapse" not in incident.pending:
        engine.schedule_lapse(incident)


def ask_again(engine: IncidentEngine, incident: Incident, cause: str | None) -> None:
    """Ask in a new round: the post-holders where they were told, else the desk, whose review is still owed."""
    decision = incident.standing
    engine.cancel_stored(incident, "acknowledge", "remind", "review")
    engine.cancel(incident, "lapse")
    if notification.holders_are_told(decision):
        again = notification.to_holders(decision.parties, "still_open")
        request_acknowledgements(
            engine, incident, [n for n in again if n.recipient not in incident.ack_requested], cause
        )
    if notification.desk_reviews(decision) and "review" not in incident.pending:
        _ask_office(engine, incident, Notice(DESK, "not_reviewed"), 1, cause)
    engine.schedule_lapse(incident)


def _lapse(engine: IncidentEngine, incident: Incident) -> None:
    """Open still: what was acknowledged lapses, and whoever answers is asked again."""
    if not incident.is_open or incident.standing.outcome == "does_not_apply":
        return
    was_answered = incident.state in ACKNOWLEDGED_STATES
    begin_round(engine, incident)
    cause: str | None = None
    if was_answered:
        round_ = incident.round
        cause = engine.emit(
            incident,
            lambda head, data: AcknowledgementLapsed(**head, data=AcknowledgementLapsedData(**data, round=round_)),
        )
    ask_again(engine, incident, cause)


def _end_idle(engine: IncidentEngine, case: Case) -> None:
    """What the rule does not apply to ends by itself, so long after the last report."""
    if not case.is_open or case.standing.outcome != "does_not_apply" or "review" in case.pending:
        return
    minutes = engine.policy_of(case).chain.idle_minutes
    ends_at = max(r.received_at for r in case.reports) + timedelta(minutes=minutes)
    engine.cancel(case, "idle")
    if ends_at > engine.now:
        engine.schedule(case, "idle", ends_at)
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
    engine.emit(
        case,
        lambda head, data: IncidentClosed(
            **head,
            data=FindingData(**data, finding_id=closing.finding_id, author=SYSTEM, role=SYSTEM),
        ),
    )


def end(
    engine: IncidentEngine, incident: Incident, state: Literal["closed", "dismissed", "merged", "handed_off"]
) -> None:
    """Nothing more falls due or is sent."""
    incident.state = state
    incident.pending.clear()
    engine.changes.incidents[incident.incident_id] = incident
    engine.changes.ended.add(incident.incident_id)
    engine.changes.timers[:] = [t for t in engine.changes.timers if t.incident is not incident]

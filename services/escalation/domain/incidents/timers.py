"""What happens when due times pass: reminder, step-up, end of the chain, lapse, end of an idle incident. Pure.

After an outage of any length a timer fires once, and what follows counts from now: the next level gets its full time. A
reminder whose deadline has passed as well is not sent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK, LEADERSHIP, OFFICES, answers
from services.escalation.domain.incidents import obligations
from services.escalation.domain.incidents.change_set import IssuedNotice
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.evaluation import begin_round, evaluate
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import NOT_ENOUGH, Case, DeskTask, Incident, TimerKind, as_case
from services.escalation.domain.incidents.lifecycle import ACKNOWLEDGED_STATES
from services.escalation.domain.incidents.notifying import issue, request_acknowledgements, stand_down, tell_desk
from services.escalation.domain.incidents.obligations import DESK_TASKS
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import UNANSWERED, Notice, Purpose
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
Awaited = Literal["acknowledge", DeskTask]
"""What somebody did not do in time."""
OVERDUE: Mapping[Awaited, Purpose] = {
    "acknowledge": "not_acknowledged",
    "review": "not_reviewed",
    "vacancy": "vacancy",
    "unit_split": "unit_split",
    "closure": "closure",
    "late_reports": "late_reports",
    "lost_notice": "lost_notice",
}
"""Purposes of the notices that it was not done in time."""
DECIDES_ANEW: frozenset[TimerKind] = frozenset({"directory", "lapse", "idle", "remind"})
"""Kinds of timers that evaluate the incident. It must be loaded as a Case for them."""
OF_A_ROUND: frozenset[TimerKind] = frozenset({"remind", "acknowledge", "lapse"})
"""Kinds of timers that mean nothing once a new round has begun."""
SYSTEM = "trucban"
"""Author and role of a finding that the service makes itself."""


@dataclass(frozen=True)
class FiredTimer:
    """A timer that has fired. Its incident is locked."""

    kind: TimerKind
    due_at: datetime
    notice_id: str | None
    level: int


@dataclass(frozen=True)
class TimedNotice:
    """The notice that a timer is about."""

    recipient: str
    posts: tuple[str, ...]
    due_at: datetime | None
    event_id: str | None
    """Id of the event that recorded it."""


def fire(
    engine: IncidentEngine, incident: Incident, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]
) -> None:
    """Act on all timers of one incident that have fired. `notices`: the notices that they are about, by id.

    What follows is caused by the notice that the timer is about, or else by the decision that stands.
    The incident must be a Case if one of the kinds is in DECIDES_ANEW.
    """
    kinds, before = {t.kind for t in fired}, incident.round
    if "directory" in kinds:
        engine.cancel(incident, "directory")  # evaluate() schedules the next change anew
    if kinds & DECIDES_ANEW:
        evaluate(engine, as_case(incident), incident.decision_event)
    if incident.round != before:  # evaluate() began a new round and asked everybody again
        fired = [t for t in fired if t.kind not in OF_A_ROUND]
        kinds -= OF_A_ROUND
    overdue = _overdue(engine, incident, fired, notices)
    overtaken = {t.notice_id for t in fired if t.kind == "acknowledge"}
    for t in fired:
        if t.kind == "remind" and t.notice_id not in overtaken and "lapse" not in kinds:
            _remind(engine, incident, notices[str(t.notice_id)])
    _step_up(engine, incident, "acknowledge", [t for t in overdue if _is_unacknowledged(incident, notices, t)], notices)
    still_owed = obligations.desk_tasks(incident)  # an evaluation may just have ended what had fallen due
    for task in DESK_TASKS:
        _step_up(engine, incident, task, [t for t in fired if t.kind == task and task in still_owed], notices)
    _end_escalations(engine, incident, fired, notices)
    if "lapse" in kinds:
        _lapse(engine, incident, repeats=1 + max(t.level for t in fired if t.kind == "lapse"))
    if "idle" in kinds:
        _end_idle(engine, as_case(incident))
    if incident.is_waited_for and not incident.pending - NOT_ENOUGH:
        obligations.schedule_lapse(engine, incident)


def _overdue(
    engine: IncidentEngine, incident: Incident, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]
) -> list[FiredTimer]:
    """Return the missed acknowledgements, without those of people who no longer held the post when they fell due.

    Their successors have been notified, or will be when the change is evaluated.
    """
    tenures = engine.tenures(incident.unit, incident.successor)

    def answered(timer: FiredTimer) -> bool:
        asked, units = notices[str(timer.notice_id)], filter(None, (incident.unit, incident.successor))
        held = (answers(tenures, post, asked.recipient, timer.due_at, u) for u in units for post in asked.posts)
        return asked.recipient in OFFICES or any(held)

    return [t for t in fired if t.kind == "acknowledge" and answered(t)]


def _is_unacknowledged(incident: Incident, notices: Mapping[str, TimedNotice], timer: FiredTimer) -> bool:
    """Return whether nobody has acknowledged for one of the posts that the timer's notice is about.

    An acknowledgement by somebody else who acts for the post counts.
    """
    acting = {p.post: p.acting.holder_id for p in incident.standing.parties if p.acting}
    posts = notices[str(timer.notice_id)].posts
    return any((acting.get(post, ""), post) not in incident.acknowledged for post in posts)


def _remind(engine: IncidentEngine, incident: Incident, asked: TimedNotice) -> None:
    """Remind somebody once a round, if they still answer for the post."""
    if asked.recipient in incident.standing.acting and (asked.recipient, "reminder") not in incident.notified:
        issue(engine, incident, Notice(asked.recipient, "reminder", asked.posts), asked.due_at, asked.event_id)


def _step_up(
    engine: IncidentEngine,
    incident: Incident,
    what: Awaited,
    fired: Sequence[FiredTimer],
    notices: Mapping[str, TimedNotice],
) -> None:
    """Notify the next level, once for all timers that fired together. Each timer gets an event of its own."""
    if not fired:
        return
    levels = engine.policy_of(incident).chain.levels
    target = max(t.level for t in fired) + 1
    cause: str | None = None
    for timer in fired:
        cause = _cause_of(incident, timer, notices)
        if target <= len(levels):
            cause = _raise_step(engine, incident, levels[target - 1], what, timer.due_at, cause)
    engine.changes.incidents[incident.incident_id] = incident
    if what == "acknowledge":
        posts = {post for t in fired if t.notice_id for post in notices[t.notice_id].posts}
        incident.level = max(incident.level, target)
    else:
        posts = obligations.posts_of(incident, what)
    if target > len(levels):
        _exhaust(engine, incident, what, posts, cause)
        return
    _ask_office(engine, incident, levels[target - 1], what, sorted(posts), target, cause)


def _end_escalations(
    engine: IncidentEngine, incident: Incident, fired: Sequence[FiredTimer], notices: Mapping[str, TimedNotice]
) -> None:
    """The leadership did not answer what was put to it at once: there is nobody above it."""
    for asked in (notices[str(t.notice_id)] for t in fired if t.kind == "escalation"):
        _exhaust(engine, incident, "acknowledge", asked.posts, asked.event_id)


def _cause_of(incident: Incident, timer: FiredTimer, notices: Mapping[str, TimedNotice]) -> str | None:
    """Return the event of the notice that the timer is about, or else of the standing decision."""
    asked = notices[timer.notice_id] if timer.notice_id else None
    return asked.event_id if asked else incident.decision_event


def _raise_step(
    engine: IncidentEngine, incident: Incident, level: str, what: Awaited, due_at: datetime, cause: str | None
) -> str:
    reason, task = _reason_and_task(what)
    return engine.emit(
        incident,
        lambda head, data: StepRaised(
            **head, data=StepRaisedData(**data, level=level, reason=reason, task=task, due_at=due_at)
        ),
        cause=cause,
    )


def _reason_and_task(what: Awaited) -> tuple[Reason, DeskTask | None]:
    return ("not_acknowledged", None) if what == "acknowledge" else ("not_reviewed", what)


def _ask_office(
    engine: IncidentEngine,
    incident: Incident,
    office: str,
    what: Awaited,
    posts: Sequence[str],
    level: int,
    cause: str | None,
) -> None:
    """Notify an office, and schedule the time that its level has. After that the next level is notified."""
    minutes = engine.policy_of(incident).level_minutes(incident.standing.severity)
    by = engine.now + timedelta(minutes=minutes)
    purpose = OVERDUE[what]
    told = _notice_of_inaction(engine, incident, office)
    issued = told or issue(engine, incident, Notice(office, purpose, tuple(posts)), by, cause)
    engine.changes.asking_offices.add(issued.notice_id)
    if what == "acknowledge":
        engine.schedule(incident, "acknowledge", by, issued.notice_id, level=level, who=(office,))
        return
    engine.cancel(incident, what)  # evaluate() may have set the desk's time anew
    if office == DESK:
        # an acknowledgement is not enough: the desk has to do it
        engine.schedule(incident, what, by, level=level, who=(office,))
    else:
        # an office above the desk only acknowledges, and does not act for it: after that only the lapse is left
        engine.schedule(incident, what, by, issued.notice_id, level=level, who=(office,))
        if "lapse" not in incident.pending:
            obligations.schedule_lapse(engine, incident)


def _notice_of_inaction(engine: IncidentEngine, incident: Incident, office: str) -> IssuedNotice | None:
    """Return the notice of this transaction that tells the office that somebody did not act, or None.

    An office gets only one such notice in a transaction, whatever was not done.
    """
    asking = engine.changes.asking_offices
    said = (n for n in engine.changes.notices if n.incident is incident and n.notice.recipient == office)
    return next((n for n in said if n.notice.purpose in UNANSWERED or n.notice_id in asking), None)


def _exhaust(
    engine: IncidentEngine, incident: Incident, what: Awaited, posts: Iterable[str], cause: str | None
) -> None:
    round_, (reason, task) = incident.round, _reason_and_task(what)
    cause = engine.emit(
        incident,
        lambda head, data: ChainExhausted(
            **head, data=ChainExhaustedData(**data, reason=reason, task=task, round=round_)
        ),
        cause=cause,
    )
    if not incident.is_open:
        issue(engine, incident, Notice(DESK, OVERDUE[what]), None, cause)
    elif _notice_of_inaction(engine, incident, DESK) is None:
        tell_desk(engine, incident, "exhausted", posts, cause)
    if "lapse" not in incident.pending:
        obligations.schedule_lapse(engine, incident)


def put_to_leadership(engine: IncidentEngine, incident: Incident, posts: tuple[str, ...], cause: str | None) -> None:
    """Ask the leadership now, whatever level was asked so far. What others are asked, and by when, stays as it is.

    `posts`: those whose holder cannot handle it; empty if the desk asks. Without an answer the chain has ended.
    """
    policy = engine.policy_of(incident)
    levels = policy.chain.levels
    level = levels.index(LEADERSHIP) + 1 if LEADERSHIP in levels else len(levels) + 1
    by = engine.now + timedelta(minutes=policy.level_minutes(incident.standing.severity))
    issued = issue(engine, incident, Notice(LEADERSHIP, "escalated", posts), by, cause)
    incident.level = max(incident.level, level)
    engine.schedule(incident, "escalation", by, issued.notice_id, level=level, who=(LEADERSHIP,))


def ask_again(engine: IncidentEngine, incident: Incident, cause: str | None, repeats: int = 0) -> None:
    """Ask again in a new round: the post-holders if the decision notifies them, and the desk for what it has to do.

    While a proposed closure waits for the desk, only the desk is asked. `repeats`: as for `schedule_lapse`; whoever is
    asked repeatedly is not reminded as well.
    """
    decision = incident.standing
    engine.cancel_stored(incident, "acknowledge", "remind", *DESK_TASKS)
    engine.cancel(incident, "lapse")
    if incident.is_open and notification.holders_are_told(decision) and incident.state != "closure_proposed":
        notices = notification.to_holders(decision.parties, "still_open")
        again = [n for n in notices if not all((n.recipient, post) in incident.ack_requested for post in n.posts)]
        request_acknowledgements(engine, incident, again, cause, reminds=repeats == 0)
    for task in DESK_TASKS:
        if task in obligations.desk_tasks(incident) and task not in incident.pending:
            _ask_office(engine, incident, DESK, task, obligations.posts_of(incident, task), 1, cause)
    obligations.schedule_lapse(engine, incident, repeats)


def _lapse(engine: IncidentEngine, incident: Incident, repeats: int) -> None:
    """Let the acknowledgements of an incident lapse and ask again, unless there is nobody to ask.

    What a proposed closure waits for is not asked of the post-holders: their acknowledgements do not lapse.
    """
    is_over = not incident.is_open or incident.standing.outcome == "does_not_apply"
    if is_over and not obligations.desk_tasks(incident):
        return
    was_answered = incident.state in ACKNOWLEDGED_STATES and incident.state != "closure_proposed"
    begin_round(engine, incident)
    cause = incident.decision_event
    if was_answered:
        round_ = incident.round
        cause = engine.emit(
            incident,
            lambda head, data: AcknowledgementLapsed(**head, data=AcknowledgementLapsedData(**data, round=round_)),
            cause=cause,
        )
    ask_again(engine, incident, cause, repeats)


def _end_idle(engine: IncidentEngine, case: Case) -> None:
    """Close an incident to which the rule does not apply, when its last report is `idle_minutes` old."""
    if not case.is_open or case.standing.outcome != "does_not_apply" or case.pending.intersection(DESK_TASKS):
        return
    minutes = engine.policy_of(case).chain.idle_minutes
    ends_at = max(r.received_at for r in case.reports) + timedelta(minutes=minutes)
    engine.cancel(case, "idle")
    if ends_at > engine.now:
        engine.schedule(case, "idle", ends_at, who=(DESK,))
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
        cause=case.decision_event,
    )


def end(
    engine: IncidentEngine,
    incident: Incident,
    state: Literal["closed", "dismissed", "merged", "handed_off"],
    cause: str | None = None,
) -> None:
    """Set a final state. Pending timers and unsent deliveries are cancelled.

    Whoever was notified of what did not happen, or is now part of another incident, is told that this no longer holds.
    """
    if state in {"dismissed", "merged"} and notification.holders_are_told(incident.standing):
        stand_down(engine, incident, cause)
    incident.state = state
    incident.pending.clear()
    engine.changes.incidents[incident.incident_id] = incident
    engine.changes.ended.add(incident.incident_id)
    engine.changes.timers[:] = [t for t in engine.changes.timers if t.incident is not incident]

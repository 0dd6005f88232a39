"""Obligations: what an incident waits for, of whom. Pure.

A pending timer that somebody can meet is an obligation (việc phải làm): who has to do what by when. What waits for the
desk never counts against the post-holders. If an obligation is not met in time, the next level is told; when the chain
has ended, the desk is asked again after an interval that grows, up to a day.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import DeskTask, Incident, TimerKind
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import Purpose

LONGEST_INTERVAL = timedelta(days=1)
"""Between two rounds of asking, unless the rulebook's own interval is longer."""
MANY = 20
What = Literal[
    "acknowledge",
    "review",
    "fill_vacancy",
    "assign_unit",
    "decide_closure",
    "answer_escalation",
    "review_late_reports",
    "mend_lost_notice",
    "resolve",
    "close",
]
"""What somebody has to do."""
WHAT: Mapping[TimerKind, What] = {
    "acknowledge": "acknowledge",
    "review": "review",
    "vacancy": "fill_vacancy",
    "unit_split": "assign_unit",
    "closure": "decide_closure",
    "escalation": "answer_escalation",
    "late_reports": "review_late_reports",
    "lost_notice": "mend_lost_notice",
    "idle": "close",
}
DESK_TASKS: tuple[DeskTask, ...] = ("review", "vacancy", "unit_split", "closure", "late_reports", "lost_notice")
PURPOSES: Mapping[DeskTask, frozenset[Purpose]] = {
    "review": frozenset({"review", "not_reviewed"}),
    "vacancy": frozenset({"vacancy"}),
    "unit_split": frozenset({"unit_split"}),
    "closure": frozenset({"closure"}),
    "late_reports": frozenset({"late_reports"}),
    "lost_notice": frozenset({"lost_notice", "unreachable"}),
}
"""Purposes of the notices that ask for each task."""
TASK_OF: Mapping[Purpose, DeskTask] = {purpose: task for task, purposes in PURPOSES.items() for purpose in purposes}


@dataclass(frozen=True)
class Waiting:
    """A pending timer that somebody can meet. `posts`: those of its notice, if it is about one."""

    kind: TimerKind
    who: tuple[str, ...]
    posts: tuple[str, ...]
    since: datetime
    due_at: datetime
    level: int


@dataclass(frozen=True)
class Obligation:
    """Who has to do what by when. `level`: 0 is the post-holders, then come the levels of the chain."""

    who: str
    """A holder id, `desk` or `leadership`."""
    posts: tuple[str, ...]
    what: What
    since: datetime
    due_at: datetime
    level: int


def waits_for(incident: Incident, waiting: Iterable[Waiting]) -> list[Obligation]:
    """Return whom an incident waits for, the soonest due first. Nobody is listed twice for the same.

    `waiting`: its pending timers that somebody can meet.
    """
    found: dict[tuple[str, What], Obligation] = {}
    for timer in sorted(waiting, key=lambda timer: (timer.due_at, timer.level, timer.who, timer.kind)):
        for who in timer.who:
            for what, posts in _owed(incident, timer, who):
                level = timer.level if timer.kind not in ("lapse", "idle") else int(who == DESK)
                found.setdefault((who, what), Obligation(who, posts, what, timer.since, timer.due_at, level))
    return list(found.values())


def _owed(incident: Incident, timer: Waiting, who: str) -> list[tuple[What, tuple[str, ...]]]:
    """Return what `who` has to do until the timer fires, and the posts that it is about."""
    if timer.kind == "lapse" and who == DESK:
        tasks = desk_tasks(incident)
        return [(WHAT[task], posts_of(incident, task)) for task in DESK_TASKS if task in tasks] or [("close", ())]
    if timer.kind == "lapse":
        posts = tuple(sorted(p.post for p in incident.standing.parties if p.acting and p.acting.holder_id == who))
        has_acknowledged = all((who, post) in incident.acknowledged for post in posts)
        return [("resolve" if has_acknowledged else "acknowledge", posts)]
    if timer.kind in DESK_TASKS:
        return [(WHAT[timer.kind], posts_of(incident, timer.kind))]
    return [(WHAT[timer.kind], timer.posts)]


def desk_tasks(incident: Incident) -> set[DeskTask]:
    """Return what the incident waits for at the desk."""
    decision = incident.standing
    found: set[DeskTask] = set()
    if not incident.is_open:
        return {"late_reports"} if incident.late_reports_waiting else found
    if decision.standing == "provisional" or notification.desk_reviews(decision):
        found.add("review")
    if notification.holders_are_told(decision):
        if decision.divided:
            found.add("unit_split")
        elif vacant_posts(incident):
            found.add("vacancy")
        if unreached_posts(incident):
            found.add("lost_notice")
    if incident.state == "closure_proposed":
        found.add("closure")
    return found


def vacant_posts(incident: Incident) -> tuple[str, ...]:
    """Return the posts for which nobody acts now."""
    return tuple(sorted(party.post for party in incident.standing.parties if party.acting is None))


def unreached_posts(incident: Incident) -> tuple[str, ...]:
    """Return the posts for which somebody acts whom this round's request did not reach, and who has not answered."""
    return tuple(sorted({post for _, post in (incident.lost & incident.standing.acting_for) - incident.acknowledged}))


def posts_of(incident: Incident, task: DeskTask) -> tuple[str, ...]:
    """Return the posts that the task is about."""
    if task == "lost_notice":
        return unreached_posts(incident)
    return vacant_posts(incident) if task == "vacancy" else ()


def due(engine: IncidentEngine, incident: Incident, task: DeskTask) -> datetime:
    """Return by when the desk has to do the task: a gap as fast as a level of the chain, the rest as a review.

    What late reports add is as urgent as a gap.
    """
    policy, decision, late = engine.policy_of(incident), incident.standing, incident.late_reports_waiting
    if task == "late_reports" and late is not None and late.weight is not None and late.adds:
        return engine.now + timedelta(minutes=policy.level_minutes(late.weight.severity))
    if task in ("vacancy", "unit_split", "lost_notice"):
        return engine.now + timedelta(minutes=policy.level_minutes(decision.severity))
    if task == "review" and decision.deadlines is not None and decision.deadlines.review_by > engine.now:
        return decision.deadlines.review_by
    return engine.now + timedelta(minutes=policy.deadlines.review_minutes)


def ask_desk(engine: IncidentEngine, incident: Incident, task: DeskTask) -> datetime:
    """Schedule the desk's time for the task, anew if there is more to do than before. Returns when it ends."""
    by = due(engine, incident, task)
    engine.cancel(incident, task)
    engine.schedule(incident, task, by, level=1, who=(DESK,))
    _name_in_lapse(engine, incident)
    return by


def settle(engine: IncidentEngine, incident: Incident, before: Collection[DeskTask] = ()) -> None:
    """Cancel what the desk need not do any more, and what was still to be sent for it.

    `before`: what it had to do until now. Its time may have passed: then nothing is pending for it, but what it was
    told of it may not have been sent yet.

    An incident that is not verified waits for the desk from the start, also where only the post-holders are told at
    once. The desk is told when its time is over.
    """
    tasks = desk_tasks(incident)
    was_asked = any((DESK, purpose) in incident.notified for purpose in PURPOSES["review"])
    if "review" in tasks - incident.pending and not was_asked:
        engine.schedule(incident, "review", due(engine, incident, "review"), who=(DESK,))
    end_what_is_done(engine, incident, before)


def end_what_is_done(engine: IncidentEngine, incident: Incident, before: Collection[DeskTask]) -> None:
    """Cancel what the desk need not do any more, and what was still to be sent for it. `before`: as for `settle`."""
    tasks = desk_tasks(incident)
    for task in DESK_TASKS:
        if task not in tasks and (task in incident.pending or task in before):
            engine.cancel(incident, task)
            engine.changes.supersede(incident.incident_id, PURPOSES[task])
            _name_in_lapse(engine, incident)


def _name_in_lapse(engine: IncidentEngine, incident: Incident) -> None:
    """Let the pending lapse wait for whoever has something to do now."""
    if "lapse" in incident.pending:
        engine.changes.lapse_waits_for[incident.incident_id] = whom_the_lapse_waits_for(incident)


def schedule_lapse(engine: IncidentEngine, incident: Incident, repeats: int = 0) -> None:
    """Schedule the time at which acknowledgements lapse and the next round begins.

    `repeats`: how often this happened already without a change. Each time the interval doubles, up to a day.
    """
    severity = incident.decision.severity if incident.decision else None
    first = timedelta(minutes=engine.policy_of(incident).lapse_minutes(severity))
    interval = max(first, min(first * 2 ** min(repeats, MANY), LONGEST_INTERVAL))
    engine.schedule(incident, "lapse", engine.now + interval, level=repeats, who=whom_the_lapse_waits_for(incident))


def whom_the_lapse_waits_for(incident: Incident) -> tuple[str, ...]:
    """Return who could end the wait for the next round: the post-holders, and the desk where it has something to do.

    A proposed closure waits for the desk alone.
    """
    holders: set[str] = set()
    if incident.is_open and notification.holders_are_told(incident.standing) and incident.state != "closure_proposed":
        holders = incident.standing.acting
    desk = {DESK} if desk_tasks(incident) or not holders else set[str]()
    return tuple(sorted(holders | desk))

"""Evaluating an incident: decide it, record the decision if it differs, and notify whoever must know. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.escalation.domain.directory.model import DESK, key_of, known_at
from services.escalation.domain.incidents import obligations
from services.escalation.domain.incidents.change_set import MadeDecision
from services.escalation.domain.incidents.engine import Answering, IncidentEngine
from services.escalation.domain.incidents.finding import assess
from services.escalation.domain.incidents.incident import NOT_ENOUGH, Case, DeskTask, Incident
from services.escalation.domain.incidents.notifying import issue, on_duty, request_acknowledgements, stand_down
from services.escalation.domain.incidents.obligations import DESK_TASKS, TASK_OF
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.rules.accountability import Inputs, ReportFacts, decide
from services.escalation.domain.rules.record import Decision
from shared.events import DecisionMade, DecisionMadeData


def evaluate(engine: IncidentEngine, case: Case, cause: str | None) -> None:
    """Evaluate the rule for `case`. `cause`: id of the event that led to it.

    If the result differs from the standing decision, a new decision (quyết định) is made and linked to it. Its notices
    are issued while the case is open. An open case always keeps a pending timer.
    """
    engine.changes.incidents[case.incident_id] = case
    inputs = inputs_of(engine, case)
    case.successor = inputs.successor
    decision = decide(inputs, engine.rulebook_of(case))
    before, again = case.decision, _requests_to_repeat(engine, case, decision)
    owed = obligations.desk_tasks(case) if before else set[DeskTask]()
    if before is None or decision.differs_from(before):
        _record_decision(engine, case, decision, inputs, cause)
    if not case.is_open:
        return
    asked_twice = any((n.recipient, "still_open") in case.notified for n in again)
    if asked_twice or (again and _is_graver(engine, case, decision, before)):
        again = _begin_another_round(engine, case, decision)
    engine.withdraw(case, {n.recipient for n in again})
    _notify(engine, case, decision, before, cause)
    request_acknowledgements(engine, case, again, cause)
    obligations.settle(engine, case, owed)
    if again:
        engine.cancel(case, "lapse")  # who is asked anew is asked at the first interval
    if before is not None and notification.holders_are_told(before) and not notification.holders_are_told(decision):
        stand_down(engine, case, cause)
    _ensure_timer(engine, case, decision)
    if before is not None and case.decision is not before and "lapse" in case.pending:
        engine.changes.lapse_waits_for[case.incident_id] = obligations.whom_the_lapse_waits_for(case)


def inputs_of(engine: IncidentEngine, case: Case) -> Inputs:
    """Return all that a decision on the case depends on, as known now."""
    assessment, adopted = assess(case.findings), engine.rulebook_of(case)
    found = engine.lineage(case)
    successor = None if key_of(found.acting) == key_of(case.unit) else found.acting
    tenures = engine.tenures(case.unit, successor)
    return Inputs(
        format=2,
        incident=case.incident_id,
        unit=case.unit,
        time_of_occurrence=case.anchor.at,
        evaluated_at=known_at(tenures, engine.now),
        other_times=() if assessment.occurred_at else _other_times(engine, case),
        reports=tuple(_by_pseudonym(engine, report) for report in case.reports),
        tenures=tuple(t.model_copy(update={"reason": None}) for t in tenures),
        rulebook_version=adopted.rulebook.version if adopted else None,
        exercise=case.anchor.exercise,
        designated=assessment.designated,
        verified=assessment.verified,
        assessed_harm=assessment.harm,
        assessed_at=assessment.assessed_at,
        assessed_reports=assessment.assessed_reports,
        firecrackers_exploded=assessment.firecrackers_exploded,
        reclassified=assessment.reclassified,
        successor=successor,
        divided=found.divided,
    )


def _other_times(engine: IncidentEngine, case: Case) -> tuple[datetime, ...]:
    """Return the first time of occurrence in the reports for each who answer for it, but for those of the anchor.

    So the order in which reports come does not choose, unseen, who answers.
    """
    times = {min(r.occurred_at, r.received_at) for r in case.reports}
    if engine.is_answered_for_alike(case, case.anchor.at, *times):
        return ()
    first: dict[Answering, datetime] = {}
    for at in sorted(times):
        first.setdefault(engine.answering(case.unit, at), at.astimezone(UTC))
    first.pop(engine.answering(case.unit, case.anchor.at), None)
    return tuple(first.values())


def _by_pseudonym(engine: IncidentEngine, report: ReportFacts) -> ReportFacts:
    """Return the report with its sender's pseudonym. Those that were stored before have the name."""
    subject = engine.pseudonym(report.source.subject)
    if subject == report.source.subject:
        return report
    source = report.source.model_copy(update={"subject": subject})
    return report.model_copy(update={"source": source})


def begin_round(engine: IncidentEngine, incident: Incident) -> None:
    """Begin a new round, in which everybody may be notified again.

    A request for acknowledgement that was issued in this transaction counts for the new round.
    """
    incident.round += 1
    incident.level = 0
    so_far = incident.notified.items()
    incident.notified = {key: posts for key, posts in so_far if key[1] not in notification.EACH_ROUND}
    incident.acknowledged.clear()
    incident.ack_requested.clear()
    incident.lost.clear()
    for place, issued in enumerate(engine.changes.notices):
        if issued.incident is incident and issued.notice.purpose in notification.ASKING:
            asked = {(issued.notice.recipient, post) for post in issued.notice.posts}
            incident.ack_requested |= asked
            incident.lost |= set[tuple[str, str]]() if issued.channels else asked
            engine.changes.notices[place] = replace(issued, round=incident.round)


def _record_decision(engine: IncidentEngine, case: Case, decision: Decision, inputs: Inputs, cause: str | None) -> None:
    decision_id, number, previous = engine.new_id(), case.decision_number + 1, case.decision_id
    event_id = engine.emit(
        case,
        lambda head, data: DecisionMade(
            **head,
            data=DecisionMadeData(
                **data,
                decision_id=decision_id,
                previous=previous,
                record=decision.model_dump(mode="json", exclude_none=True),
            ),
        ),
        cause=cause,
        officials=decision.named,
    )
    engine.changes.decisions.append(MadeDecision(decision_id, case, number, previous, decision, inputs, event_id))
    engine.withdraw(case, (case.decision.acting if case.decision else set[str]()) - decision.acting)
    case.decision, case.decision_id, case.decision_number = decision, decision_id, number
    case.decision_event = event_id
    case.rulebook_version, case.decided_at = inputs.rulebook_version, engine.now


def _notify(engine: IncidentEngine, case: Case, decision: Decision, before: Decision | None, cause: str | None) -> None:
    planned = notification.plan(decision, case.notified, on_duty(engine, case), before)
    request_acknowledgements(engine, case, [n for n in planned if n.purpose == "accountable"], cause)
    owed = obligations.desk_tasks(case)
    for notice in (n for n in planned if n.purpose != "accountable"):
        task = TASK_OF.get(notice.purpose)
        # nothing is owed for a post that nobody held when it occurred, but for which somebody acts now
        by = obligations.ask_desk(engine, case, task) if task and task in owed else None
        issue(engine, case, notice, by, cause)


def _requests_to_repeat(engine: IncidentEngine, case: Case, decision: Decision) -> list[Notice]:
    """Return the notices to people who were notified before and must be asked again in this round.

    Nothing is left of the earlier request in five cases: they act for the post again after a deputy; they came to act
    for a second post; the rule applies again; the severity is higher than they were told; or the request may have
    waited for the end of quiet hours and is now too urgent. Without a new request nobody would be asked.
    """
    before, policy = case.decision, engine.policy_of(case)
    if before is None or not notification.holders_are_told(decision):
        return []
    if _is_graver(engine, case, decision, before):
        return _notified_before(case, decision)
    in_vain = before.outcome == "does_not_apply" or notification.no_longer_waits(decision, before, policy)
    if case.state == "closure_proposed" and not in_vain:
        return []
    asked = case.ack_requested & before.acting_for
    done = case.acknowledged if in_vain else case.acknowledged | asked
    return [n for n in _notified_before(case, decision) if not all((n.recipient, post) in done for post in n.posts)]


def _is_graver(engine: IncidentEngine, case: Case, decision: Decision, before: Decision | None) -> bool:
    """Return whether the severity is higher than what people were told, or had to assume."""
    if before is None or decision.severity is None or not notification.holders_are_told(decision):
        return False
    return decision.severity > (before.severity or engine.policy_of(case).deadlines.unknown_counts_as)


def _notified_before(case: Case, decision: Decision) -> list[Notice]:
    holders = notification.to_holders(decision.parties, "still_open")
    return [n for n in holders if (n.recipient, "accountable") in case.notified]


def _begin_another_round(engine: IncidentEngine, case: Case, decision: Decision) -> list[Notice]:
    """Begin a new round, because the severity rose, or somebody was already asked twice in this one.

    Returns the notices to everybody who was notified before.
    """
    engine.cancel(case, "acknowledge", "remind")
    begin_round(engine, case)
    return _notified_before(case, decision)


def _ensure_timer(engine: IncidentEngine, case: Case, decision: Decision) -> None:
    """Make sure that an open incident has a pending timer."""
    policy = engine.policy_of(case)
    if decision.outcome == "does_not_apply":
        engine.cancel(case, "acknowledge", "remind")
        if not obligations.desk_tasks(case):
            engine.cancel(case, "lapse")  # otherwise it asks the desk again
        if not case.pending & {*DESK_TASKS, "idle"}:
            idle_until = engine.now + timedelta(minutes=policy.chain.idle_minutes)
            engine.schedule(case, "idle", idle_until, who=(DESK,))
        return
    engine.cancel(case, "idle")
    _watch_directory(engine, case)
    if "lapse" not in case.pending and (case.pending & {"acknowledge"} or not case.pending - NOT_ENOUGH):
        obligations.schedule_lapse(engine, case)


def _watch_directory(engine: IncidentEngine, case: Case) -> None:
    """Schedule an evaluation for the next recorded change of hands that is still to come."""
    coming = min((at for at in engine.changes_of_hands(case) if at > engine.now), default=None)
    if coming is not None and "directory" not in case.pending:
        engine.schedule(case, "directory", coming, by_calendar=True)

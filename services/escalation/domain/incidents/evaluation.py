"""Deciding an incident anew: what the decision depends on, what it changes, and who is asked because of it. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from services.escalation.domain.directory.model import key_of, known_at
from services.escalation.domain.incidents.change_set import MadeDecision
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.finding import assess
from services.escalation.domain.incidents.incident import Case, Incident
from services.escalation.domain.incidents.notifying import issue, on_duty, request_acknowledgements
from services.escalation.domain.notices import notification
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.rules.accountability import Decision, Inputs, decide
from shared.events import DecisionMade, DecisionMadeData


def evaluate(engine: IncidentEngine, case: Case, cause: str | None) -> None:
    """Decide again. A decision of another result is made, linked to the earlier one, and its notices are issued."""
    engine.changes.incidents[case.incident_id] = case
    inputs = inputs_of(engine, case)
    case.successor = inputs.successor
    decision = decide(inputs, engine.rulebook_of(case))
    before, again = case.decision, _to_ask_again(engine, case, decision)
    if before is None or decision.differs_from(before):
        _adopt(engine, case, decision, inputs, cause)
    if not case.is_open:
        return
    if any((n.recipient, "still_open") in case.notified for n in again):
        again = _in_another_round(engine, case, decision)
    engine.withdraw(case, {n.recipient for n in again})
    _notify(engine, case, decision, before, cause)
    request_acknowledgements(engine, case, again, cause)
    _keep_due(engine, case, decision)


def inputs_of(engine: IncidentEngine, case: Case) -> Inputs:
    """What a decision on the case depends on now."""
    assessment, adopted = assess(case.findings), engine.rulebook_of(case)
    found = engine.lineage(case)
    successor = None if key_of(found.acting) == key_of(case.unit) else found.acting
    tenures = engine.tenures(case.unit, successor)
    return Inputs(
        incident=case.incident_id,
        unit=case.unit,
        time_of_occurrence=case.anchor.at,
        evaluated_at=known_at(tenures, engine.now),
        reports=tuple(case.reports),
        tenures=tenures,
        rulebook_version=adopted.rulebook.version if adopted else None,
        exercise=case.anchor.exercise,
        designated=assessment.designated,
        verified=assessment.verified,
        assessed_harm=assessment.harm,
        assessed_at=assessment.assessed_at,
        firecrackers_exploded=assessment.firecrackers_exploded,
        reclassified=assessment.reclassified,
        successor=successor,
        divided=found.divided,
    )


def begin_round(engine: IncidentEngine, incident: Incident) -> None:
    """From here on everybody may be told again. Who was asked in this transaction was asked in the new round."""
    incident.round += 1
    incident.level = 0
    told = incident.notified.items()
    incident.notified = {key: posts for key, posts in told if key[1] not in notification.EACH_ROUND}
    incident.acknowledged.clear()
    incident.ack_requested.clear()
    for place, issued in enumerate(engine.changes.notices):
        if issued.incident is incident and issued.notice.purpose in notification.ASKING:
            incident.ack_requested.add(issued.notice.recipient)
            engine.changes.notices[place] = replace(issued, round=incident.round)


def _adopt(engine: IncidentEngine, case: Case, decision: Decision, inputs: Inputs, cause: str | None) -> None:
    made = MadeDecision(engine.new_id(), case, case.decision_number + 1, case.decision_id, decision, inputs)
    engine.changes.decisions.append(made)
    engine.withdraw(case, (case.decision.acting if case.decision else set[str]()) - decision.acting)
    case.decision, case.decision_id, case.decision_number = decision, made.decision_id, made.number
    case.rulebook_version, case.decided_at = inputs.rulebook_version, engine.now
    engine.emit(
        case,
        lambda head, data: DecisionMade(
            **head,
            data=DecisionMadeData(
                **data,
                decision_id=made.decision_id,
                previous=made.previous,
                record=decision.model_dump(mode="json", exclude_none=True),
            ),
        ),
        cause=cause,
        officials=decision.named,
    )


def _notify(engine: IncidentEngine, case: Case, decision: Decision, before: Decision | None, cause: str | None) -> None:
    planned = notification.plan(decision, case.notified, on_duty(engine, case), before)
    request_acknowledgements(engine, case, [n for n in planned if n.purpose == "accountable"], cause)
    for notice in (n for n in planned if n.purpose != "accountable"):
        issue(engine, case, notice, None, cause)
        if notice.purpose == "review":
            engine.schedule(case, "review", _review_by(engine, case, decision), level=1)
    if not notification.desk_reviews(decision):
        engine.cancel(case, "review")


def _review_by(engine: IncidentEngine, case: Case, decision: Decision) -> datetime:
    if decision.deadlines is not None:
        return decision.deadlines.review_by
    return engine.now + timedelta(minutes=engine.policy_of(case).deadlines.review_minutes)


def _to_ask_again(engine: IncidentEngine, case: Case, decision: Decision) -> list[Notice]:
    """Who is to be asked in this round, was told before, and of whose earlier asking nothing is left.

    They answer for a post again after a deputy, or the rule applies again after it did not, or what waited for the
    end of quiet hours may wait no more: without another due time nobody would be asked.
    """
    before, policy = case.decision, engine.policy_of(case)
    if before is None or not notification.holders_are_told(decision):
        return []
    in_vain = before.outcome == "does_not_apply" or notification.no_longer_waits(decision, before, policy)
    done = case.acknowledged if in_vain else case.acknowledged | (case.ack_requested & before.acting)
    return [n for n in _told_before(case, decision) if n.recipient not in done]


def _told_before(case: Case, decision: Decision) -> list[Notice]:
    holders = notification.to_holders(decision.parties, "still_open")
    return [n for n in holders if (n.recipient, "accountable") in case.notified]


def _in_another_round(engine: IncidentEngine, case: Case, decision: Decision) -> list[Notice]:
    """Begin another round, in which everybody is asked again: in this one somebody was asked twice in vain."""
    engine.cancel_stored(case, "acknowledge", "remind")
    begin_round(engine, case)
    return _told_before(case, decision)


def _keep_due(engine: IncidentEngine, case: Case, decision: Decision) -> None:
    """An open incident always has something that falls due."""
    policy = engine.policy_of(case)
    if decision.outcome == "does_not_apply":
        engine.cancel(case, "acknowledge", "remind", "lapse")
        if not case.pending & {"review", "idle"}:
            engine.schedule(case, "idle", engine.now + timedelta(minutes=policy.chain.idle_minutes))
        return
    engine.cancel(case, "idle")
    _watch_directory(engine, case)
    if "lapse" not in case.pending and (case.pending & {"acknowledge"} or not case.pending - {"directory"}):
        engine.schedule_lapse(case)


def _watch_directory(engine: IncidentEngine, case: Case) -> None:
    """A change of hands that is recorded already and still to come makes another decision when it comes."""
    coming = min((at for at in engine.changes_of_hands(case) if at > engine.now), default=None)
    if coming is not None and "directory" not in case.pending:
        engine.schedule(case, "directory", coming)

"""Grouping reports (tin báo) into incidents, and finding patterns in several incidents. Pure.

The use case `route_reports` loads the incidents that a batch can touch. Then it assigns and attaches the reports here,
and saves the changes.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from services.escalation.domain.incidents import after_end, correlation, patterns
from services.escalation.domain.incidents.change_set import AssignedReport, Outcome
from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.evaluation import evaluate
from services.escalation.domain.incidents.incident import Case, Incident, IncidentRow, as_case
from services.escalation.domain.incidents.notifying import tell_desk
from services.escalation.domain.incidents.patterns import Neighbour, Pattern
from services.escalation.domain.incidents.report import facts_of
from services.escalation.domain.incidents.report_summary import LateReports
from services.escalation.domain.rules.accountability import ReportFacts
from services.escalation.domain.rules.rulebook import Correlation, in_force
from shared.events import AnyReport, ReportCorrelated, ReportCorrelatedData, SuggestionRaised, SuggestionRaisedData


def assign(engine: IncidentEngine, event: AnyReport, occurrence: Occurrence) -> AssignedReport:
    """Find the incident that the report belongs to: an open one, or else one that has ended, or a new one.

    `occurrence`: the report's, by `occurrence_of`. Records no event: call `attach`.
    """
    facts = facts_of(event, engine.pseudonym)
    adopted = in_force(engine.rulebooks, occurrence.at)
    policy = (adopted or engine.newest_rulebook()).rulebook.correlation
    near = engine.anchors_near(occurrence)
    incident = _find(occurrence, near, policy, is_open=True)
    if incident is None and (ended := _find(occurrence, near, policy, is_open=False)) is not None:
        return _assign_late(engine, event, facts, occurrence, ended)
    outcome: Outcome = "merged" if incident else "new"
    if incident is None:
        assert event.data.unit is not None
        incident = engine.new_case(occurrence, event.data.unit, str(event.data.category))
    says_nothing_new = (
        incident.summary.already_says(facts)
        and engine.is_held_as_decided(incident)
        and engine.is_answered_for_alike(incident, incident.anchor.at, occurrence.at)
    )
    incident.summary = incident.summary.plus(facts)
    matters = not says_nothing_new or _pattern(engine, incident) is not None
    return AssignedReport(event, facts, incident, outcome, incident.summary.count, matters)


def _find(
    occurrence: Occurrence, near: Sequence[tuple[IncidentRow, Occurrence]], policy: Correlation, *, is_open: bool
) -> IncidentRow | None:
    anchors = [(i.incident_id, anchor) for i, anchor in near if i.is_open == is_open]
    found = correlation.find(occurrence, anchors, policy) if anchors else None
    return next(i for i, _ in near if i.incident_id == found) if found else None


def _assign_late(
    engine: IncidentEngine, event: AnyReport, facts: ReportFacts, occurrence: Occurrence, incident: IncidentRow
) -> AssignedReport:
    """Assign the report to an incident that has ended. It matters if the desk may have to be asked about it."""
    late = incident.summary.late or LateReports()
    says_nothing_new = late.already_say(facts, occurrence.at)
    late = late.plus(facts)
    incident.summary = incident.summary.model_copy(update={"late": late})
    matters = not says_nothing_new or (late.matter(incident.state) and not late.asked)
    return AssignedReport(event, facts, incident, "late", incident.summary.total, matters)


def attach(engine: IncidentEngine, assigned: AssignedReport) -> None:
    """Record an assigned report. Call `follow_up` once all reports of the transaction are attached."""
    incident, cause = assigned.incident, assigned.event.id
    if assigned.outcome == "new":
        engine.announce(as_case(incident), cause)
        relate(engine, incident)
    if isinstance(incident, Case):
        (incident.late_reports if assigned.outcome == "late" else incident.reports).append(assigned.facts)
    engine.changes.reports.append(assigned)
    engine.emit(
        incident,
        lambda head, data: ReportCorrelated(
            **head,
            data=ReportCorrelatedData(**data, report_id=assigned.facts.report_id, outcome=assigned.outcome),
        ),
        cause=cause,
    )


def decisive(assigned: Iterable[AssignedReport]) -> Collection[AssignedReport]:
    """Return one report of each incident: the last that matters, or the first if none does."""
    found: dict[str, AssignedReport] = {}
    for each in assigned:
        incident_id = each.incident.incident_id
        if each.matters or incident_id not in found:
            found[incident_id] = each
    return found.values()


def follow_up(engine: IncidentEngine, assigned: AssignedReport) -> None:
    """Do what follows from the reports of one incident that were attached, once for all of them together.

    So nobody is told twice because two reports came at once, and a storm costs one evaluation a batch. If the report
    `matters`, its incident must be a Case. `assigned`: the one of each incident that `decisive` returns.
    """
    incident, cause = assigned.incident, assigned.event.id
    if assigned.matters and assigned.outcome == "late":
        after_end.weigh(engine, as_case(incident), cause)
    elif assigned.matters:
        evaluate(engine, as_case(incident), cause)
    if isinstance(incident, Incident):
        _suggest(engine, incident, cause)


def relate(engine: IncidentEngine, incident: IncidentRow) -> None:
    """Link an incident that is new in its ward to those that are near in time. Exercises are not linked."""
    if incident.anchor.exercise:
        return
    near = engine.neighbours.setdefault(incident.anchor.unit, [])
    window = timedelta(minutes=engine.policy_of(incident).patterns.related_window_minutes)
    for other in patterns.related(incident.anchor.at, near, window):
        engine.changes.related.append((incident.incident_id, other, "same ward, near in time"))
    near.append(Neighbour(incident.incident_id, incident.anchor.at))


def _suggest(engine: IncidentEngine, incident: Incident, cause: str | None) -> None:
    """Suggest to the desk, once, that the incident is "nổi cộm" (prominent), if it shows a pattern."""
    found = _pattern(engine, incident)
    if found is None:
        return
    incident.summary = incident.summary.model_copy(update={"suggested": True})
    near = engine.neighbours.get(incident.anchor.unit, [])
    near[:] = [n.with_suggestion() if n.incident_id == incident.incident_id else n for n in near]
    pattern, count = found
    engine.emit(
        incident,
        lambda head, data: SuggestionRaised(**head, data=SuggestionRaisedData(**data, pattern=pattern, count=count)),
        cause=cause,
    )
    tell_desk(engine, incident, "prominence", (), cause)


def _pattern(engine: IncidentEngine, incident: IncidentRow) -> tuple[Pattern, int] | None:
    if incident.anchor.exercise or incident.summary.suggested or not incident.is_open:
        return None
    near = engine.neighbours.get(incident.anchor.unit, [])
    policy = engine.policy_of(incident).patterns
    return patterns.suggestion(incident.incident_id, incident.anchor.at, len(incident.summary.sources), near, policy)

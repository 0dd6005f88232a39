"""What reports do: which incident each joins, and what is to be seen in several together. In memory, without I/O.

`handlers` loads the cases that a batch can touch, has it joined and admitted here, and saves what came of it.
"""

from datetime import timedelta

from services.escalation.domain.incidents import correlation, patterns
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import AssignedReport, Case, about, facts_of, occurrence_of
from services.escalation.domain.incidents.patterns import Neighbour, Pattern
from services.escalation.domain.rules.rulebook import in_force
from shared.events import ReportCorrelated, ReportCorrelatedData, ReportReceived, SuggestionRaised, SuggestionRaisedData


def join(engine: IncidentEngine, event: ReportReceived) -> AssignedReport:
    """Which incident the report belongs to, an open one or a new one. Nothing is on the record yet."""
    occurrence, facts = occurrence_of(event), facts_of(event)
    adopted = in_force(engine.rulebooks, occurrence.at)
    policy = (adopted or engine.newest()).rulebook.correlation
    alike = engine.cases.get(occurrence.key, ())
    anchors = [(c.incident_id, anchor) for c in alike for anchor in (c.anchor, *c.aliases)]
    found = correlation.find(occurrence, anchors, policy)
    case = next(c for c in alike if c.incident_id == found) if found else None
    if case is None:
        case = engine.new_case(occurrence, event.data.unit, str(event.data.category))
    settled = case.summary.already_says(facts) and engine.is_held_as_before(case)
    case.summary = case.summary.plus(facts)
    matters = not settled or _pattern(engine, case) is not None
    return AssignedReport(event, facts, case, "merged" if found else "new", case.summary.count, matters)


def attach(engine: IncidentEngine, joined: AssignedReport) -> None:
    """Put a report on the record. If it `matters`, its case is decided anew, and must have its history."""
    case, cause = joined.case, joined.event.id
    if joined.outcome == "new":
        engine.announce(case, cause)
        _relate(engine, case)
    case.reports.append(joined.facts)
    engine.changes.cases[case.incident_id] = case
    engine.changes.reports.append(joined)
    correlated = ReportCorrelatedData(**about(case, cause), report_id=joined.facts.report_id, outcome=joined.outcome)
    engine.emit(ReportCorrelated(**engine.envelope(case), data=correlated))
    if joined.matters:
        engine.evaluate(case, cause)
    _look_for_patterns(engine, case, cause)


def _relate(engine: IncidentEngine, case: Case) -> None:
    """Link a new incident with those of its ward near in time; exercises are no pattern."""
    if case.anchor.exercise:
        return
    near = engine.neighbours.setdefault(case.anchor.unit, [])
    window = timedelta(minutes=engine.policy_of(case).patterns.related_window_minutes)
    for other in patterns.related(case.anchor.at, near, window):
        engine.changes.related.append((case.incident_id, other, "same ward, near in time"))
    near.append(Neighbour(case.incident_id, case.anchor.at))


def _look_for_patterns(engine: IncidentEngine, case: Case, cause: str | None) -> None:
    """Suggest "nổi cộm" to the desk, once; of a case without its history at the next report that needs it."""
    found = _pattern(engine, case) if case.decision is not None else None
    if found is None:
        return
    case.summary = case.summary.model_copy(update={"suggested": True})
    near = engine.neighbours.get(case.anchor.unit, [])
    near[:] = [n.with_suggestion() if n.incident_id == case.incident_id else n for n in near]
    pattern, count = found
    data = SuggestionRaisedData(**about(case, cause), pattern=pattern, count=count)
    engine.emit(SuggestionRaised(**engine.envelope(case), data=data))
    engine.tell_desk(case, "prominence", (), cause)


def _pattern(engine: IncidentEngine, case: Case) -> tuple[Pattern, int] | None:
    if case.anchor.exercise or case.summary.suggested or not case.is_open:
        return None
    near = engine.neighbours.get(case.anchor.unit, [])
    policy = engine.policy_of(case).patterns
    return patterns.suggestion(case.incident_id, case.anchor.at, len(case.summary.sources), near, policy)

"""What reports do: which incident each joins, and what is to be seen in several together. In memory, without I/O.

`handlers` loads the cases that a batch can touch, has it joined and admitted here, and saves what came of it.
"""

from datetime import timedelta

from services.escalation.domain.incidents import correlation, patterns
from services.escalation.domain.incidents.engine import Router
from services.escalation.domain.incidents.incident import Case, Joined, about, facts_of, happening_of
from services.escalation.domain.incidents.patterns import Neighbour, Pattern
from services.escalation.domain.rules.rulebook import in_force
from shared.events import ReportCorrelated, ReportCorrelatedData, ReportReceived, SuggestionRaised, SuggestionRaisedData


def join(router: Router, event: ReportReceived) -> Joined:
    """Which incident the report belongs to, an open one or a new one. Nothing is on the record yet."""
    happening, facts = happening_of(event), facts_of(event)
    adopted = in_force(router.rulebooks, happening.at)
    policy = (adopted or router.newest()).rulebook.correlation
    alike = router.cases.get(happening.key, ())
    anchors = [(c.incident_id, anchor) for c in alike for anchor in (c.anchor, *c.aliases)]
    found = correlation.find(happening, anchors, policy)
    case = next(c for c in alike if c.incident_id == found) if found else None
    if case is None:
        case = router.new_case(happening, event.data.unit, str(event.data.category))
    settled = case.digest.is_settled_by(facts) and router.is_held_as_before(case)
    case.digest = case.digest.plus(facts)
    matters = not settled or _pattern(router, case) is not None
    return Joined(event, facts, case, "merged" if found else "new", case.digest.count, matters)


def admit(router: Router, joined: Joined) -> None:
    """Put a report on the record. If it `matters`, its case is decided anew, and must have its history."""
    case, cause = joined.case, joined.event.id
    if joined.outcome == "new":
        router.announce(case, cause)
        _relate(router, case)
    case.reports.append(joined.facts)
    router.out.cases[case.incident_id] = case
    router.out.reports.append(joined)
    correlated = ReportCorrelatedData(**about(case, cause), report_id=joined.facts.report_id, outcome=joined.outcome)
    router.emit(ReportCorrelated(**router.envelope(case), data=correlated))
    if joined.matters:
        router.evaluate(case, cause)
    _look_for_patterns(router, case, cause)


def _relate(router: Router, case: Case) -> None:
    """Link a new incident with those of its ward near in time; exercises are no pattern."""
    if case.anchor.exercise:
        return
    near = router.neighbours.setdefault(case.anchor.unit, [])
    window = timedelta(minutes=router.policy_of(case).patterns.related_window_minutes)
    for other in patterns.related(case.anchor.at, near, window):
        router.out.links.append((case.incident_id, other, "same ward, near in time"))
    near.append(Neighbour(case.incident_id, case.anchor.at))


def _look_for_patterns(router: Router, case: Case, cause: str | None) -> None:
    """Suggest "nổi cộm" to the desk, once; of a case without its history at the next report that needs it."""
    found = _pattern(router, case) if case.decision is not None else None
    if found is None:
        return
    case.digest = case.digest.model_copy(update={"suggested": True})
    near = router.neighbours.get(case.anchor.unit, [])
    near[:] = [n.with_suggestion() if n.incident_id == case.incident_id else n for n in near]
    pattern, count = found
    data = SuggestionRaisedData(**about(case, cause), pattern=pattern, count=count)
    router.emit(SuggestionRaised(**router.envelope(case), data=data))
    router.tell_desk(case, "prominence", (), cause)


def _pattern(router: Router, case: Case) -> tuple[Pattern, int] | None:
    if case.anchor.exercise or case.digest.suggested or not case.is_open:
        return None
    near = router.neighbours.get(case.anchor.unit, [])
    policy = router.policy_of(case).patterns
    return patterns.suggestion(case.incident_id, case.anchor.at, len(case.digest.sources), near, policy)

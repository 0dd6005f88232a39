"""Reports that come after their incident has ended (tin báo sau khi kết thúc). Pure.

They are kept with the incident and tell nobody of the ward. They do not count in its decision until the desk reopens
it. If they add something, or keep coming on a dismissed incident, the desk has to reopen it or to say that the end
stands.
"""

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents import obligations
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.evaluation import inputs_of
from services.escalation.domain.incidents.finding import FindingKind
from services.escalation.domain.incidents.incident import Case, Incident
from services.escalation.domain.incidents.notifying import issue
from services.escalation.domain.incidents.report_summary import LateReports, summary_of, weight_of
from services.escalation.domain.notices.notification import Notice
from services.escalation.domain.rules.accountability import Inputs, decide, effective_harm, time_of_occurrence

ENDS: frozenset[FindingKind] = frozenset({"closure", "dismissal", "hand_off"})


def weigh(engine: IncidentEngine, case: Case, cause: str | None) -> None:
    """Ask the desk about the late reports of an ended case if they matter, and again if they add more than before.

    `cause`: id of the event of the last of them.
    """
    held = case.summary.late or LateReports()
    since = held.since or max((f.made_at for f in case.findings if f.kind in ENDS), default=case.opened_at)
    inputs, adopted = inputs_of(engine, case), engine.rulebook_of(case)
    before = held.before or weight_of(decide(inputs, adopted))
    weight = weight_of(decide(_with_late(inputs, case), adopted))
    goes_on = any(time_of_occurrence(r.occurred_at, r.received_at) > since for r in case.late_reports[held.known :])
    late = held.model_copy(update={"since": since, "before": before, "weight": weight, "goes_on": goes_on})
    is_more = bool(weight.added_to(held.weight or before)) or (goes_on and not held.goes_on)
    is_due = late.matter(case.state) and (is_more or not held.asked)
    late = late.model_copy(update={"asked": held.asked or is_due})
    case.summary = case.summary.model_copy(update={"late": late})
    engine.changes.incidents[case.incident_id] = case
    if is_due:
        engine.cancel(case, "lapse")
        by = obligations.ask_desk(engine, case, "late_reports")
        issue(engine, case, Notice(DESK, "late_reports"), by, cause)


def _with_late(inputs: Inputs, case: Case) -> Inputs:
    """Return the inputs with the late reports. These add to the harm that a person assessed, whenever received."""
    reports = (*inputs.reports, *case.late_reports)
    if inputs.assessed_harm is None:
        return inputs.model_copy(update={"reports": reports})
    assessed = {"assessed_harm": effective_harm(inputs), "assessed_reports": len(inputs.reports)}
    return inputs.model_copy(update={"reports": reports} | assessed)


def stands(engine: IncidentEngine, incident: Incident) -> None:
    """Record that the desk knows the late reports and holds to the end. What it was to be told of them is not sent."""
    late = incident.summary.late
    assert late is not None
    incident.summary = incident.summary.model_copy(update={"late": late.seen(engine.now)})
    engine.changes.incidents[incident.incident_id] = incident
    obligations.settle(engine, incident, {"late_reports"})
    engine.cancel(incident, "lapse")


def count(case: Case) -> None:
    """Let the late reports count, for the case is open again."""
    case.reports += case.late_reports
    case.late_reports = []
    held = case.summary
    case.summary = summary_of(case.reports, assessed=held.assessed, suggested=held.suggested)

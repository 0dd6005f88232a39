"""The desk finds that some reports are about something else."""

from collections.abc import Sequence
from dataclasses import replace

from services.escalation.application.command_context import CommandContext, CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.evaluation import evaluate
from services.escalation.domain.incidents.finding import assess, last, point_of
from services.escalation.domain.incidents.incident import Case
from services.escalation.store import incident_loading
from shared.events import (
    IncidentSplit,
    IncidentSplitData,
)
from shared.http.identity import Principal
from shared.http.problem import Problem


async def split(
    escalation: Escalation, incident_id: str, caller: Principal, reason: str, reports: Sequence[str]
) -> CommandResult:
    """Move these reports into a new incident, and evaluate both. Each keeps at least one report."""
    async with command_context(escalation, incident_id, caller, "split") as command:
        case = command.case
        command.allow()
        wanted = await _own_ids(command, reports)
        moved = [r for r in case.reports if r.report_id in wanted]
        earlier = last(case.findings, "split")
        if earlier is not None and set(earlier.content["reports"]) == wanted and not moved:
            return CommandResult(case, is_new=False, new_incident=earlier.content["new_incident"])
        if strange := sorted(wanted - {r.report_id for r in moved}):
            raise Problem(409, f"report {strange[0]} is not one of this incident: name reports that it holds")
        if not moved or len(moved) == len(case.reports):
            raise Problem(409, "a split leaves at least one report on each side: name some of its reports, not all")
        occurrence: Occurrence = await incident_loading.occurrence_of_report(
            command.connection, moved[0].report_id, case.anchor
        )
        new = command.engine.new_case(occurrence, case.unit, moved[0].category)
        new.reports = moved
        first = case.reports[0]
        case.reports = [r for r in case.reports if r.report_id not in wanted]
        if case.reports[0] is not first:
            await _anchor_at_first_report(command, case)
        ids = tuple(r.report_id for r in moved)
        found = command.finding("split", reason, new_incident=new.incident_id, reports=sorted(wanted))
        cause = command.record(
            found,
            lambda head, data: IncidentSplit(
                **head, data=IncidentSplitData(**data, new_incident=new.incident_id, reports=ids)
            ),
        )
        command.engine.announce(new, cause)
        command.move(new, ids, cause)
        command.move(case, (), cause)
        command.engine.changes.related.append((new.incident_id, case.incident_id, "split"))
        evaluate(command.engine, new, cause)
        evaluate(command.engine, case, cause)
    return CommandResult(case, is_new=True, new_incident=new.incident_id)


async def _own_ids(command: CommandContext, named: Sequence[str]) -> set[str]:
    """Return our ids of the reports. The desk may name them by the ids of their senders, which it sees.

    Raises Problem 409 if two senders gave their reports the same id.
    """
    ours = await incident_loading.own_ids(command.connection, command.case.incident_id)
    for name in named:
        if len(ours.get(name, ())) > 1:
            raise Problem(409, f"two senders call a report {name}: name it by our id, one of {', '.join(ours[name])}")
    return {ours[name][0] if name in ours else name for name in named}


async def _anchor_at_first_report(command: CommandContext, case: Case) -> None:
    """Set what depends on the first report, which is another one now.

    It gives the time, the place and the category, and so the rulebook that decides. What the desk corrected stays.
    """
    first, found = case.reports[0], assess(case.findings)
    anchor = await incident_loading.occurrence_of_report(command.connection, first.report_id, case.anchor)
    case.anchor = replace(anchor, at=found.occurred_at or anchor.at, point=point_of(case.findings) or anchor.point)
    case.category = found.reclassified or first.category
    case.rulebook_version = None

"""Somebody gives new figures of harm."""

from services.escalation.application.command_context import CommandContext, CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import lifecycle
from services.escalation.domain.incidents.evaluation import evaluate, inputs_of
from services.escalation.domain.incidents.incident import Case
from services.escalation.domain.rules.accountability import combined_harm, effective_harm, lowered
from shared.events import (
    Harm,
    SeverityRevised,
    SeverityRevisedData,
)
from shared.http.identity import Principal
from shared.http.problem import Problem


async def revise(escalation: Escalation, incident_id: str, caller: Principal, reason: str, harm: Harm) -> CommandResult:
    """Record new figures of harm, and evaluate the incident.

    The desk's figures replace what was known. A ward's own figures can only raise it.
    """
    async with command_context(escalation, incident_id, caller, "revise") as command:
        command.allow()
        case = command.case
        rulebook = command.engine.policy_of(case)
        known = effective_harm(inputs_of(command.engine, case))
        before = rulebook.severity_of(known)
        if caller.role != "desk":
            if less := lowered(harm, known):
                raise Problem(403, f"{', '.join(less)} is less than is known: only the desk may lower it")
            harm = combined_harm([known, harm])
        severity = rulebook.severity_of(harm)
        if caller.role != "desk" and lifecycle.lowers(severity, before):
            raise Problem(403, f"severity {severity} is below {before or 'unknown'}: only the desk may lower it")
        cause = record_revision(command, case, reason, harm, previous=before)
        if cause is not None:
            evaluate(command.engine, case, cause)
    return CommandResult(case, cause is not None)


def record_revision(
    command: CommandContext, case: Case, reason: str, harm: Harm, *, previous: int | None
) -> str | None:
    """Record a revision. Returns the id of its event, or None if the same was recorded before.

    The figures stand for all reports that the case has now.
    """
    until = max(r.received_at for r in case.reports).isoformat()
    known = len(case.reports)
    found = command.finding("severity", reason, harm=harm.model_dump(exclude_none=True), until=until, reports=known)
    if command.said_before(found, case):
        return None
    severity = command.engine.policy_of(case).severity_of(harm)
    return command.record(
        found,
        lambda head, data: SeverityRevised(
            **head, data=SeverityRevisedData(**data, harm=harm, severity=severity, previous=previous)
        ),
        case,
    )

"""The desk finds that an incident happened."""

from services.escalation.application.command_context import CommandContext, CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents.evaluation import evaluate
from services.escalation.domain.incidents.incident import Case
from shared.events import (
    IncidentVerified,
    IncidentVerifiedData,
)
from shared.http.identity import Principal
from shared.http.problem import Problem
from shared.taxonomy import categories


async def verify(
    escalation: Escalation,
    incident_id: str,
    caller: Principal,
    reason: str,
    *,
    firecrackers_exploded: bool | None = None,
    reclassified: str | None = None,
) -> CommandResult:
    """Record that the incident happened (xác minh), and evaluate it.

    `firecrackers_exploded`: whether firecrackers exploded, if the desk knows. `reclassified`: what the incident was, if
    it is in another category of the same family.
    """
    async with command_context(escalation, incident_id, caller, "verify") as command:
        command.allow()
        case = command.case
        if reclassified is not None and categories()[reclassified].family != case.anchor.family:
            same = [c.code for c in categories().values() if c.family == case.anchor.family]
            raise Problem(409, f"category {reclassified} is of another kind: one of {', '.join(same)}, or dismiss it")
        cause = record_verification(command, case, reason, exploded=firecrackers_exploded, reclassified=reclassified)
        if cause is not None:
            evaluate(command.engine, case, cause)
    return CommandResult(case, cause is not None)


def record_verification(
    command: CommandContext, case: Case, reason: str, *, exploded: bool | None, reclassified: str | None = None
) -> str | None:
    """Record a verification. Returns the id of its event, or None if the same was recorded before."""
    found = command.finding("verification", reason, firecrackers_exploded=exploded, reclassified=reclassified)
    if command.said_before(found, case):
        return None
    case.category = reclassified or case.category
    return command.record(
        found,
        lambda head, data: IncidentVerified(
            **head,
            data=IncidentVerifiedData(**data, firecrackers_exploded=exploded, reclassified=reclassified),
        ),
        case,
    )

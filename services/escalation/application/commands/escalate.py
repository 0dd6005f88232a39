"""Somebody puts an incident to the leadership at once."""

from services.escalation.application.command_context import CommandResult, command_context
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import LEADERSHIP
from services.escalation.domain.incidents.incident import Case
from services.escalation.domain.incidents.timers import put_to_leadership
from services.escalation.store import timers
from shared.clock import local
from shared.events import IncidentEscalated, IncidentEscalatedData
from shared.http.identity import Principal
from shared.http.problem import Problem


async def escalate(escalation: Escalation, incident_id: str, caller: Principal, reason: str) -> CommandResult:
    """Ask the leadership now. The desk may, and a post-holder for the post for which the decision names them.

    It ends nothing, and is no acknowledgement. Once a round: Raises Problem 409 if the leadership has it already.
    """
    async with command_context(escalation, incident_id, caller, "escalate") as command:
        case = command.case
        posts = _posts(case, caller)
        found = command.finding("escalation", reason, posts=list(posts), round=case.round)
        if case.is_open and command.said_before(found):
            return CommandResult(case, is_new=False)
        command.allow()
        since = await timers.leadership_has_it_since(command.connection, incident_id, case.round)
        if since is not None:
            raise Problem(409, f"the {LEADERSHIP} has had this incident since {local(since):%H:%M %d/%m/%Y}")
        cause = command.record(
            found, lambda head, data: IncidentEscalated(**head, data=IncidentEscalatedData(**data, posts=posts))
        )
        put_to_leadership(command.engine, case, posts, cause)
    return CommandResult(case, is_new=True)


def _posts(case: Case, caller: Principal) -> tuple[str, ...]:
    """Return the posts that the caller speaks for; none for the desk. Raises Problem 403."""
    if caller.role != "official":
        return ()
    named = sorted(post for holder, post in case.standing.acting_for if holder == caller.subject)
    posts = tuple(post for post in named if caller.post in (None, post))
    if not posts:
        post = f" for post {caller.post}" if caller.post else ""
        raise Problem(403, f"the incident's decision does not name {caller.subject}{post}")
    return posts

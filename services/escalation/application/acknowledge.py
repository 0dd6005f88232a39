"""Record that a post-holder or an office acknowledges a notice. One transaction, safe to repeat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.access import insist_on_sight, sight_of, unknown
from services.escalation.application.command_context import insist
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import OFFICE_OF, OFFICES, ROLES, answers, key_of
from services.escalation.domain.incidents import acknowledging, lifecycle
from services.escalation.domain.incidents.acknowledging import StoredNotice
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Incident, IncidentRow
from services.escalation.store import incident_loading, signed_links, timers
from shared.events import Who
from shared.http.identity import Principal
from shared.http.problem import Problem

Choose = Callable[[IncidentEngine, Incident, Sequence[StoredNotice]], list[StoredNotice]]
"""Chooses among the notices of an incident those that the caller acknowledges."""


@dataclass(frozen=True)
class Acknowledged:
    """The result. `is_new`: whether any of the notices had not been acknowledged before."""

    incident: str
    state: str
    is_new: bool
    notices: tuple[str, ...]


async def acknowledge(escalation: Escalation, incident_id: str, caller: Principal) -> Acknowledged:
    """Acknowledge notices of an incident. Raises Problem 403 or 404.

    An official acknowledges the notices to their post. Anybody else acknowledges those to the desk or to the
    leadership, according to their role, unless the incident's decision names them.
    """
    escalation = escalation.by(caller)

    def mine(engine: IncidentEngine, incident: Incident, notices: Sequence[StoredNotice]) -> list[StoredNotice]:
        if caller.role == "official":
            return _of_post(engine, incident, notices, caller)
        insist(lifecycle.interested(caller.role, caller.subject, incident.standing))
        return _of_office(incident, notices, OFFICE_OF[caller.role])

    async with escalation.database.begin() as connection:
        row = next(iter(await incident_loading.locked(connection, [incident_id])), None)
        sight = await sight_of(connection, escalation, caller)
        if row is None:
            raise unknown(sight, f"incident {incident_id}")
        await insist_on_sight(connection, sight, incident_id, row.units)
        engine, done = await _acknowledge(escalation, connection, row, mine, caller.subject)
    escalation.committed(engine.changes)
    return done


async def acknowledge_by_link(
    escalation: Escalation, notice_id: str, by: str, person: str | None = None
) -> Acknowledged | None:
    """Acknowledge one notice by its signed link. `by`: its recipient. `person`: at an office, whose link it is.

    Returns None if there is no such notice, or the person may not act for the office any more. The caller must have
    checked the link.
    """
    who = person or by
    escalation = escalation.by(Who(subject=who, role=ROLES.get(by, "official"), means="link"))
    async with escalation.database.begin() as connection:
        incident_id = await timers.incident_of_notice(connection, notice_id)
        if incident_id is None:
            return None
        (row,) = await incident_loading.locked(connection, [incident_id])
        if person and await signed_links.refusal(connection, incident_id, by, person, escalation.clock.now()):
            return None
        engine, done = await _acknowledge(
            escalation, connection, row, lambda _, __, notices: [n for n in notices if n.recipient == by], who
        )
    escalation.committed(engine.changes)
    return done


async def _acknowledge(
    escalation: Escalation, connection: AsyncConnection, row: IncidentRow, choose: Choose, by: str
) -> tuple[IncidentEngine, Acknowledged]:
    """Acknowledge the notices that `choose` returns. The incident must be locked."""
    engine = await escalation.incident_engine(connection, {key_of(row.successor or row.unit)})
    (incident,) = await incident_loading.with_standing(connection, [row])
    notices = await timers.notices_of(connection, incident.incident_id)
    notices = [n for n in notices if n.round >= incident.told_since]  # of what was corrected nothing is acknowledged
    mine = choose(engine, incident, notices)
    is_new = acknowledging.record_acknowledgement(engine, incident, notices, mine, by)
    await escalation.save(connection, engine.changes, engine.now)
    return engine, Acknowledged(incident.incident_id, incident.state, is_new, tuple(n.notice_id for n in mine))


def _of_office(incident: Incident, notices: Sequence[StoredNotice], office: str) -> list[StoredNotice]:
    """Return those of the notices that went to the office. Raises Problem 404 if there are none."""
    mine = [n for n in notices if n.recipient == office]
    if not mine:
        raise Problem(404, f"no notice that still holds of incident {incident.incident_id} went to the {office}")
    return mine


def _of_post(
    engine: IncidentEngine, incident: Incident, notices: Sequence[StoredNotice], caller: Principal
) -> list[StoredNotice]:
    """Return the notices that the caller may acknowledge for their post. Raises Problem 403 or 404.

    Whoever was only told that nothing is asked of them any more acknowledges nothing.
    """
    asking = [n for n in notices if n.recipient not in OFFICES and n.purpose != "stand_down"]
    of_post = [n for n in asking if caller.post is None or caller.post in n.posts]
    post = "a post" if caller.post is None else f"post {caller.post}"
    if not of_post:
        raise Problem(404, f"no notice that still holds of incident {incident.incident_id} went to {post}")
    acts, held = incident.successor or incident.unit, engine.directory.tenures

    def is_theirs(notice: StoredNotice) -> bool:
        stands_in = all(answers(held, post, caller.subject, engine.now, acts) for post in notice.posts)
        return notice.recipient == caller.subject or stands_in

    mine = [n for n in of_post if is_theirs(n)]
    if not mine:
        raise Problem(403, f"{caller.subject} does not hold {post} and was not told")
    return mine

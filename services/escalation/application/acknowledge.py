"""Record that a post-holder or an office has seen a notice. One transaction, safe to repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.access import require_ward
from services.escalation.application.escalation import Escalation, record_of
from services.escalation.domain.directory.model import DESK, LEADERSHIP, OFFICES, answers, key_of
from services.escalation.domain.envelope import envelope
from services.escalation.domain.incidents import lifecycle
from services.escalation.domain.incidents.incident import Case, about
from services.escalation.domain.notices.notification import ASKING, to_holders
from services.escalation.store import directory, incident_loading, timers
from shared.events import AcknowledgementRecorded, AcknowledgementRecordedData
from shared.http.identity import Principal
from shared.http.problem import Problem


@dataclass(frozen=True)
class Acknowledged:
    incident: str
    state: str
    is_new: bool
    notices: tuple[str, ...]


async def acknowledge(escalation: Escalation, incident_id: str, caller: Principal) -> Acknowledged:
    """Record that the holder of a post, or the office, has seen the notice. Raises Problem 403 or 404."""
    async with escalation.database.begin() as connection:
        case = next(iter(await incident_loading.locked(connection, [incident_id])), None)
        if case is None:
            raise Problem(404, f"there is no incident {incident_id}")
        require_ward(caller, case.wards)
        notices = await timers.notices_of(connection, incident_id)
        if caller.role == "official":
            mine = await _of_post(escalation, connection, case, notices, caller)
        else:
            office = DESK if caller.role == "desk" else LEADERSHIP
            mine = [n for n in notices if n.recipient == office]
            if not mine:
                raise Problem(404, f"no notice of incident {incident_id} went to the {office}")
        done = await _record(escalation, connection, case, notices, mine, caller.subject)
    escalation.wake()
    return done


async def acknowledge_by_link(escalation: Escalation, notice_id: str, by: str) -> Acknowledged | None:
    """The same by a signed link, whose recipient is `by`; None where there is no such notice to them."""
    async with escalation.database.begin() as connection:
        found = await timers.notice_by_id(connection, notice_id)
        if found is None or found.recipient != by:
            return None
        (case,) = await incident_loading.locked(connection, [found.incident_id])
        notices = await timers.notices_of(connection, case.incident_id)
        done = await _record(escalation, connection, case, notices, [n for n in notices if n.recipient == by], by)
    escalation.wake()
    return done


async def _of_post(
    escalation: Escalation, connection: AsyncConnection, case: Case, notices: Sequence[Row[Any]], caller: Principal
) -> list[Row[Any]]:
    """The notices that are the caller's to acknowledge. Raises Problem 403 or 404."""
    of_post = [n for n in notices if n.recipient not in OFFICES and caller.post in n.posts]
    if not of_post:
        raise Problem(404, f"no notice of incident {case.incident_id} went to post {caller.post}")
    now = escalation.clock.now()
    acts = case.successor or case.unit
    held = (await directory.load(connection, {key_of(acts)}, now)).tenures
    mine = [
        n
        for n in of_post
        if n.recipient == caller.subject or all(answers(held, post, caller.subject, now, acts) for post in n.posts)
    ]
    if not mine:
        raise Problem(403, f"{caller.subject} does not hold post {caller.post} and was not told")
    return mine


async def _record(
    escalation: Escalation,
    connection: AsyncConnection,
    case: Case,
    notices: Sequence[Row[Any]],
    mine: Sequence[Row[Any]],
    by: str,
) -> Acknowledged:
    now = escalation.clock.now()
    new = await timers.acknowledge(connection, [n.notice_id for n in mine], by, now)
    if new:
        asked = [n for n in notices if n.purpose in ASKING and n.round == case.round]
        waiting = [n for n in asked if n.acknowledged_at is None and n.notice_id not in new]
        if waiting:
            answering = await _answering(connection, case)
            asked, waiting = ([n for n in some if n.recipient in answering] for some in (asked, waiting))
        if asked and not waiting and case.is_open:
            case.state = lifecycle.after_acknowledgement(case.state)
            await timers.stop_chain(connection, case.incident_id, now)
        recorded = [_acknowledgement(escalation, case, n, by, now) for n in mine if n.notice_id in new]
        await timers.set_progress(connection, case.incident_id, case.state, case.sequence)
        await escalation.emit(connection, recorded)
    return Acknowledged(case.incident_id, case.state, bool(new), tuple(n.notice_id for n in mine))


async def _answering(connection: AsyncConnection, case: Case) -> set[str]:
    """Who answers for a post by the standing decision; of who left nothing is waited for."""
    await incident_loading.with_history(connection, [case], reports=False)
    return {n.recipient for n in to_holders(record_of(case).parties, "accountable")}


def _acknowledgement(
    escalation: Escalation, case: Case, notice: Row[Any], by: str, now: datetime
) -> AcknowledgementRecorded:
    holders = () if notice.recipient in OFFICES else {by, notice.recipient}
    data = AcknowledgementRecordedData(
        **about(case, None, holders),
        notice_id=notice.notice_id,
        holder=by,
        posts=tuple(notice.posts),
        in_time=notice.due_at is None or now <= notice.due_at,
    )
    return AcknowledgementRecorded(**envelope(escalation.new_id(), case.incident_id, now), data=data)

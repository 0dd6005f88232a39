"""Reroute what waits for people whose channels change."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Incident
from services.escalation.domain.incidents.notifying import tell_desk
from services.escalation.domain.notices.notification import may_wait, rings_at
from services.escalation.store import directory, incident_loading, waiting_deliveries
from services.escalation.store.waiting_deliveries import CalledOff, PersonalChannels


async def reroute(
    escalation: Escalation,
    connection: AsyncConnection,
    incident_ids: Collection[str],
    gone: PersonalChannels,
    recorded_at: datetime,
    causes: Mapping[str, str],
) -> None:
    """Cancel what waits on channels that are gone, and queue on the new ones what people still have to get.

    `incident_ids`: the incidents that these people may be notified of, which the caller has locked. `gone`: channels
    that people no longer have, or have with other quiet hours. `recorded_at`: when their new channels were recorded.
    `causes`: by holder id, the event that records the change. The desk is told of people who have no channel left. A
    message under way is not stopped, so somebody may be notified twice.
    """
    now = escalation.clock.now()
    called_off = await waiting_deliveries.call_off(connection, incident_ids, gone, now)
    owed = await waiting_deliveries.owed(connection, incident_ids, recorded_at, [c.notice_id for c in called_off])
    reached = await directory.contacts(connection, {c.recipient for c in called_off})
    lost = [c for c in called_off if c.recipient not in reached]
    if not owed and not lost:
        return
    concerned = sorted({each.incident_id for each in (*owed, *lost)})
    found = await incident_loading.with_standing(connection, await incident_loading.locked(connection, concerned))
    engine = await escalation.incident_engine(connection, ())
    if owed:
        waits = {i.incident_id: may_wait(i.standing, engine.policy_of(i)) for i in found}
        rings = [(each, rings_at(each.contact, now, may_wait=waits[each.incident_id])) for each in owed]
        await waiting_deliveries.queue(connection, rings, now)
    if lost:
        await _tell_desk(escalation, connection, engine, found, lost, causes)


async def _tell_desk(
    escalation: Escalation,
    connection: AsyncConnection,
    engine: IncidentEngine,
    found: Sequence[Incident],
    lost: Sequence[CalledOff],
    causes: Mapping[str, str],
) -> None:
    """Tell the desk about posts whose holder still had to be notified and has no channel any more."""
    for incident in found:
        theirs = [each for each in lost if each.incident_id == incident.incident_id]
        posts = {post for each in theirs for post in each.posts}
        if posts and incident.is_open:
            tell_desk(engine, incident, "unreachable", posts, causes.get(theirs[-1].recipient))
    await escalation.save(connection, engine.changes, engine.now)

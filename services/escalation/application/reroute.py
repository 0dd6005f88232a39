"""Reroute what waits for people whose channels change."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import obligations
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Incident
from services.escalation.domain.incidents.notifying import ask_to_mend, tell_desk
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
    `causes`: by holder id, the event that records the change. The desk is asked to reach people to whom nothing can be
    brought any more, and no longer asked about those to whom something can. A message under way is not stopped, so
    somebody may be notified twice.
    """
    now = escalation.clock.now()
    called_off = await waiting_deliveries.call_off(connection, incident_ids, gone, now)
    owed = await waiting_deliveries.owed(connection, incident_ids, recorded_at, [c.notice_id for c in called_off])
    if not owed and not called_off:
        return
    concerned = sorted({each.incident_id for each in (*owed, *called_off)})
    found = await incident_loading.with_standing(connection, await incident_loading.locked(connection, concerned))
    before = {i.incident_id: obligations.desk_tasks(i) for i in found}
    engine = await escalation.incident_engine(connection, ())
    if owed:
        waits = {i.incident_id: may_wait(i.standing, engine.policy_of(i)) for i in found}
        rings = [(each, rings_at(each.contact, now, may_wait=waits[each.incident_id])) for each in owed]
        await waiting_deliveries.queue(connection, rings, now)
    await incident_loading.find_lost(connection, found)
    reached = await directory.contacts(connection, {c.recipient for c in called_off})
    for incident in (i for i in found if i.is_open):
        theirs = [each for each in called_off if each.incident_id == incident.incident_id]
        _tell_desk(engine, incident, theirs, reached, causes)
        obligations.end_what_is_done(engine, incident, before[incident.incident_id])
    await escalation.save(connection, engine.changes, engine.now)


def _tell_desk(
    engine: IncidentEngine,
    incident: Incident,
    called_off: Sequence[CalledOff],
    reached: Collection[str],
    causes: Mapping[str, str],
) -> None:
    """Ask the desk to reach people to whom nothing can be brought any more. `reached`: who has a channel at all.

    Who got the request and has no channel for anything else is told to it, too.
    """
    lost = incident.lost & incident.standing.acting_for
    of_posts = [c for c in called_off if c.posts]
    unreached = [c for c in of_posts if any((c.recipient, post) in lost for post in c.posts)]
    if without := [c for c in unreached if c.recipient not in reached]:
        ask_to_mend(engine, incident, "unreachable", _posts(without), causes.get(without[-1].recipient))
    if tried := [c for c in unreached if c.recipient in reached]:
        ask_to_mend(engine, incident, "lost_notice", _posts(tried), causes.get(tried[-1].recipient))
    if rest := [c for c in of_posts if c not in unreached and c.recipient not in reached]:
        tell_desk(engine, incident, "unreachable", _posts(rest), causes.get(rest[-1].recipient))


def _posts(called_off: Sequence[CalledOff]) -> set[str]:
    return {post for each in called_off for post in each.posts}

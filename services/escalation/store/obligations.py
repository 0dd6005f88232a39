"""Queries on obligations: the pending timers that somebody can meet."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.incidents.obligations import Obligation, Waiting, waits_for
from services.escalation.store.incident_loading import with_standing
from services.escalation.store.incident_row import from_row
from services.escalation.store.tables import deadline, notice
from shared.database import any_of


async def of_incidents(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> dict[str, list[Obligation]]:
    """Return whom each of these incidents waits for, by incident id. Those that wait for nobody are left out."""
    found = await with_standing(connection, [i for i in map(from_row, rows) if i.is_waited_for])
    waiting: dict[str, list[Waiting]] = {incident.incident_id: [] for incident in found}
    timers = await connection.execute(
        select(deadline, notice.c.posts)
        .join(notice, notice.c.notice_id == deadline.c.notice_id, isouter=True)
        .where(any_of(deadline.c.incident_id, list(waiting)), deadline.c.state == "pending")
        .where(func.cardinality(deadline.c.who) > 0)
    )
    for row in timers:
        since = row.since or row.set_at or row.due_at
        posts = tuple(row.posts or ())
        waiting[row.incident_id].append(Waiting(row.kind, tuple(row.who), posts, since, row.due_at, row.level))
    return {incident.incident_id: waits_for(incident, waiting[incident.incident_id]) for incident in found}

"""Queries that read decisions one by one, however many there are: for replay and for backtests."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.store.tables import decision, incident

PAGE = 500


async def count(connection: AsyncConnection) -> int:
    return await connection.scalar(select(func.count()).select_from(decision)) or 0


async def every(connection: AsyncConnection) -> AsyncIterator[Any]:
    """Yield all decisions, the oldest first, as rows: decision_id, incident_id, record, inputs."""
    columns = (decision.c.decision_id, decision.c.incident_id, decision.c.record, decision.c.inputs)
    query = select(*columns).order_by(decision.c.decision_id).limit(PAGE)
    last: str | None = None
    while True:
        following = query if last is None else query.where(decision.c.decision_id > last)
        rows = (await connection.execute(following)).all()
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        last = rows[-1].decision_id


async def count_incidents(connection: AsyncConnection, since: datetime | None) -> int:
    query = select(func.count()).select_from(incident)
    return await connection.scalar(query if since is None else query.where(incident.c.opened_at >= since)) or 0


async def latest(connection: AsyncConnection, since: datetime | None) -> AsyncIterator[Any]:
    """Yield the latest decision of each incident that was opened at `since` or later, in order of opening.

    Rows: incident_id, opened_at, decision_id, record, inputs.
    """
    newest = (
        select(decision.c.decision_id, decision.c.record, decision.c.inputs)
        .where(decision.c.incident_id == incident.c.incident_id)
        .order_by(decision.c.number.desc())
        .limit(1)
        .lateral()
    )
    query = (
        select(incident.c.incident_id, incident.c.opened_at, *newest.c)
        .join(newest, true())
        .order_by(incident.c.opened_at, incident.c.incident_id)
        .limit(PAGE)
    )
    if since is not None:
        query = query.where(incident.c.opened_at >= since)
    last: tuple[datetime, str] | None = None
    while True:
        following = query
        if last is not None:
            following = query.where(tuple_(incident.c.opened_at, incident.c.incident_id) > tuple_(*last))
        rows = (await connection.execute(following)).all()
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        last = (rows[-1].opened_at, rows[-1].incident_id)

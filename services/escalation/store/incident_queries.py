"""Queries for the routes: lists of incidents, one incident with all its parts, decisions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.places import Place
from services.escalation.store.tables import deadline, decision, delivery, finding, incident, link, notice, report


def of_place(place: Place) -> ColumnElement[bool]:
    """Condition on incidents: of these units, or of a unit that ended and whose place one of these took."""
    own, acting = incident.c.unit_code == place.code, incident.c.successor["code"].astext == place.code
    if place.days is not None:
        own &= incident.c.unit_valid_from.in_(sorted(place.days))
        acting &= incident.c.successor["valid_from"].astext.in_(sorted(map(str, place.days)))
    return or_(own, acting)


async def page(
    connection: AsyncConnection,
    place: Place | None,
    filters: dict[str, Any],
    occurred: tuple[datetime | None, datetime | None],
    after: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Row[Any]]:
    """Return a page of incidents, the newest first.

    `filters`: values by column. None does not filter, also as `place`. `occurred`: (from, before). `after`: (opened_at,
    id) of the last row of the page before.
    """
    query = select(incident).order_by(incident.c.opened_at.desc(), incident.c.incident_id.desc()).limit(limit)
    for name, value in filters.items():
        if value is not None:
            query = query.where(incident.c[name] == value)
    if place is not None:
        query = query.where(of_place(place))
    if occurred[0] is not None:
        query = query.where(incident.c.occurred_at >= occurred[0])
    if occurred[1] is not None:
        query = query.where(incident.c.occurred_at < occurred[1])
    if after is not None:
        query = query.where(tuple_(incident.c.opened_at, incident.c.incident_id) < tuple_(*after))
    return (await connection.execute(query)).all()


async def one(connection: AsyncConnection, incident_id: str) -> dict[str, Any] | None:
    """Return an incident and all its parts by name, each part in its order. None if there is no such incident."""
    found = (await connection.execute(select(incident).where(incident.c.incident_id == incident_id))).one_or_none()
    if found is None:
        return None
    whole: dict[str, Any] = {"incident": found}
    for name, table, order in (
        ("reports", report, report.c.position),
        ("decisions", decision, decision.c.number),
        ("findings", finding, finding.c.position),
        ("notices", notice, notice.c.issued_at),
        ("deadlines", deadline, deadline.c.due_at),
    ):
        rows = await connection.execute(select(table).where(table.c.incident_id == incident_id).order_by(order))
        whole[name] = rows.all()
    deliveries = await connection.execute(
        select(delivery)
        .join(notice, notice.c.notice_id == delivery.c.notice_id)
        .where(notice.c.incident_id == incident_id)
        .order_by(delivery.c.next_at)
    )
    whole["deliveries"] = deliveries.all()
    links = await connection.execute(
        select(link).where(or_(link.c.incident_id == incident_id, link.c.other_id == incident_id))
    )
    whole["links"] = links.all()
    return whole


async def decision_by_id(connection: AsyncConnection, decision_id: str) -> Row[Any] | None:
    query = (
        select(decision, incident.c.unit_code, incident.c.successor)
        .join(incident, incident.c.incident_id == decision.c.incident_id)
        .where(decision.c.decision_id == decision_id)
    )
    return (await connection.execute(query)).one_or_none()

"""The timeline: every event of this service, in the order in which transactions committed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.store.tables import timeline
from shared.events import Event


class Line(NamedTuple):
    event_id: str
    incident_id: str | None
    unit_code: str | None
    type: str
    body: bytes
    at: datetime


def line(event: Event, body: bytes) -> Line:
    data = event.data
    return Line(event.id, data.incident, data.unit.code if data.unit else None, event.type, body, event.time)


async def add(connection: AsyncConnection, lines: Sequence[Line]) -> None:
    if lines:
        await connection.execute(insert(timeline), [entry._asdict() for entry in lines])


async def of_incident(connection: AsyncConnection, incident_id: str) -> list[dict[str, Any]]:
    """What happened to an incident, in order, without personal values."""
    rows = await connection.execute(
        select(timeline.c.body).where(timeline.c.incident_id == incident_id).order_by(timeline.c.position)
    )
    return [_shown(orjson.loads(row.body)) for row in rows]


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    data = {name: value for name, value in event["data"].items() if name not in {"incident", "unit", "record"}}
    data.pop("reason", None) if isinstance(data.get("reason"), dict) else None
    return {"id": event["id"], "type": event["type"], "at": event["time"], "data": data}

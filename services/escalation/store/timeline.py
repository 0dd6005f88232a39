"""The timeline: every event of this service, in the order in which transactions committed."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert
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

"""The timeline: every event of this service without the personal values in it, to be shown and followed.

Its order is that of (transaction, position). The position alone would not do. It is assigned before the commit, so that
6 may become visible after 7.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any, NamedTuple

import orjson
from sqlalchemy import BigInteger, ColumnElement, Row, Text, cast, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import UnitKey
from services.escalation.store.tables import incident, timeline
from shared.database import any_of
from shared.events import Event
from shared.inserting import Rows, insert_rows


class Line(NamedTuple):
    event_id: str
    incident_id: str | None
    unit_code: str | None
    type: str
    body: bytes
    at: datetime


class Place(NamedTuple):
    """A place in the order. Once it was handed out, no earlier entry can appear later."""

    transaction: int
    position: int


START = Place(0, 0)


@dataclass(frozen=True)
class TimelineEntry:
    place: Place
    units: frozenset[UnitKey]
    """Those whose people may see it. Empty for an entry that belongs to no incident."""
    body: bytes

    @cached_property
    def frame(self) -> bytes:
        """The entry as a server-sent event, whose JSON holds no line breaks. No officer is named in it."""
        body = self.body
        if b'"officer"' in body:
            event = orjson.loads(body)
            body = orjson.dumps(event | {"data": without_reporter(event["data"])})
        return b"id: %d-%d\ndata: %b\n\n" % (*self.place, body)


def line(event: Event, body: bytes) -> Line:
    """Return the line of an event without its personal values. `body`: the encoded event."""
    shown = orjson.dumps(impersonal(orjson.loads(body))) if b'"salt"' in body else body
    unit = event.data.unit
    return Line(event.id, event.data.incident, unit.code if unit else None, event.type, shown, event.time)


def impersonal(value: Any) -> Any:
    """Return the same JSON without any `{"salt", "value"}`. Its name is left out as well."""
    if isinstance(value, dict):
        return {name: impersonal(inner) for name, inner in value.items() if not _is_committed(inner)}
    if isinstance(value, list):
        return [impersonal(inner) for inner in value if not _is_committed(inner)]
    return value


def without_reporter(finding: dict[str, Any]) -> dict[str, Any]:
    """Return a finding, or the data of an event, without an author who is an officer.

    Such an officer is also the one who reported.
    """
    if (finding.get("who") or {}).get("role") == "officer":
        finding = {name: value for name, value in finding.items() if name != "who"}
    return finding | {"author": None} if finding.get("role") == "officer" else finding


def _is_committed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"salt", "value"}


async def add(connection: AsyncConnection, lines: Sequence[Line]) -> None:
    await insert_rows(connection, {timeline: rows(lines)})


def rows(lines: Sequence[Line]) -> Rows:
    return [line._asdict() for line in lines]


async def of_incident(connection: AsyncConnection, incident_id: str) -> list[dict[str, Any]]:
    """Return what happened to an incident, in order, without decision records. They are shown beside it."""
    rows = await connection.execute(
        select(timeline.c.body).where(timeline.c.incident_id == incident_id).order_by(timeline.c.position)
    )
    return [_shown(orjson.loads(row.body)) for row in rows]


_SHOWN_BY_INCIDENT = frozenset({"incident", "sequence", "cause", "unit", "category", "occurred_at", "record"})
"""Names of data that the incident itself shows."""


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    data = event["data"]
    return {
        "id": event["id"],
        "type": event["type"],
        "at": event["time"],
        "sequence": data.get("sequence"),
        "cause": data.get("cause"),
        "data": {name: value for name, value in data.items() if name not in _SHOWN_BY_INCIDENT},
    }


def _number(xid: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(cast(xid, Text), BigInteger)


_PLACE = tuple_(timeline.c.transaction, timeline.c.position)
_IS_STABLE = timeline.c.transaction < _number(func.pg_snapshot_xmin(func.pg_current_snapshot()))
"""No transaction that still runs, or that will run, is older than these entries: they are stable."""


async def newest(connection: AsyncConnection) -> Place:
    """Return the place of the last stable entry."""
    rows = await connection.execute(
        select(timeline.c.transaction, timeline.c.position)
        .where(_IS_STABLE)
        .order_by(timeline.c.transaction.desc(), timeline.c.position.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return Place(*row) if row else START


async def is_to_come(connection: AsyncConnection, place: Place) -> bool:
    """Return whether the transaction of this place has not begun yet.

    Then the place was handed out by another database, or by this one before a restore.
    """
    following = await connection.scalar(select(_number(func.pg_snapshot_xmax(func.pg_current_snapshot()))))
    return following is None or place.transaction >= following


async def after(
    connection: AsyncConnection,
    seen: Place,
    limit: int,
    *,
    until: Place | None = None,
    codes: Collection[str] | None = None,
) -> list[TimelineEntry]:
    """Return the next stable entries after `seen` in order, no further than `until`.

    `codes`: only of units that have, or had, one of these codes.
    """
    successor = incident.c.successor["code"].astext
    query = (
        select(
            timeline.c.transaction, timeline.c.position, timeline.c.incident_id, timeline.c.unit_code, timeline.c.body
        )
        .add_columns(incident.c.unit_code.label("now_code"), incident.c.unit_valid_from, incident.c.successor)
        .outerjoin_from(timeline, incident, incident.c.incident_id == timeline.c.incident_id)
        .where(_IS_STABLE, tuple_(*seen) < _PLACE)
        .order_by(timeline.c.transaction, timeline.c.position)
        .limit(limit)
    )
    if until is not None:
        query = query.where(tuple_(*until) >= _PLACE)
    if codes is not None:
        own = or_(any_of(timeline.c.unit_code, codes), any_of(successor, codes))
        query = query.where(timeline.c.incident_id.is_not(None), own)
    return [
        TimelineEntry(Place(row.transaction, row.position), _units(row), row.body)
        for row in await connection.execute(query)
    ]


def _units(row: Row[Any]) -> frozenset[UnitKey]:
    """Of the entry's own unit, and of the one that took the place of its incident's. None for no incident's entry."""
    found: set[UnitKey] = set()
    if row.incident_id is not None and row.unit_code is not None:
        is_now = row.unit_code == row.now_code
        found.add((row.unit_code, row.unit_valid_from if is_now else _first_day(row.body)))
    if row.incident_id is not None and row.successor:
        found.add((row.successor["code"], date.fromisoformat(row.successor["valid_from"])))
    return frozenset(found)


def _first_day(body: bytes) -> date:
    """Of the unit of an entry whose incident was corrected since: the entry alone says which unit it was."""
    return date.fromisoformat(orjson.loads(body)["data"]["unit"]["valid_from"])

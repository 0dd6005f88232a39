"""Schedule the evaluation of incidents that a change of the directory concerns."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, insert, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.diff import Change
from services.escalation.domain.directory.model import UnitKey
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.store.tables import deadline, incident
from shared.database import any_of
from shared.ids import uuid7

KIND = "directory"
_OCCURRED_WITHIN = text(
    """
    SELECT DISTINCT i.incident_id
    FROM unnest(
        CAST(:codes AS text[]), CAST(:days AS date[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])
    ) AS span (code, valid_from, starts_at, ends_at)
    JOIN escalation.incident i ON i.unit_code = span.code AND i.unit_valid_from = span.valid_from
        AND i.occurred_at >= span.starts_at AND (span.ends_at IS NULL OR i.occurred_at < span.ends_at)
    WHERE i.state <> 'merged'
    """
)


async def schedule_reevaluation(
    connection: AsyncConnection, changes: Sequence[Change], now: datetime, also: Collection[str] = ()
) -> int:
    """Add due times of kind `directory`, in the transaction of the change. Returns how many incidents are due now.

    Due now are the open incidents of these units, or for which these units act. So are incidents, closed ones as well,
    for whose time of occurrence another person is now recorded as accountable. An open incident is also due at each
    later instant from which other people act. `now`: what the clock shows, also where changes are recorded later.

    The caller holds the locks of the units: whoever correlated before has committed, and whoever correlates later sees
    the change. `also`: incidents that the caller goes on to change. They are locked with the others in one order.
    """
    marked: set[str] = set()
    if changes:
        open_now = await connection.scalars(open_of({change.unit for change in changes}))
        marked = {*open_now, *await _occurred_within(connection, changes)}
    if not marked and not also:
        return 0
    # Lock before reading what is pending: a transaction that fires a timer right now has not seen the change.
    found = await connection.execute(
        select(incident.c.incident_id, incident.c.unit_code, incident.c.unit_valid_from, incident.c.successor)
        .add_columns(incident.c.state)
        .where(any_of(incident.c.incident_id, sorted(marked.union(also))))
        .order_by(incident.c.incident_id)
        .with_for_update(key_share=True)
    )
    rows = [row for row in found if row.incident_id in marked]
    await _insert(connection, rows, _boundaries(changes, now), now)
    return len(rows)


def open_of(units: Collection[UnitKey]) -> Select[Any]:
    """Return a query for the ids of open incidents of these units, or for which these units act."""
    acting = tuple_(incident.c.successor["code"].astext, incident.c.successor["valid_from"].astext)
    return (
        select(incident.c.incident_id)
        .where(incident.c.state.not_in(sorted(FINAL)))
        .where(
            or_(
                tuple_(incident.c.unit_code, incident.c.unit_valid_from).in_(sorted(units)),
                acting.in_([(code, day.isoformat()) for code, day in sorted(units)]),
            )
        )
    )


async def _occurred_within(connection: AsyncConnection, changes: Sequence[Change]) -> Sequence[str]:
    spans = [(change.unit, span) for change in changes for span in change.occurred]
    if not spans:
        return ()
    given = {
        "codes": [unit[0] for unit, _ in spans],
        "days": [unit[1] for unit, _ in spans],
        "starts": [span[0].astimezone(UTC) for _, span in spans],
        "ends": [span[1].astimezone(UTC) if span[1] else None for _, span in spans],
    }
    return (await connection.scalars(_OCCURRED_WITHIN, given)).all()


def _boundaries(changes: Sequence[Change], now: datetime) -> dict[UnitKey, set[datetime]]:
    found: dict[UnitKey, set[datetime]] = {}
    for change in changes:
        found.setdefault(change.unit, set()).update(at for at in change.boundaries if at > now)
    return found


async def _insert(
    connection: AsyncConnection, rows: Sequence[Row[Any]], boundaries: dict[UnitKey, set[datetime]], now: datetime
) -> None:
    """Add the due times, except where one is pending for the same incident and instant."""
    pending = await connection.execute(
        select(deadline.c.incident_id, deadline.c.due_at)
        .where(any_of(deadline.c.incident_id, [row.incident_id for row in rows]))
        .where(deadline.c.state == "pending", deadline.c.kind == KIND)
    )
    waiting = {(row.incident_id, max(row.due_at, now)) for row in pending}
    wanted: set[tuple[str, datetime]] = set()
    for row in rows:
        wanted.add((row.incident_id, now))
        if row.state not in FINAL:
            wanted |= {(row.incident_id, at) for unit in _units_of(row) for at in boundaries.get(unit, ())}
    new = sorted(wanted - waiting)
    if new:
        await connection.execute(
            insert(deadline),
            [
                {
                    "deadline_id": uuid7(now),
                    "incident_id": incident_id,
                    "notice_id": None,
                    "kind": KIND,
                    "due_at": at,
                    "state": "pending",
                    "level": 0,
                    "set_at": now if at == now else None,  # a change of hands to come is a time of the calendar
                }
                for incident_id, at in new
            ],
        )


def _units_of(row: Row[Any]) -> list[UnitKey]:
    own = (row.unit_code, row.unit_valid_from)
    if row.successor is None:
        return [own]
    return [own, (row.successor["code"], datetime.fromisoformat(row.successor["valid_from"]).date())]

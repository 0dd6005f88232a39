"""Queries on deliveries: those that are due, when each may go, and the pace of their channels."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Text,
    Update,
    all_,
    bindparam,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.notices.delivery_state import (
    CANCELLED,
    QUEUED,
    UNFINISHED,
)
from services.escalation.store.stale_notices import is_stale
from services.escalation.store.tables import delivery, incident, notice, pace
from shared.database import any_of, given, given_rows
from shared.ids import uuid7

OF_DELIVERY = ("delivery_id", "channel", "attempts", "bundle_id")
_NOW = bindparam("now", type_=DateTime(timezone=True))


class DueRow(NamedTuple):
    """A delivery that is due."""

    delivery_id: str
    channel: str
    attempts: int
    """Number of attempts made so far."""
    bundle_id: str | None
    exercise: bool
    of_incident: bool
    """False for a test of a channel, and for what whoever comes on duty is told."""
    severity: int | None
    stale: bool
    """It need not be sent, as `is_stale` says."""


def queued(notice_id: str, channel: str, at: datetime, now: datetime) -> dict[str, Any]:
    """Return the row of a new delivery. `at`: from when it may go, later than `now` if the contact has quiet hours."""
    return {
        "delivery_id": uuid7(now),
        "notice_id": notice_id,
        "channel": channel,
        "state": QUEUED,
        "next_at": at,
        "set_at": None if at > now else now,
        "ready_at": at,
    }


async def lock_due(
    connection: AsyncConnection, now: datetime, limit: int, under_way: Collection[str] = ()
) -> list[DueRow]:
    """Lock due deliveries, the longest due first, those without an incident last.

    Rows that another transaction has locked are skipped.
    `under_way`: ids of deliveries that the caller is sending, whatever the clock says of their lease.
    """
    rows = await connection.execute(_DUE, {"now": now, "limit": limit, "under_way": list(under_way)})
    return [DueRow(*row) for row in rows]


def _due() -> Select[*tuple[Any, ...]]:
    """The statement of `lock_due`. Its parameters: `now`, `limit`, `under_way`."""
    due = (
        select(delivery)
        .where(delivery.c.state.in_(UNFINISHED), delivery.c.next_at <= _NOW)
        .where(delivery.c.delivery_id != all_(bindparam("under_way", type_=ARRAY(Text))))
        .order_by(delivery.c.next_at)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(skip_locked=True)
        .subquery()
    )
    return (
        select(*(due.c[name] for name in OF_DELIVERY), notice.c.exercise, notice.c.incident_id.is_not(None))
        .add_columns(incident.c.severity, is_stale(due.c.channel, due.c.attempts > 0, _NOW).label("stale"))
        .join_from(due, notice, notice.c.notice_id == due.c.notice_id)
        .join(incident, incident.c.incident_id == notice.c.incident_id, isouter=True)
        .order_by(notice.c.incident_id.is_(None), due.c.next_at, incident.c.incident_id, due.c.delivery_id)
    )


_DUE = _due()
"""Built once, since every look at what is due runs it."""


async def unfinished_in(connection: AsyncConnection, bundle_ids: Collection[str]) -> dict[str, int]:
    """Return how many deliveries of each of these bundles are not finished, whoever has locked them."""
    if not bundle_ids:
        return {}
    rows = await connection.execute(
        select(delivery.c.bundle_id, func.count().label("n"))
        .where(any_of(delivery.c.bundle_id, bundle_ids), delivery.c.state.in_(written(UNFINISHED)))
        .group_by(delivery.c.bundle_id)
    )
    return {row.bundle_id: row.n for row in rows}


async def cancel(connection: AsyncConnection, delivery_ids: Collection[str], now: datetime) -> None:
    await connection.execute(
        update(delivery).where(delivery.c.delivery_id.in_(delivery_ids)).values(state=CANCELLED, finished_at=now)
    )


async def lock_pace(connection: AsyncConnection, keys: Collection[str], now: datetime) -> dict[str, datetime]:
    """Return the instant up to which the traffic of each key is accounted for. New keys start at `now`.

    The rows are locked in order of key, so that two claims never deadlock.
    """
    rows = await connection.execute(
        text(
            "INSERT INTO escalation.pace (key, allowed_at, set_at)"
            " SELECT key, :now, :now FROM unnest(CAST(:keys AS text[])) AS key ORDER BY key"
            " ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING key, allowed_at"
        ),
        {"now": now, "keys": sorted(keys)},
    )
    return {row.key: row.allowed_at for row in rows}


async def postpone(connection: AsyncConnection, times: Mapping[str, datetime], now: datetime) -> None:
    """Set from when each delivery is due, by delivery id."""
    await _set_times(connection, _POSTPONE, times, now)


async def charge(connection: AsyncConnection, times: Mapping[str, datetime], now: datetime) -> None:
    """Set the instant up to which the traffic of each key is accounted for."""
    await _set_times(connection, _CHARGE, times, now)


async def _set_times(
    connection: AsyncConnection, statement: Update, times: Mapping[str, datetime], now: datetime
) -> None:
    if times:
        await connection.execute(statement, given(id=list(times), value=list(times.values())) | {"now": now})


def _setting(column: Column[Any]) -> Update:
    """The statement of `_set_times` for one column. Its parameters: `id`, `value`, `now`."""
    table, new = column.table, given_rows(id=Text(), value=DateTime(timezone=True))
    (key,) = table.primary_key
    return update(table).where(key == new.c.id).values({column: new.c.value, table.c.set_at: _NOW})


_POSTPONE, _CHARGE = _setting(delivery.c.next_at), _setting(pace.c.allowed_at)


def written(states: Iterable[str]) -> list[ColumnElement[str]]:
    """Return the states as literals of the statement.

    PostgreSQL uses a partial index only for a condition that it can read.
    """
    return [literal_column(f"'{state}'", Text) for state in states]

"""Queries on due times that have passed, and the acknowledgements that call them off."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.incidents.timers import TimedNotice
from services.escalation.store.incident_saving import call_off_deliveries
from services.escalation.store.tables import deadline, delivery, incident, notice
from shared.database import any_of


async def claim_due(
    connection: AsyncConnection,
    now: datetime,
    limit: int,
    which: Collection[str] | None = None,
    but: Collection[str] = (),
) -> list[str]:
    """Incidents with a passed deadline, locked. The incident is locked first, as everywhere, so nothing deadlocks.

    `which`: among these only; `but`: none of these, and they count for no limit.
    """
    passed = select(deadline.c.incident_id).where(deadline.c.state == "pending", deadline.c.due_at <= now)
    if which is not None:
        passed = passed.where(any_of(deadline.c.incident_id, which))
    if but:
        passed = passed.where(not_(any_of(deadline.c.incident_id, but)))
    passed = passed.order_by(deadline.c.due_at).limit(4 * limit)
    rows = await connection.execute(
        select(incident.c.incident_id)
        .where(incident.c.incident_id.in_(passed))
        .order_by(incident.c.incident_id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return [row.incident_id for row in rows]


async def fire_due_timers(
    connection: AsyncConnection, incident_ids: Sequence[str], now: datetime
) -> Sequence[Row[Any]]:
    """Mark the passed deadlines of locked incidents; returns them in order of their due times."""
    rows = await connection.execute(
        update(deadline)
        .where(
            any_of(deadline.c.incident_id, incident_ids),
            deadline.c.state == "pending",
            deadline.c.due_at <= now,
        )
        .values(state="passed")
        .returning(deadline)
    )
    return sorted(rows.all(), key=lambda row: (row.due_at, row.deadline_id))


async def notices(connection: AsyncConnection, notice_ids: Sequence[str]) -> dict[str, TimedNotice]:
    rows = await connection.execute(
        select(notice.c.notice_id, notice.c.recipient, notice.c.posts, notice.c.due_at).where(
            any_of(notice.c.notice_id, notice_ids)
        )
    )
    return {row.notice_id: TimedNotice(row.recipient, tuple(row.posts), row.due_at) for row in rows}


async def notices_of(connection: AsyncConnection, incident_id: str) -> Sequence[Row[Any]]:
    rows = await connection.execute(
        select(notice).where(notice.c.incident_id == incident_id).order_by(notice.c.notice_id)
    )
    return rows.all()


async def notice_by_id(connection: AsyncConnection, notice_id: str) -> Row[Any] | None:
    return (await connection.execute(select(notice).where(notice.c.notice_id == notice_id))).one_or_none()


async def acknowledge(connection: AsyncConnection, notice_ids: Sequence[str], by: str, at: datetime) -> set[str]:
    """Acknowledge what is not yet; cancel its deadlines and what is still to be sent. Returns what was new."""
    rows = await connection.execute(
        update(notice)
        .where(any_of(notice.c.notice_id, notice_ids), notice.c.acknowledged_at.is_(None))
        .values(acknowledged_at=at, acknowledged_by=by)
        .returning(notice.c.notice_id)
    )
    new = {row.notice_id for row in rows}
    await connection.execute(
        update(deadline)
        .where(any_of(deadline.c.notice_id, new), deadline.c.state == "pending")
        .values(state="cancelled")
    )
    await call_off_deliveries(connection, new, at)
    return new


async def stop_chain(connection: AsyncConnection, incident_id: str, at: datetime) -> None:
    """Every post-holder has answered: nobody further up is asked, nor told that nobody answers."""
    await connection.execute(
        update(deadline)
        .where(deadline.c.incident_id == incident_id, deadline.c.state == "pending")
        .where(deadline.c.kind.in_(("acknowledge", "remind")))
        .values(state="cancelled")
    )
    late = select(notice.c.notice_id).where(
        notice.c.incident_id == incident_id, notice.c.purpose.in_(("not_acknowledged", "exhausted"))
    )
    await call_off_deliveries(connection, late, at)


async def set_progress(connection: AsyncConnection, incident_id: str, state: str, sequence: int) -> None:
    """Store the state and the sequence number of a case that was loaded and locked."""
    await connection.execute(
        update(incident).where(incident.c.incident_id == incident_id).values(state=state, sequence=sequence)
    )


async def next_due(connection: AsyncConnection) -> datetime | None:
    """When the next deadline falls due or delivery may go; the sample night moves its clock there."""
    falls_due = select(func.min(deadline.c.due_at).label("at")).where(deadline.c.state == "pending")
    goes = select(func.min(delivery.c.next_at)).where(delivery.c.state.in_(("queued", "failed")))
    rows = falls_due.union_all(goes).subquery()
    return await connection.scalar(select(func.min(rows.c.at)))


async def is_idle(connection: AsyncConnection, now: datetime) -> bool:
    """Nothing is due at `now`: no delivery waiting or under way, no deadline passed."""
    sending = await connection.scalar(
        select(func.count())
        .select_from(delivery)
        .where(
            (delivery.c.state == "sending") | (delivery.c.state.in_(("queued", "failed")) & (delivery.c.next_at <= now))
        )
    )
    passed = await connection.scalar(
        select(func.count()).select_from(deadline).where(deadline.c.state == "pending", deadline.c.due_at <= now)
    )
    return not sending and not passed

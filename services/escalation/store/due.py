"""Queries of the two loops: deliveries that are due, and deadlines that have passed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.store.tables import deadline, delivery, incident, notice

LEASE = timedelta(seconds=20)
"""How long a delivery may be under way before its outcome counts as unknown and it is sent again."""


@dataclass(frozen=True)
class DueDelivery:
    delivery_id: str
    notice_id: str
    incident_id: str
    recipient: str
    purpose: str
    posts: list[str]
    channel: str
    title: str
    body: str
    exercise: bool
    attempts: int
    """Including the one that this claim begins."""


async def claim_deliveries(connection: AsyncConnection, now: datetime, limit: int) -> list[DueDelivery]:
    """Lease up to `limit` due deliveries to the caller, who commits before sending.

    One whose lease ran out after its notice was acknowledged is not sent again.
    """
    await connection.execute(
        update(delivery)
        .where(delivery.c.state == "sending", delivery.c.next_at <= now)
        .where(delivery.c.notice_id == notice.c.notice_id, notice.c.acknowledged_at.is_not(None))
        .values(state="cancelled", finished_at=now)
    )
    due = (
        select(delivery.c.delivery_id)
        .where(delivery.c.state.in_(("queued", "sending")), delivery.c.next_at <= now)
        .order_by(delivery.c.next_at, delivery.c.delivery_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = await connection.execute(
        update(delivery)
        .where(delivery.c.delivery_id.in_(due), delivery.c.notice_id == notice.c.notice_id)
        .values(state="sending", attempts=delivery.c.attempts + 1, next_at=now + LEASE)
        .returning(
            delivery.c.delivery_id,
            delivery.c.channel,
            delivery.c.attempts,
            notice.c.notice_id,
            notice.c.incident_id,
            notice.c.recipient,
            notice.c.purpose,
            notice.c.posts,
            notice.c.title,
            notice.c.body,
            notice.c.exercise,
        )
    )
    claimed = [DueDelivery(**{name: getattr(row, name) for name in DueDelivery.__dataclass_fields__}) for row in rows]
    return sorted(claimed, key=lambda d: d.delivery_id)


def _still_ours(due: DueDelivery) -> ColumnElement[bool]:
    """No other worker, whose lease overtook ours, has taken it since."""
    return and_(
        delivery.c.delivery_id == due.delivery_id,
        delivery.c.state == "sending",
        delivery.c.attempts == due.attempts,
    )


async def finish_delivery(
    connection: AsyncConnection, due: DueDelivery, state: str, now: datetime, error: str | None
) -> bool:
    """Store an outcome; False if another worker, whose lease overtook ours, has stored one already."""
    rows = await connection.execute(
        update(delivery)
        .where(_still_ours(due))
        .values(state=state, finished_at=now, error=error)
        .returning(delivery.c.delivery_id)
    )
    return rows.first() is not None


async def retry_delivery(
    connection: AsyncConnection, due: DueDelivery, now: datetime, at: datetime, error: str
) -> None:
    """Queue it again for `at`, unless its notice was acknowledged while it was being sent."""
    acknowledged = exists().where(notice.c.notice_id == due.notice_id, notice.c.acknowledged_at.is_not(None))
    await connection.execute(
        update(delivery)
        .where(_still_ours(due))
        .values(
            state=case((acknowledged, "cancelled"), else_="queued"),
            finished_at=case((acknowledged, now)),
            next_at=at,
            error=error,
        )
    )


async def is_settled(connection: AsyncConnection, notice_id: str) -> bool:
    """The notice got through otherwise: it is acknowledged, or another channel took it."""
    through = select(notice.c.notice_id).where(notice.c.notice_id == notice_id, notice.c.acknowledged_at.is_not(None))
    sent = select(delivery.c.notice_id).where(delivery.c.notice_id == notice_id, delivery.c.state == "sent")
    return (await connection.execute(through.union(sent))).first() is not None


async def claim_passed(connection: AsyncConnection, now: datetime, limit: int) -> list[str]:
    """Incidents with a passed deadline, locked. The incident is locked first, as everywhere, so nothing deadlocks."""
    passed = select(deadline.c.incident_id).where(deadline.c.state == "pending", deadline.c.due_at <= now)
    rows = await connection.execute(
        select(incident.c.incident_id)
        .where(incident.c.incident_id.in_(passed))
        .order_by(incident.c.incident_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [row.incident_id for row in rows]


async def pass_deadlines(connection: AsyncConnection, incident_ids: Sequence[str], now: datetime) -> Sequence[Row[Any]]:
    """Mark the passed deadlines of locked incidents; returns them in order of their due times."""
    rows = await connection.execute(
        update(deadline)
        .where(
            deadline.c.incident_id.in_(incident_ids),
            deadline.c.state == "pending",
            deadline.c.due_at <= now,
        )
        .values(state="passed")
        .returning(deadline)
    )
    return sorted(rows.all(), key=lambda row: (row.due_at, row.deadline_id))


async def posts_of(connection: AsyncConnection, notice_ids: Sequence[str]) -> dict[str, set[str]]:
    """The posts that these notices went to, by incident."""
    rows = await connection.execute(
        select(notice.c.incident_id, notice.c.posts).where(notice.c.notice_id.in_(notice_ids))
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.incident_id, set()).update(row.posts)
    return found


async def next_due(connection: AsyncConnection) -> datetime | None:
    """When the next deadline falls due; the sample night moves its clock there."""
    return await connection.scalar(select(func.min(deadline.c.due_at)).where(deadline.c.state == "pending"))


async def is_idle(connection: AsyncConnection, now: datetime) -> bool:
    """Nothing is due at `now`: no delivery waiting or under way, no deadline passed."""
    sending = await connection.scalar(
        select(func.count())
        .select_from(delivery)
        .where((delivery.c.state == "sending") | ((delivery.c.state == "queued") & (delivery.c.next_at <= now)))
    )
    passed = await connection.scalar(
        select(func.count()).select_from(deadline).where(deadline.c.state == "pending", deadline.c.due_at <= now)
    )
    return not sending and not passed


async def overdue_deliveries(connection: AsyncConnection, now: datetime) -> int:
    """Deliveries that should have gone out a lease ago: the delivery loop is not keeping up."""
    return int(
        await connection.scalar(
            select(func.count())
            .select_from(delivery)
            .where(delivery.c.state.in_(("queued", "sending")), delivery.c.next_at < now - LEASE)
        )
        or 0
    )

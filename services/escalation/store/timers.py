"""Queries on timers (table `deadline`), and on the notices that they are about."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, literal, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import LEADERSHIP
from services.escalation.domain.incidents.acknowledging import StoredNotice
from services.escalation.domain.incidents.incident import TimerKind
from services.escalation.domain.incidents.timers import FiredTimer, TimedNotice
from services.escalation.domain.notices.delivery_state import SENDING, WAITING
from services.escalation.store import shifts
from services.escalation.store.deliveries import written
from services.escalation.store.tables import deadline, delivery, incident, notice, roster
from shared.database import any_of


async def claim_due(
    connection: AsyncConnection,
    now: datetime,
    limit: int,
    which: Collection[str] | None = None,
    but: Collection[str] = (),
) -> list[str]:
    """Lock and return incidents that have a due timer.

    `which`: only among these. `but`: none of these, and they do not count for the limit. Incidents are locked before
    their timers, here as everywhere, so that nothing deadlocks.
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


async def mark_fired(
    connection: AsyncConnection, incident_ids: Collection[str], now: datetime, kind: TimerKind | None = None
) -> dict[str, list[FiredTimer]]:
    """Mark the due timers of locked incidents as passed, those of one `kind` or all.

    Returns them by incident id, in order of their due times.
    """
    due = any_of(deadline.c.incident_id, incident_ids) & (deadline.c.state == "pending") & (deadline.c.due_at <= now)
    if kind is not None:
        due &= deadline.c.kind == kind
    rows = await connection.execute(update(deadline).where(due).values(state="passed").returning(deadline))
    fired: dict[str, list[FiredTimer]] = {}
    for row in sorted(rows.all(), key=lambda row: (row.due_at, row.deadline_id)):
        fired.setdefault(row.incident_id, []).append(FiredTimer(row.kind, row.due_at, row.notice_id, row.level))
    return fired


async def notices(connection: AsyncConnection, fired: Iterable[Sequence[FiredTimer]]) -> dict[str, TimedNotice]:
    """Return the notices that these timers are about, by id."""
    notice_ids = [t.notice_id for each in fired for t in each if t.notice_id]
    rows = await connection.execute(
        select(notice.c.notice_id, notice.c.recipient, notice.c.posts, notice.c.due_at, notice.c.event_id).where(
            any_of(notice.c.notice_id, notice_ids)
        )
    )
    return {row.notice_id: TimedNotice(row.recipient, tuple(row.posts), row.due_at, row.event_id) for row in rows}


async def notices_of(connection: AsyncConnection, incident_id: str) -> list[StoredNotice]:
    rows = await connection.execute(
        select(notice).where(notice.c.incident_id == incident_id).order_by(notice.c.notice_id)
    )
    return [
        StoredNotice(
            notice_id=row.notice_id,
            recipient=row.recipient,
            purpose=row.purpose,
            posts=tuple(row.posts),
            round=row.round,
            due_at=row.due_at,
            acknowledged_at=row.acknowledged_at,
            event_id=row.event_id,
        )
        for row in rows
    ]


async def leadership_has_it_since(connection: AsyncConnection, incident_id: str, round_: int) -> datetime | None:
    """Return since when the leadership has the incident in this round, or None.

    It no longer has what it was asked only because somebody did not acknowledge, who then did.
    """
    asked = select(literal(1)).where(deadline.c.notice_id == notice.c.notice_id, deadline.c.state != "cancelled")
    return await connection.scalar(
        select(func.min(notice.c.issued_at))
        .where(notice.c.incident_id == incident_id, notice.c.recipient == LEADERSHIP, notice.c.round == round_)
        .where(notice.c.purpose.in_(("not_acknowledged", "escalated")))
        .where(or_(notice.c.acknowledged_at.is_not(None), asked.exists()))
    )


async def incident_of_notice(connection: AsyncConnection, notice_id: str) -> str | None:
    return await connection.scalar(select(notice.c.incident_id).where(notice.c.notice_id == notice_id))


_NEXT_TIMER = select(func.min(deadline.c.due_at)).where(deadline.c.state.in_(written(["pending"])))
_NEXT_DELIVERY = select(func.min(delivery.c.next_at)).where(delivery.c.state.in_(written(sorted(WAITING))))


async def next_due(connection: AsyncConnection, now: datetime) -> datetime | None:
    """Return when the next timer or delivery is due, or a turn of duty begins, or None.

    The sample night moves its clock there.
    """
    found = [
        await next_timer(connection),
        await next_delivery(connection),
        await connection.scalar(shifts.next_begin(now)),
    ]
    return min((at for at in found if at is not None), default=None)


async def next_timer(connection: AsyncConnection) -> datetime | None:
    """Return when the next timer is due, or None."""
    return await connection.scalar(_NEXT_TIMER)


async def next_delivery(connection: AsyncConnection) -> datetime | None:
    """Return when the next delivery may go, or None."""
    return await connection.scalar(_NEXT_DELIVERY)


async def is_idle(connection: AsyncConnection, now: datetime) -> bool:
    """Return whether nothing is due at `now`: no timer, no turn of duty, no delivery that waits or is being sent."""
    sending = await connection.scalar(
        select(func.count())
        .select_from(delivery)
        .where((delivery.c.state == SENDING) | (delivery.c.state.in_(WAITING) & (delivery.c.next_at <= now)))
    )
    passed = await connection.scalar(
        select(func.count()).select_from(deadline).where(deadline.c.state == "pending", deadline.c.due_at <= now)
    )
    turns = await connection.scalar(select(func.count()).select_from(roster).where(shifts.begun(now)))
    return not sending and not passed and not turns

"""Deliveries that are due: leased message by message, and what became of them."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    FromClause,
    Integer,
    Row,
    Text,
    and_,
    func,
    literal,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy import case as sql_case
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices import pacing
from services.escalation.domain.notices.delivery_state import (
    CANCELLED,
    FAILED,
    GOT_THROUGH,
    SENDING,
    UNFINISHED,
    AttemptOutcome,
)
from services.escalation.domain.notices.notification import ASKING
from services.escalation.domain.notices.pacing import Limits, Waiting
from services.escalation.domain.notices.wording import Listed
from services.escalation.store.tables import delivery, incident, notice, pace
from shared.ids import uuid7

LEASE = timedelta(seconds=20)
"""How long a delivery may be under way before its outcome counts as unknown and it is sent again."""
WINDOW = 2_000
"""As many due deliveries are looked at in one claim, and go out in one message at most."""
SAYING_IT_APPLIES = ASKING | {"reminder"}
UNPACED_GATEWAYS = frozenset({"outbox"})
"""A local file."""
OF_DELIVERY = ("delivery_id", "channel", "attempts", "bundle_id")
OF_NOTICE = (
    "notice_id",
    "incident_id",
    "recipient",
    "purpose",
    "posts",
    "title",
    "body",
    "exercise",
    "issued_at",
    "due_at",
)
OF_INCIDENT = (
    incident.c.category,
    incident.c.limb,
    incident.c.unit_kind,
    incident.c.unit_name,
    incident.c.occurred_at,
    incident.c.severity,
    incident.c.standing,
    incident.c.outcome,
    incident.c.rulebook_version,
)


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
    issued_at: datetime
    attempts: int
    """Including the one that this claim begins."""
    listed: Listed
    bundle_id: str | None = None


@dataclass(frozen=True)
class Message:
    """What goes out at once to one contact: one notice, or several that share a bundle."""

    deliveries: tuple[DueDelivery, ...]

    @property
    def channel(self) -> str:
        return self.deliveries[0].channel

    @property
    def bundle_id(self) -> str | None:
        return self.deliveries[0].bundle_id

    @property
    def message_id(self) -> str:
        """The same whenever the same is sent again. Not the bundle's: who got it whole drops no part of it unread."""
        ids = sorted(d.delivery_id for d in self.deliveries)
        return ids[0] if len(ids) == 1 else f"bundle-{hashlib.sha256(','.join(ids).encode()).hexdigest()[:32]}"

    @property
    def attempts(self) -> int:
        return max(d.attempts for d in self.deliveries)


@dataclass(frozen=True)
class Attempt:
    """How the sending of a message ended."""

    message: Message
    outcome: AttemptOutcome
    at: datetime
    error: str | None = None
    wait: timedelta = timedelta(0)
    """Of a failed one: until it is tried again."""


@dataclass(frozen=True)
class Claimed:
    messages: list[Message] = field(default_factory=list[Message])
    more: bool = False
    """Others are due that this claim did not come to."""


async def claim_deliveries(
    connection: AsyncConnection,
    now: datetime,
    limits: Limits,
    under_way: Mapping[str, int] | None = None,
    window: int = WINDOW,
) -> Claimed:
    """Lease due deliveries to the caller, who commits before sending. What its contact or gateway cannot take yet is
    postponed; what was acknowledged, or whose recipient left or incident ended while it was tried, is cancelled.

    `under_way`: messages of the caller that are being sent, by host.
    """
    seen = await _due(connection, now, window)
    stale = [row.delivery_id for row in seen if row.stale]
    waiting = [_waiting(row) for row in seen if not row.stale]
    if stale:
        await _cancel(connection, stale, now)
    if not waiting:
        return Claimed(more=len(seen) == window)
    keys = {key for w in waiting for key in (w.contact, w.gateway) if key is not None}
    allowed = await _allowed(connection, sorted(keys), now)
    crowded = len(seen) == window
    shares = pacing.share(waiting, allowed, now, limits, under_way or {}, crowded=crowded)
    await _set_times(connection, delivery.c.next_at, shares.postponed)
    await _set_times(connection, pace.c.allowed_at, shares.charged)
    messages = await _lease(connection, shares.messages, {row.delivery_id: row.bundle_id for row in seen}, now)
    return Claimed(messages, crowded or len(messages) == limits.messages)


async def _due(connection: AsyncConnection, now: datetime, window: int) -> Sequence[Any]:
    """Locked, the longest due first; what another transaction holds is passed over."""
    due = (
        select(delivery)
        .where(delivery.c.state.in_(UNFINISHED), delivery.c.next_at <= now)
        .order_by(delivery.c.next_at)
        .limit(window)
        .with_for_update(skip_locked=True)
        .subquery()
    )
    told_all_the_same = and_(incident.c.state == "handed_off", notice.c.purpose == "accountable")
    over = and_(incident.c.state.in_(sorted(FINAL)), notice.c.purpose != "undeliverable", not_(told_all_the_same))
    ended = and_(due.c.attempts > 0, over)
    rows = await connection.execute(
        select(
            due.c.delivery_id,
            due.c.channel,
            due.c.attempts,
            due.c.bundle_id,
            notice.c.exercise,
            incident.c.severity,
            or_(notice.c.acknowledged_at.is_not(None), notice.c.withdrawn_at.is_not(None), ended).label("stale"),
        )
        .join(notice, notice.c.notice_id == due.c.notice_id)
        .join(incident, incident.c.incident_id == notice.c.incident_id)
        .order_by(due.c.next_at, incident.c.incident_id, due.c.delivery_id)
    )
    return rows.all()


def _waiting(row: Any) -> Waiting:
    channel: str = row.channel
    free = pacing.scheme(channel) in UNPACED_GATEWAYS
    return Waiting(
        delivery_id=row.delivery_id,
        host=pacing.host_of(channel),
        contact=None if row.exercise else pacing.contact_key(channel),
        gateway=None if free else pacing.gateway_key(channel),
        message=(row.bundle_id or row.delivery_id) if row.attempts else None,
        severity=row.severity,
    )


async def _cancel(connection: AsyncConnection, delivery_ids: Collection[str], now: datetime) -> None:
    await connection.execute(
        update(delivery).where(delivery.c.delivery_id.in_(delivery_ids)).values(state=CANCELLED, finished_at=now)
    )


async def _allowed(connection: AsyncConnection, keys: Sequence[str], now: datetime) -> dict[str, datetime]:
    """Locked in the order of keys, so that two claims never wait for one another."""
    rows = await connection.execute(
        text(
            "INSERT INTO escalation.pace (key, allowed_at)"
            " SELECT key, :now FROM unnest(CAST(:keys AS text[])) AS key ORDER BY key"
            " ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING key, allowed_at"
        ),
        {"now": now, "keys": list(keys)},
    )
    return {row.key: row.allowed_at for row in rows}


async def _set_times(connection: AsyncConnection, column: Column[Any], times: Mapping[str, datetime]) -> None:
    if times:
        table = column.table
        (key,) = table.primary_key
        new = _pairs(times, DateTime(timezone=True))
        await connection.execute(update(table).where(key == new.c.id).values({column: new.c.value}))


def _pairs(values: Mapping[str, Any], kind: TypeEngine[Any]) -> FromClause:
    """A table of (id, value)."""
    return _rows(id=(Text(), list(values)), value=(kind, list(values.values())))


def _rows(**columns: tuple[TypeEngine[Any], list[Any]]) -> FromClause:
    """A table in as many parameters as it has columns, however long it is."""
    arrays = [literal(values, ARRAY(kind)) for kind, values in columns.values()]
    return func.unnest(*arrays).table_valued(*columns).render_derived()


async def _lease(
    connection: AsyncConnection,
    messages: Sequence[Sequence[Waiting]],
    bundles: Mapping[str, str | None],
    now: datetime,
) -> list[Message]:
    """Those that are sent for the first time together get a bundle; what was one already stays one."""
    place: dict[str, int] = {}
    bundle: dict[str, str | None] = {}
    for number, message in enumerate(messages):
        shared = uuid7(now) if len(message) > 1 and message[0].message is None else None
        for waiting in message:
            place[waiting.delivery_id] = number
            bundle[waiting.delivery_id] = shared or bundles[waiting.delivery_id]
    if not place:
        return []
    new = _pairs(bundle, Text())
    rows = await connection.execute(
        update(delivery)
        .where(delivery.c.delivery_id == new.c.id)
        .where(notice.c.notice_id == delivery.c.notice_id, incident.c.incident_id == notice.c.incident_id)
        .values(state=SENDING, attempts=delivery.c.attempts + 1, next_at=now + LEASE, bundle_id=new.c.value)
        .returning(*(delivery.c[name] for name in OF_DELIVERY), *(notice.c[name] for name in OF_NOTICE), *OF_INCIDENT)
    )
    parts: list[list[DueDelivery]] = [[] for _ in messages]
    for row in rows:
        parts[place[row.delivery_id]].append(_delivery(row))
    return [Message(tuple(sorted(part, key=lambda d: d.delivery_id))) for part in parts]


def _delivery(row: Row[Any]) -> DueDelivery:
    listed = Listed(
        notice_id=row.notice_id,
        incident_id=row.incident_id,
        purpose=row.purpose,
        category=row.category,
        limb=row.limb,
        place=f"{row.unit_kind} {row.unit_name}",
        occurred_at=row.occurred_at,
        severity=row.severity,
        provisional=row.standing == "provisional",
        exercise=row.exercise,
        applies=row.outcome == "applies" and row.purpose in SAYING_IT_APPLIES,
        version=row.rulebook_version,
        due_at=row.due_at,
    )
    fields = {name: getattr(row, name) for name in (*OF_DELIVERY, *OF_NOTICE)}
    del fields["due_at"]
    return DueDelivery(**fields, listed=listed)


async def end_attempts(connection: AsyncConnection, attempts: Sequence[Attempt]) -> set[str]:
    """Store the outcomes; the ids of deliveries that are over with it. A failed one is sent again after its wait, but
    for notices that were acknowledged while they were being sent.

    What another worker, whose lease overtook ours, has taken since is left to it.
    """
    ended = [(due, attempt) for attempt in attempts for due in attempt.message.deliveries]
    new = _rows(
        id=(Text(), [due.delivery_id for due, _ in ended]),
        attempts=(Integer(), [due.attempts for due, _ in ended]),
        outcome=(Text(), [attempt.outcome for _, attempt in ended]),
        error=(Text(), [attempt.error for _, attempt in ended]),
        ended_at=(DateTime(timezone=True), [attempt.at for _, attempt in ended]),
        next_at=(DateTime(timezone=True), [attempt.at + attempt.wait for _, attempt in ended]),
    )
    failed = new.c.outcome == FAILED
    over = and_(failed, notice.c.acknowledged_at.is_not(None))
    rows = await connection.execute(
        update(delivery)
        .where(
            delivery.c.delivery_id == new.c.id,
            delivery.c.state == SENDING,
            delivery.c.attempts == new.c.attempts,
            notice.c.notice_id == delivery.c.notice_id,
        )
        .values(
            state=sql_case((over, CANCELLED), else_=new.c.outcome),
            finished_at=sql_case((or_(not_(failed), over), new.c.ended_at)),
            next_at=new.c.next_at,
            error=new.c.error,
        )
        .returning(delivery.c.delivery_id, failed.label("failed"))
    )
    return {row.delivery_id for row in rows if not row.failed}


async def got_through(connection: AsyncConnection, notice_ids: Collection[str]) -> set[str]:
    """Those of the notices that got through otherwise: acknowledged, or taken by another channel."""
    through = select(notice.c.notice_id).where(
        notice.c.notice_id.in_(notice_ids), notice.c.acknowledged_at.is_not(None)
    )
    taken = select(delivery.c.notice_id).where(delivery.c.notice_id.in_(notice_ids), delivery.c.state.in_(GOT_THROUGH))
    return set(await connection.scalars(through.union(taken)))

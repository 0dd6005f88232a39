"""Queries on the beginnings of turns of duty, and on what whoever comes on duty is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Date, Select, Text, and_, cast, func, insert, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import Duty
from services.escalation.domain.notices.shift import SHIFT
from services.escalation.store.deliveries import queued
from services.escalation.store.directory import duty_of
from services.escalation.store.tables import delivery, notice, roster, shift

_UNIT = func.coalesce(roster.c.unit_code + "@" + cast(cast(roster.c.unit_valid_from, Date), Text), "")


@dataclass(frozen=True)
class ShiftNotice:
    """What one person is told at the beginning of a turn. `event_id`: what records it. `until`: the end of the turn."""

    notice_id: str
    event_id: str
    recipient: str
    title: str
    body: str
    channels: Sequence[str]
    until: datetime


def _untold(now: datetime) -> ColumnElement[bool]:
    """Condition on turns: they are not over, and nobody has acted on their beginning."""
    told = select(literal(1)).where(
        shift.c.holder_id == roster.c.holder_id,
        shift.c.level == roster.c.level,
        shift.c.unit == _UNIT,
        shift.c.valid_from == roster.c.valid_from,
    )
    return and_(roster.c.superseded_at.is_(None), roster.c.valid_to > now, ~told.exists())


def begun(now: datetime) -> ColumnElement[bool]:
    """Condition on turns: they have begun, and nobody has acted on it."""
    return and_(_untold(now), roster.c.valid_from <= now)


async def begin(connection: AsyncConnection, now: datetime) -> list[Duty]:
    """Store that the turns which have begun are acted on. Returns those that no other transaction took."""
    rows = (await connection.execute(select(roster, _UNIT.label("unit")).where(begun(now)))).all()
    if not rows:
        return []
    keys = {(row.holder_id, row.level, row.unit, row.valid_from): row for row in rows}
    names = ("holder_id", "level", "unit", "valid_from")
    new = [dict(zip(names, key, strict=True)) | {"told_at": now} for key in sorted(keys)]
    taken = await connection.execute(
        upsert(shift).values(new).on_conflict_do_nothing().returning(*(shift.c[name] for name in names))
    )
    return [duty_of(keys[tuple(row)]) for row in taken]


def next_begin(now: datetime) -> Select[datetime | None]:
    """Query: when the next turn begins on whose beginning nobody has acted, or None."""
    return select(func.min(roster.c.valid_from)).where(_untold(now))


async def tell(connection: AsyncConnection, told: Sequence[ShiftNotice], now: datetime) -> None:
    """Store notices, and queue them on each channel at once: whoever is on duty has no quiet hours."""
    said = ("notice_id", "event_id", "recipient", "title", "body")
    common = {"purpose": SHIFT, "posts": [], "exercise": False, "issued_at": now}
    rows = [common | {name: getattr(n, name) for name in said} | {"due_at": n.until} for n in told]
    if rows:
        await connection.execute(insert(notice), rows)
    sent = [queued(n.notice_id, channel, now, now) for n in told for channel in n.channels]
    if sent:
        await connection.execute(insert(delivery), sent)

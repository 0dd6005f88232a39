"""Deliveries to people whose channels change. The caller must hold the locks of the incidents."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, insert, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import Contact, UnitKey
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices.delivery_state import (
    CANCELLED,
    FAILED,
    GOT_THROUGH,
    UNFINISHED,
    WAITING,
)
from services.escalation.domain.notices.notification import ASKING, EACH_ROUND
from services.escalation.store.deliveries import queued
from services.escalation.store.directory import contact_of
from services.escalation.store.reevaluation import open_of
from services.escalation.store.stale_notices import lost_channel
from services.escalation.store.tables import contact, delivery, incident, notice
from shared.database import any_of

PersonalChannels = Sequence[tuple[str, str]]
"""Pairs of holder id and channel."""


@dataclass(frozen=True)
class CalledOff:
    """A notice of which a waiting delivery was cancelled."""

    notice_id: str
    incident_id: str
    recipient: str
    posts: frozenset[str]


@dataclass(frozen=True)
class Owed:
    """A notice that did not get through, and a channel at which its recipient can be notified now."""

    notice_id: str
    incident_id: str
    contact: Contact


async def concerned(connection: AsyncConnection, units: Collection[UnitKey], gone: PersonalChannels) -> set[str]:
    """Return the ids of the incidents that a change of channels concerns.

    These are the open incidents of `units`, and all incidents with a delivery that waits on a channel in `gone`.
    """
    found: set[str] = set()
    if units:
        found.update(await connection.scalars(open_of(units)))
    if gone:
        left = select(notice.c.incident_id).join(delivery, delivery.c.notice_id == notice.c.notice_id)
        about = notice.c.incident_id.is_not(None)
        found.update(await connection.scalars(left.where(about, delivery.c.state.in_(WAITING), _is_among(gone))))
    return found


async def call_off(
    connection: AsyncConnection, incident_ids: Collection[str], gone: PersonalChannels, now: datetime
) -> list[CalledOff]:
    """Cancel the deliveries that wait on channels which these people no longer have."""
    if not gone:
        return []
    rows = await connection.execute(
        update(delivery)
        .where(delivery.c.notice_id == notice.c.notice_id, any_of(notice.c.incident_id, incident_ids), _is_among(gone))
        .where(delivery.c.state.in_(WAITING))
        .values(state=CANCELLED, finished_at=now)
        .returning(notice.c.notice_id, notice.c.incident_id, notice.c.recipient, notice.c.posts)
    )
    return [CalledOff(row.notice_id, row.incident_id, row.recipient, frozenset(row.posts)) for row in rows]


def _is_among(channels: PersonalChannels) -> ColumnElement[bool]:
    return and_(tuple_(notice.c.recipient, delivery.c.channel).in_(channels), notice.c.exercise.is_(False))


async def call_off_failed(connection: AsyncConnection, delivery_ids: Collection[str], now: datetime) -> set[str]:
    """Cancel those of these deliveries that failed on a channel which was taken from its person meanwhile.

    Returns their ids.
    """
    called_off = await connection.scalars(
        update(delivery)
        .where(any_of(delivery.c.delivery_id, delivery_ids), delivery.c.state == FAILED)
        .where(delivery.c.notice_id == notice.c.notice_id, lost_channel(delivery.c.channel))
        .values(state=CANCELLED, finished_at=now)
        .returning(delivery.c.delivery_id)
    )
    return set(called_off)


async def owed(
    connection: AsyncConnection, incident_ids: Collection[str], recorded_at: datetime, called_off: Collection[str]
) -> list[Owed]:
    """Return what people still have to get at the channels that were recorded at `recorded_at`.

    These are the notices of open incidents, and those that were `called_off`. Those of an earlier round are left out,
    unless their purpose is notified only once an incident.
    """
    ours = delivery.c.notice_id == notice.c.notice_id
    under_way = and_(delivery.c.channel == contact.c.channel, delivery.c.state.in_(UNFINISHED))
    has_it_already = select(literal(1)).where(ours, or_(delivery.c.state.in_(GOT_THROUGH), under_way))
    told_once = notice.c.purpose.not_in(sorted(ASKING | EACH_ROUND))
    of_contact = (contact.c[name] for name in ("channel", "quiet_from", "quiet_to"))
    rows = await connection.execute(
        select(notice.c.notice_id, notice.c.incident_id, *of_contact)
        .join_from(notice, incident, incident.c.incident_id == notice.c.incident_id)
        .join(contact, contact.c.holder_id == notice.c.recipient)
        .where(any_of(notice.c.incident_id, incident_ids), notice.c.exercise.is_(False))
        .where(notice.c.acknowledged_at.is_(None), notice.c.withdrawn_at.is_(None))
        .where(or_(incident.c.state.not_in(sorted(FINAL)), any_of(notice.c.notice_id, called_off)))
        .where(or_(notice.c.round == incident.c.round, told_once))
        .where(contact.c.recorded_at == recorded_at, contact.c.superseded_at.is_(None), ~has_it_already.exists())
        .order_by(notice.c.notice_id, contact.c.channel)
    )
    return [Owed(row.notice_id, row.incident_id, contact_of(row)) for row in rows]


async def queue(connection: AsyncConnection, new: Iterable[tuple[Owed, datetime]], now: datetime) -> None:
    """Queue deliveries, each with the time from which its channel may be used."""
    rows = [queued(owed.notice_id, owed.contact.channel, at, now) for owed, at in new]
    await connection.execute(insert(delivery), rows)

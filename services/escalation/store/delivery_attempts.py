"""Queries on attempts to deliver: the lease of a delivery, what is sent, and how the attempt ended."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Date,
    DateTime,
    Integer,
    LargeBinary,
    Row,
    Text,
    and_,
    bindparam,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy import case as sql_case
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.notices.delivery_state import (
    CANCELLED,
    FAILED,
    GOT_THROUGH,
    SENDING,
    UNFINISHED,
)
from services.escalation.domain.notices.message import LEASE, Attempt, DueDelivery, Message
from services.escalation.domain.notices.notification import ASKING
from services.escalation.domain.notices.wording import Listed
from services.escalation.store.deliveries import OF_DELIVERY, written
from services.escalation.store.tables import contact, decision, delivery, incident, message, notice, roster, unit
from shared.database import any_of, given, given_rows

SAYING_IT_APPLIES = ASKING | {"reminder"}
"""Purposes of notices that say that the rule applies."""
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
_SAID = (
    select(*(notice.c[name] for name in OF_NOTICE), notice.c.event_id)
    .join(incident, incident.c.incident_id == notice.c.incident_id, isouter=True)
    .add_columns(
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
    .subquery("said")
)
"""Notices, each with what its text needs to know of its incident, if it has one."""


_LEASED = given_rows(id=Text(), bundle=Text())
_LEASE = (
    update(delivery)
    .where(delivery.c.delivery_id == _LEASED.c.id, _SAID.c.notice_id == delivery.c.notice_id)
    .values(state=SENDING, attempts=delivery.c.attempts + 1, bundle_id=_LEASED.c.bundle)
    .values(
        next_at=bindparam("until", type_=DateTime(timezone=True)),
        set_at=bindparam("now", type_=DateTime(timezone=True)),
    )
    .returning(*(delivery.c[name] for name in OF_DELIVERY), *_SAID.c)
)


async def lease(
    connection: AsyncConnection, messages: Sequence[Sequence[str]], bundles: Mapping[str, str | None], now: datetime
) -> list[Message]:
    """Lease these deliveries until `now` + LEASE, and count an attempt for each. Returns their messages.

    `messages`: the delivery ids of each message. `bundles`: bundle id by delivery id.
    """
    place = {delivery_id: number for number, message in enumerate(messages) for delivery_id in message}
    if not place:
        return []
    rows = given(id=list(place), bundle=[bundles[delivery_id] for delivery_id in place])
    leased = (await connection.execute(_LEASE, rows | {"now": now, "until": now + LEASE})).all()
    told = await _as_told(connection, [row.notice_id for row in leased if row.purpose == "stand_down"])
    persons = await _persons(connection, [row.delivery_id for row in leased if row.recipient in OFFICES])
    parts: list[list[DueDelivery]] = [[] for _ in messages]
    for row in leased:
        parts[place[row.delivery_id]].append(_delivery(row, told, persons))
    return [Message(tuple(sorted(part, key=lambda d: d.delivery_id))) for part in parts]


async def _as_told(connection: AsyncConnection, notice_ids: Sequence[str]) -> dict[str, tuple[str, datetime]]:
    """Return the place and the time that these notices name. A correction may have moved the incident since."""
    if not notice_ids:
        return {}
    said = sql_cast(func.convert_from(decision.c.record, "UTF8"), JSONB)
    its_day = sql_cast(said["unit"]["valid_from"].astext, Date)
    rows = await connection.execute(
        select(notice.c.notice_id, unit.c.kind, unit.c.name, said["time_of_occurrence"].astext.label("at"))
        .join(decision, decision.c.decision_id == notice.c.decision_id)
        .join(unit, and_(unit.c.code == said["unit"]["code"].astext, unit.c.valid_from == its_day))
        .where(any_of(notice.c.notice_id, notice_ids), unit.c.superseded_at.is_(None))
    )
    return {row.notice_id: (f"{row.kind} {row.name}", datetime.fromisoformat(row.at)) for row in rows}


async def _persons(connection: AsyncConnection, delivery_ids: Sequence[str]) -> dict[str, str]:
    """Return whose channels these deliveries to offices go to, where that was one person on duty at the time of issue.

    The office's own channel, and one that several of them share, are nobody's.
    """
    if not delivery_ids:
        return {}
    on_duty = and_(roster.c.level == notice.c.recipient, roster.c.superseded_at.is_(None))
    then = and_(roster.c.valid_from <= notice.c.issued_at, roster.c.valid_to > notice.c.issued_at)
    theirs = and_(contact.c.holder_id == roster.c.holder_id, contact.c.channel == delivery.c.channel)
    rows = await connection.execute(
        select(delivery.c.delivery_id, func.min(roster.c.holder_id).label("person"))
        .join(notice, notice.c.notice_id == delivery.c.notice_id)
        .join(roster, and_(on_duty, then))
        .join(contact, theirs)
        .where(any_of(delivery.c.delivery_id, delivery_ids), notice.c.exercise.is_(False))
        .group_by(delivery.c.delivery_id)
        .having(func.count(roster.c.holder_id.distinct()) == 1)
    )
    return {row.delivery_id: row.person for row in rows}


def _delivery(row: Row[Any], told: Mapping[str, tuple[str, datetime]], persons: Mapping[str, str]) -> DueDelivery:
    fields = {name: getattr(row, name) for name in (*OF_DELIVERY, *OF_NOTICE)}
    listed = _listed(row, told) if row.incident_id else None
    person = persons.get(row.delivery_id)
    return DueDelivery(**fields, listed=listed, notice_event=row.event_id, person=person)


def _listed(row: Row[Any], told: Mapping[str, tuple[str, datetime]]) -> Listed:
    place, occurred_at = told.get(row.notice_id, (f"{row.unit_kind} {row.unit_name}", row.occurred_at))
    return Listed(
        notice_id=row.notice_id,
        incident_id=row.incident_id,
        purpose=row.purpose,
        category=row.category,
        limb=row.limb,
        place=place,
        occurred_at=occurred_at,
        severity=row.severity,
        provisional=row.standing == "provisional",
        exercise=row.exercise,
        applies=row.outcome == "applies" and row.purpose in SAYING_IT_APPLIES,
        version=row.rulebook_version,
        due_at=row.due_at,
    )


_KEPT = given_rows(id=Text(), content=LargeBinary())
_KEEP = (
    insert(message)
    .from_select(["message_id", "content"], select(_KEPT.c.id, _KEPT.c.content))
    .on_conflict_do_update(index_elements=[message.c.message_id], set_={"content": message.c.content})
    .returning(*message.c)
)


async def keep(connection: AsyncConnection, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Store what is sent under each id. Returns what is stored, which is what was first stored under the id."""
    if not contents:
        return {}
    rows = await connection.execute(_KEEP, given(id=list(contents), content=list(contents.values())))
    return {row.message_id: row.content for row in rows}


async def forget(connection: AsyncConnection) -> None:
    """Delete what is kept of messages that are not sent again."""
    again = select(literal(1)).where(delivery.c.state.in_(written(UNFINISHED)))
    await connection.execute(
        delete(message)
        .where(~again.where(delivery.c.delivery_id == message.c.message_id).exists())
        .where(~again.where(delivery.c.bundle_id == message.c.message_id).exists())
    )


_ATTEMPTS = given_rows(
    id=Text(),
    attempts=Integer(),
    outcome=Text(),
    error=Text(),
    ended_at=DateTime(timezone=True),
    next_at=DateTime(timezone=True),
)
_FAILED = _ATTEMPTS.c.outcome == FAILED
_OVER = and_(_FAILED, notice.c.acknowledged_at.is_not(None))
_END_ATTEMPTS = (
    update(delivery)
    .where(
        delivery.c.delivery_id == _ATTEMPTS.c.id,
        delivery.c.state == SENDING,
        delivery.c.attempts == _ATTEMPTS.c.attempts,
        notice.c.notice_id == delivery.c.notice_id,
    )
    .values(
        state=sql_case((_OVER, CANCELLED), else_=_ATTEMPTS.c.outcome),
        finished_at=sql_case((or_(not_(_FAILED), _OVER), _ATTEMPTS.c.ended_at)),
        next_at=_ATTEMPTS.c.next_at,
        set_at=_ATTEMPTS.c.ended_at,
        error=_ATTEMPTS.c.error,
    )
    .returning(delivery.c.delivery_id, _FAILED.label("failed"))
)


async def end_attempts(connection: AsyncConnection, attempts: Sequence[Attempt]) -> set[str]:
    """Store how the attempts ended. Returns the ids of deliveries that were sent or given up by them.

    A failed delivery is due again after its wait. It is cancelled if its notice was acknowledged during the attempt. A
    delivery that another worker has leased since is not touched.
    """
    ended = [(due, attempt) for attempt in attempts for due in attempt.message.deliveries]
    rows = await connection.execute(
        _END_ATTEMPTS,
        given(
            id=[due.delivery_id for due, _ in ended],
            attempts=[due.attempts for due, _ in ended],
            outcome=[attempt.outcome for _, attempt in ended],
            error=[attempt.error for _, attempt in ended],
            ended_at=[attempt.at for _, attempt in ended],
            next_at=[attempt.at + attempt.wait for _, attempt in ended],
        ),
    )
    return {row.delivery_id for row in rows if not row.failed}


async def not_lost(connection: AsyncConnection, notice_ids: Collection[str]) -> set[str]:
    """Return those of the notices that were acknowledged, that some channel took, or that one may still take."""
    through = select(notice.c.notice_id).where(
        notice.c.notice_id.in_(notice_ids), notice.c.acknowledged_at.is_not(None)
    )
    arrives = delivery.c.state.in_(sorted({*GOT_THROUGH, *UNFINISHED}))
    taken = select(delivery.c.notice_id).where(delivery.c.notice_id.in_(notice_ids), arrives)
    return set(await connection.scalars(through.union(taken)))

"""Queries on deliveries: those that are due, their leases, and how their attempts ended."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    Integer,
    LargeBinary,
    Row,
    Text,
    and_,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy import case as sql_case
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from services.escalation.domain.notices.delivery_state import (
    CANCELLED,
    FAILED,
    GOT_THROUGH,
    QUEUED,
    SENDING,
    UNFINISHED,
)
from services.escalation.domain.notices.message import LEASE, Attempt, DueDelivery, Message
from services.escalation.domain.notices.notification import ASKING
from services.escalation.domain.notices.wording import Listed
from services.escalation.store.stale_notices import is_stale
from services.escalation.store.tables import decision, delivery, incident, message, notice, pace, unit
from shared.database import any_of, rows_of
from shared.ids import uuid7

SAYING_IT_APPLIES = ASKING | {"reminder"}
"""Purposes of notices that say that the rule applies."""
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
    due = (
        select(delivery)
        .where(delivery.c.state.in_(UNFINISHED), delivery.c.next_at <= now)
        .where(not_(any_of(delivery.c.delivery_id, under_way)))
        .order_by(delivery.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .subquery()
    )
    rows = await connection.execute(
        select(
            due.c.delivery_id,
            due.c.channel,
            due.c.attempts,
            due.c.bundle_id,
            notice.c.exercise,
            notice.c.incident_id.is_not(None),
            incident.c.severity,
            is_stale(due.c.channel, due.c.attempts > 0, now).label("stale"),
        )
        .join(notice, notice.c.notice_id == due.c.notice_id)
        .join(incident, incident.c.incident_id == notice.c.incident_id, isouter=True)
        .order_by(notice.c.incident_id.is_(None), due.c.next_at, incident.c.incident_id, due.c.delivery_id)
    )
    return [DueRow(*row) for row in rows]


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
    await _set_times(connection, delivery.c.next_at, times, now)


async def charge(connection: AsyncConnection, times: Mapping[str, datetime], now: datetime) -> None:
    """Set the instant up to which the traffic of each key is accounted for."""
    await _set_times(connection, pace.c.allowed_at, times, now)


async def _set_times(
    connection: AsyncConnection, column: Column[Any], times: Mapping[str, datetime], now: datetime
) -> None:
    if times:
        table = column.table
        (key,) = table.primary_key
        new = _pairs(times, DateTime(timezone=True))
        await connection.execute(
            update(table).where(key == new.c.id).values({column: new.c.value, table.c.set_at: now})
        )


def _pairs(values: Mapping[str, Any], kind: TypeEngine[Any]) -> FromClause:
    """Return a table of (id, value)."""
    return rows_of(id=(Text(), list(values)), value=(kind, list(values.values())))


async def lease(
    connection: AsyncConnection, messages: Sequence[Sequence[str]], bundles: Mapping[str, str | None], now: datetime
) -> list[Message]:
    """Lease these deliveries until `now` + LEASE, and count an attempt for each. Returns their messages.

    `messages`: the delivery ids of each message. `bundles`: bundle id by delivery id.
    """
    place = {delivery_id: number for number, message in enumerate(messages) for delivery_id in message}
    if not place:
        return []
    new = _pairs({delivery_id: bundles[delivery_id] for delivery_id in place}, Text())
    rows = await connection.execute(
        update(delivery)
        .where(delivery.c.delivery_id == new.c.id, _SAID.c.notice_id == delivery.c.notice_id)
        .values(state=SENDING, attempts=delivery.c.attempts + 1, next_at=now + LEASE, set_at=now)
        .values(bundle_id=new.c.value)
        .returning(*(delivery.c[name] for name in OF_DELIVERY), *_SAID.c)
    )
    leased = rows.all()
    told = await _as_told(connection, [row.notice_id for row in leased if row.purpose == "stand_down"])
    parts: list[list[DueDelivery]] = [[] for _ in messages]
    for row in leased:
        parts[place[row.delivery_id]].append(_delivery(row, told))
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


def _delivery(row: Row[Any], told: Mapping[str, tuple[str, datetime]]) -> DueDelivery:
    fields = {name: getattr(row, name) for name in (*OF_DELIVERY, *OF_NOTICE)}
    listed = _listed(row, told) if row.incident_id else None
    return DueDelivery(**fields, listed=listed, notice_event=row.event_id)


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


async def keep(connection: AsyncConnection, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Store what is sent under each id. Returns what is stored, which is what was first stored under the id."""
    if not contents:
        return {}
    new = _pairs(contents, LargeBinary())
    adding = insert(message).from_select(["message_id", "content"], select(new.c.id, new.c.value))
    same = {"content": message.c.content}
    rows = await connection.execute(
        adding.on_conflict_do_update(index_elements=[message.c.message_id], set_=same).returning(*message.c)
    )
    return {row.message_id: row.content for row in rows}


async def forget(connection: AsyncConnection) -> None:
    """Delete what is kept of messages that are not sent again."""
    again = select(literal(1)).where(delivery.c.state.in_(written(UNFINISHED)))
    await connection.execute(
        delete(message)
        .where(~again.where(delivery.c.delivery_id == message.c.message_id).exists())
        .where(~again.where(delivery.c.bundle_id == message.c.message_id).exists())
    )


def written(states: Iterable[str]) -> list[ColumnElement[str]]:
    """Return the states as literals of the statement.

    PostgreSQL uses a partial index only for a condition that it can read.
    """
    return [literal(state, literal_execute=True) for state in states]


async def end_attempts(connection: AsyncConnection, attempts: Sequence[Attempt]) -> set[str]:
    """Store how the attempts ended. Returns the ids of deliveries that were sent or given up by them.

    A failed delivery is due again after its wait. It is cancelled if its notice was acknowledged during the attempt. A
    delivery that another worker has leased since is not touched.
    """
    ended = [(due, attempt) for attempt in attempts for due in attempt.message.deliveries]
    new = rows_of(
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
            set_at=new.c.ended_at,
            error=new.c.error,
        )
        .returning(delivery.c.delivery_id, failed.label("failed"))
    )
    return {row.delivery_id for row in rows if not row.failed}


async def got_through(connection: AsyncConnection, notice_ids: Collection[str]) -> set[str]:
    """Return those of the notices that were acknowledged, or that some channel took."""
    through = select(notice.c.notice_id).where(
        notice.c.notice_id.in_(notice_ids), notice.c.acknowledged_at.is_not(None)
    )
    taken = select(delivery.c.notice_id).where(delivery.c.notice_id.in_(notice_ids), delivery.c.state.in_(GOT_THROUGH))
    return set(await connection.scalars(through.union(taken)))

"""Queries on tests of the contacts' channels, and on their notices."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, func, insert, literal, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.notices.channel_test import CHANNEL_TEST, Person
from services.escalation.domain.notices.delivery_state import CANCELLED, QUEUED, UNFINISHED, WAITING
from services.escalation.store.deliveries import queued
from services.escalation.store.tables import channel_test, delivery, notice

LOCK = 0x7474


@dataclass(frozen=True)
class NewTest:
    """A test that this transaction starts. `ward`: of one ward only, as JSON. `event_id`: what records it."""

    test_id: str
    event_id: str
    ward: dict[str, Any] | None
    people: Sequence[Person]
    started_at: datetime
    started_by: str
    confirm_by: datetime


@dataclass(frozen=True)
class NewMessage:
    """A message to one channel of one person. `event_id`: what records the notice. `at`: from when it may go."""

    notice_id: str
    event_id: str
    recipient: str
    posts: tuple[str, ...]
    title: str
    body: str
    channel: str
    at: datetime


@dataclass(frozen=True)
class SentMessage:
    """A message that is not confirmed. `event_id`: what recorded it."""

    recipient: str
    test_id: str
    event_id: str
    channel: str


@dataclass(frozen=True)
class UnderWay:
    """What is still to be sent of a test. `quiet`: how many messages wait for the end of quiet hours, until `until`."""

    test_id: str
    started_at: datetime
    messages: int
    quiet: int
    until: datetime | None


async def lock(connection: AsyncConnection) -> None:
    """Let only one transaction start a test at a time."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


async def under_way(connection: AsyncConnection, now: datetime) -> UnderWay | None:
    """Return the test of which a message is still to be sent, or None."""
    is_quiet = and_(delivery.c.state == QUEUED, delivery.c.set_at.is_(None), delivery.c.next_at > now)
    rows = await connection.execute(
        select(
            channel_test.c.test_id,
            channel_test.c.started_at,
            func.count(),
            func.count().filter(is_quiet),
            func.max(delivery.c.next_at).filter(is_quiet),
        )
        .join_from(channel_test, notice, notice.c.test_id == channel_test.c.test_id)
        .join(delivery, delivery.c.notice_id == notice.c.notice_id)
        .where(delivery.c.state.in_(UNFINISHED), channel_test.c.confirm_by > now)
        .group_by(channel_test.c.test_id)
        .limit(1)
    )
    row = rows.one_or_none()
    return UnderWay(*row) if row else None


async def add(connection: AsyncConnection, test: NewTest, messages: Sequence[NewMessage]) -> None:
    people = [person.model_dump(mode="json") for person in test.people]
    await connection.execute(insert(channel_test).values(**vars(test) | {"people": people}))
    common = {
        "purpose": CHANNEL_TEST,
        "exercise": False,
        "issued_at": test.started_at,
        "due_at": test.confirm_by,
        "test_id": test.test_id,
    }
    said = ("notice_id", "event_id", "recipient", "title", "body")
    notices = [common | {n: getattr(m, n) for n in said} | {"posts": list(m.posts)} for m in messages]
    if not messages:
        return
    await connection.execute(insert(notice), notices)
    rows = [queued(m.notice_id, m.channel, m.at, test.started_at) for m in messages]
    await connection.execute(insert(delivery), rows)


async def tests(connection: AsyncConnection, after: tuple[datetime, str] | None, limit: int) -> Sequence[Row[Any]]:
    """Return a page of tests, the newest first. `after`: (started_at, id) of the last row of the page before."""
    query = select(channel_test)
    if after is not None:
        query = query.where(tuple_(channel_test.c.started_at, channel_test.c.test_id) < tuple_(*after))
    newest_first = (channel_test.c.started_at.desc(), channel_test.c.test_id.desc())
    return (await connection.execute(query.order_by(*newest_first).limit(limit))).all()


async def one(connection: AsyncConnection, test_id: str | None) -> Row[Any] | None:
    """Return a test, or None. `test_id`: None for the latest."""
    if test_id is None:
        return next(iter(await tests(connection, None, 1)), None)
    query = select(channel_test).where(channel_test.c.test_id == test_id)
    return (await connection.execute(query)).one_or_none()


async def messages(connection: AsyncConnection, test_id: str) -> Sequence[Row[Any]]:
    """Return the messages of a test, each with its recipient and what became of it."""
    names = ("channel", "state", "next_at", "set_at", "finished_at", "error")
    rows = await connection.execute(
        select(notice.c.recipient, notice.c.acknowledged_at, *(delivery.c[name] for name in names))
        .join_from(notice, delivery, delivery.c.notice_id == notice.c.notice_id)
        .where(notice.c.test_id == test_id)
        .order_by(notice.c.recipient, delivery.c.channel)
    )
    return rows.all()


async def lock_message(connection: AsyncConnection, notice_id: str) -> SentMessage | None:
    """Lock a message that is not confirmed, and return it. None if there is none."""
    rows = await connection.execute(
        select(notice.c.recipient, notice.c.test_id, notice.c.event_id, delivery.c.channel)
        .join_from(notice, delivery, delivery.c.notice_id == notice.c.notice_id)
        .where(notice.c.notice_id == notice_id, notice.c.purpose == CHANNEL_TEST, notice.c.acknowledged_at.is_(None))
        .with_for_update(of=notice)
    )
    row = rows.one_or_none()
    return SentMessage(*row) if row else None


async def confirm(connection: AsyncConnection, notice_id: str, by: str, now: datetime) -> None:
    """Store that the recipient has it. It is not sent again."""
    confirmed = update(notice).where(notice.c.notice_id == notice_id)
    await connection.execute(confirmed.values(acknowledged_at=now, acknowledged_by=by))
    again = update(delivery).where(delivery.c.notice_id == notice_id, delivery.c.state.in_(WAITING))
    await connection.execute(again.values(state=CANCELLED, finished_at=now))


async def confirmed_since(connection: AsyncConnection, since: datetime) -> set[str]:
    """Return the holder ids of those who have confirmed a test at one of their channels since then."""
    query = select(notice.c.recipient).where(notice.c.test_id.is_not(None), notice.c.acknowledged_at >= since)
    return set(await connection.scalars(query.distinct()))


async def was_tested(connection: AsyncConnection) -> bool:
    """Return whether there ever was a test."""
    return bool(await connection.scalar(select(select(literal(1)).select_from(channel_test).exists())))

"""What the service forgot to do: one query on the database answers it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices.delivery_state import GIVEN_UP, GOT_THROUGH, QUEUED, UNFINISHED
from services.escalation.domain.notices.message import LEASE
from services.escalation.store.deliveries import written
from services.escalation.store.tables import deadline, delivery, incident, notice

DEADLINES_LATE = timedelta(seconds=30)
DELIVERIES_LATE = LEASE
"""After this time its worker would have sent the delivery, put it off or given it up."""
STANDSTILL_LATE = timedelta(seconds=10)
"""In place of these two, where nothing is being done about any of them."""
POSTPONED_LATE = timedelta(minutes=5)
"""The turn of a contact and of a server comes sooner, unless there is far more to send than either takes."""
GIVEN_UP_WITHIN = timedelta(days=1)


@dataclass(frozen=True)
class Forgotten:
    """How many there are, and since when the oldest of them."""

    count: int
    oldest: datetime | None

    def age(self, now: datetime) -> timedelta:
        return max(now - self.oldest, timedelta(0)) if self.oldest else timedelta(0)


@dataclass(frozen=True)
class Watch:
    """What was forgotten. All counts are 0 while all is well."""

    unwatched: Forgotten
    """Open incidents that wait for nobody: nobody would ever be asked again. `oldest`: when it was opened."""
    deadlines: Forgotten
    """Timers that are due and have not fired."""
    deliveries: Forgotten
    """Deliveries that are overdue, or under way for too long."""
    postponed: Forgotten
    """Deliveries that were never tried, and were put off again and again. `oldest`: from when it might have gone."""
    offices: Forgotten
    """Notices to the desk or the leadership, of open incidents or of reports after an end, that no channel took and
    that were given up in the last day. Nobody else is sure to learn of them. `oldest`: when it was given up."""

    @property
    def kinds(self) -> dict[str, Forgotten]:
        return {
            "unwatched": self.unwatched,
            "deadlines": self.deadlines,
            "deliveries": self.deliveries,
            "postponed": self.postponed,
            "offices": self.offices,
        }


async def look(connection: AsyncConnection, now: datetime, standstill: Collection[str] = ()) -> Watch:
    """Return what was forgotten. `standstill`: "deadlines", "deliveries", if nothing is being done about any."""
    deadlines = now - (STANDSTILL_LATE if "deadlines" in standstill else DEADLINES_LATE)
    deliveries = now - (STANDSTILL_LATE if "deliveries" in standstill else DELIVERIES_LATE)
    row = (await connection.execute(_query(now, deadlines, deliveries))).one()
    return Watch(
        unwatched=Forgotten(row.unwatched, row.unwatched_oldest),
        deadlines=Forgotten(row.deadlines, row.deadlines_oldest),
        deliveries=Forgotten(row.deliveries, row.deliveries_oldest),
        postponed=Forgotten(row.postponed, row.postponed_oldest),
        offices=Forgotten(row.offices, row.offices_oldest),
    )


def _query(now: datetime, deadlines_before: datetime, deliveries_before: datetime) -> Select[Any, *tuple[Any, ...]]:
    waits = select(deadline.c.deadline_id).where(
        deadline.c.incident_id == incident.c.incident_id, _PENDING, func.cardinality(deadline.c.who) > 0
    )
    unwatched = (
        select(func.count().label("n"), func.min(incident.c.opened_at).label("oldest"))
        .where(_OPEN, ~waits.exists())
        .subquery()
    )
    deadlines = (
        select(func.count().label("n"), func.min(deadline.c.due_at).label("oldest"))
        .where(_PENDING, deadline.c.due_at < deadlines_before)
        .subquery()
    )
    deliveries = (
        select(func.count().label("n"), func.min(delivery.c.next_at).label("oldest"))
        .where(_UNDER_WAY, _IS_NO_TEST, delivery.c.next_at < deliveries_before)
        .subquery()
    )
    postponed = (
        select(func.count().label("n"), func.min(delivery.c.ready_at).label("oldest"))
        .where(_QUEUED, _IS_NO_TEST, delivery.c.ready_at < now - POSTPONED_LATE)
        .subquery()
    )
    other = delivery.alias()
    through = select(other.c.delivery_id).where(other.c.notice_id == notice.c.notice_id, other.c.state.in_(GOT_THROUGH))
    offices = (
        select(func.count(notice.c.notice_id.distinct()).label("n"), func.min(delivery.c.finished_at).label("oldest"))
        .join_from(delivery, notice, notice.c.notice_id == delivery.c.notice_id)
        .join(incident, incident.c.incident_id == notice.c.incident_id)
        .where(_GIVEN_UP, delivery.c.finished_at > now - GIVEN_UP_WITHIN)
        .where(notice.c.recipient.in_(sorted(OFFICES)), notice.c.acknowledged_at.is_(None), ~through.exists())
        .where(or_(_OPEN, notice.c.purpose == "late_reports"))
        .subquery()
    )
    return select(
        unwatched.c.n.label("unwatched"),
        unwatched.c.oldest.label("unwatched_oldest"),
        deadlines.c.n.label("deadlines"),
        deadlines.c.oldest.label("deadlines_oldest"),
        deliveries.c.n.label("deliveries"),
        deliveries.c.oldest.label("deliveries_oldest"),
        postponed.c.n.label("postponed"),
        postponed.c.oldest.label("postponed_oldest"),
        offices.c.n.label("offices"),
        offices.c.oldest.label("offices_oldest"),
    ).select_from(
        unwatched.join(deadlines, true()).join(deliveries, true()).join(postponed, true()).join(offices, true())
    )


_OPEN = incident.c.state.not_in(written(sorted(FINAL)))
_PENDING = deadline.c.state.in_(written(["pending"]))
_GIVEN_UP = delivery.c.state.in_(written([GIVEN_UP]))
_UNDER_WAY = delivery.c.state.in_(written(UNFINISHED))
_QUEUED = delivery.c.state.in_(written([QUEUED]))
_IS_NO_TEST = (
    ~select(notice.c.notice_id)
    .where(notice.c.notice_id == delivery.c.notice_id, notice.c.test_id.is_not(None))
    .exists()
)
"""A test of channels shows itself what became of it."""

"""Queries for the routes: lists of incidents, one incident with all its parts, decisions."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, and_, any_, cast, false, func, literal, not_, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, JSONPATH
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import OFFICES, UnitKey
from services.escalation.domain.directory.places import Place, Sight
from services.escalation.domain.notices.incident_number import day_of, ids_of_day, number_of
from services.escalation.store.tables import deadline, decision, delivery, finding, incident, link, notice, report


def of_place(place: Place) -> ColumnElement[bool]:
    """Condition on incidents: of these units, or of a unit that ended and whose place one of these took."""
    own, acting = incident.c.unit_code == place.code, incident.c.successor["code"].astext == place.code
    if place.days is not None:
        own &= incident.c.unit_valid_from.in_(sorted(place.days))
        acting &= incident.c.successor["valid_from"].astext.in_(sorted(map(str, place.days)))
    return or_(own, acting)


@dataclass(frozen=True)
class Asked:
    """Which incidents are asked for. None, and no `states`, do not filter."""

    place: Place | None = None
    sight: Sight | None = None
    """What the caller may see."""
    ids: Collection[str] | None = None
    """Only these. An empty one finds nothing."""
    states: Collection[str] = ()
    category: str | None = None
    severity: int | None = None
    occurred_from: datetime | None = None
    occurred_to: datetime | None = None
    waits_for: str | None = None
    """A holder id or an office that the incident waits for."""
    waits_for_ward: bool = False
    """Whether only those that wait for somebody of their ward, whoever it is."""
    exercise: bool | None = None
    vacancy: bool | None = None
    """Whether nobody acts for a post, of an incident to which the rule may apply."""
    divided: bool | None = None
    """Whether its unit was divided, and nobody has said whose it is."""
    chain_ended: bool | None = None
    """Whether the last level of the chain did not act either, in the present round."""


async def newest(
    connection: AsyncConnection, asked: Asked, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Row[Any]]:
    """Return a page of incidents, the newest first. `after`: (opened_at, id) of the last row of the page before."""
    query = select(incident).where(*_conditions(asked))
    if after is not None:
        query = query.where(tuple_(incident.c.opened_at, incident.c.incident_id) < tuple_(*after))
    newest_first = (incident.c.opened_at.desc(), incident.c.incident_id.desc())
    return (await connection.execute(query.order_by(*newest_first).limit(limit))).all()


async def soonest_due(
    connection: AsyncConnection, asked: Asked, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Row[Any]]:
    """Return a page of open incidents, each with `due_at`, the soonest first: by when somebody has to act.

    Where `asked` says whom they wait for, by when these have to.
    `after`: (due_at, id) of the last row of the page before.
    """
    due = (
        select(deadline.c.incident_id, func.min(deadline.c.due_at).label("due_at"))
        .where(deadline.c.state == "pending", _is_waited_for(asked))
        .group_by(deadline.c.incident_id)
        .subquery()
    )
    query = select(incident, due.c.due_at).join(due, due.c.incident_id == incident.c.incident_id)
    query = query.where(*_conditions(asked))
    if after is not None:
        query = query.where(tuple_(due.c.due_at, incident.c.incident_id) > tuple_(*after))
    return (await connection.execute(query.order_by(due.c.due_at, incident.c.incident_id).limit(limit))).all()


async def with_number(connection: AsyncConnection, number: str, today: date) -> set[str]:
    """Return the ids of the incidents that have this number: seldom more than one."""
    lowest, following = ids_of_day(day_of(number, today))
    of_day = select(incident.c.incident_id).where(incident.c.incident_id >= lowest, incident.c.incident_id < following)
    return {found for found in await connection.scalars(of_day) if number_of(found) == number}


async def count(connection: AsyncConnection, asked: Asked) -> int:
    """Return how many incidents are asked for."""
    found = await connection.scalar(select(func.count()).select_from(incident).where(*_conditions(asked)))
    return int(found or 0)


def _conditions(asked: Asked) -> Iterator[ColumnElement[bool]]:
    yield from _of_the_row(asked)
    if asked.waits_for is not None or asked.waits_for_ward:
        theirs = select(literal(1)).where(deadline.c.incident_id == incident.c.incident_id)
        yield theirs.where(deadline.c.state == "pending", _is_waited_for(asked)).exists()
    if asked.vacancy is not None:
        yield _is_vacant() if asked.vacancy else not_(_is_vacant())
    if asked.divided is not None:
        yield _is_divided() if asked.divided else not_(_is_divided())
    if asked.chain_ended is not None:
        said = select(literal(1)).where(notice.c.incident_id == incident.c.incident_id)
        ended = said.where(notice.c.purpose == "exhausted", notice.c.round == incident.c.round).exists()
        yield ended if asked.chain_ended else not_(ended)


def _of_the_row(asked: Asked) -> Iterator[ColumnElement[bool]]:
    if asked.place is not None:
        yield of_place(asked.place)
    if asked.sight is not None:
        yield _in_sight(asked.sight)
    if asked.ids is not None:
        yield incident.c.incident_id.in_(sorted(asked.ids))
    if asked.states:
        yield incident.c.state.in_(sorted(asked.states))
    if asked.exercise is not None:
        yield incident.c.exercise.is_(asked.exercise)
    if asked.category is not None:
        yield incident.c.category == asked.category
    if asked.severity is not None:
        yield incident.c.severity == asked.severity
    if asked.occurred_from is not None:
        yield incident.c.occurred_at >= asked.occurred_from
    if asked.occurred_to is not None:
        yield incident.c.occurred_at < asked.occurred_to


def _in_sight(sight: Sight) -> ColumnElement[bool]:
    acting = tuple_(incident.c.successor["code"].astext, incident.c.successor["valid_from"].astext)
    shown = tuple_(incident.c.unit_code, incident.c.unit_valid_from).in_(sorted(sight.units))
    shown |= acting.in_([(code, str(day)) for code, day in sorted(sight.units)])
    if sight.told is None:
        return shown
    told = select(literal(1)).where(notice.c.incident_id == incident.c.incident_id, notice.c.recipient == sight.told)
    return or_(shown, told.exists())


def units_of(row: Row[Any]) -> frozenset[UnitKey]:
    """Return the units whose people may see the incident of this row: its own, and the one that took its place."""
    successor = row.successor
    own = {(str(row.unit_code), row.unit_valid_from)}
    return frozenset(own | ({(successor["code"], date.fromisoformat(successor["valid_from"]))} if successor else set()))


async def was_told(connection: AsyncConnection, incident_id: str, holder: str) -> bool:
    """Return whether a notice about the incident was sent to this person."""
    told = select(notice.c.notice_id).where(notice.c.incident_id == incident_id, notice.c.recipient == holder)
    return bool(await connection.scalar(select(told.exists())))


def _is_waited_for(asked: Asked) -> ColumnElement[bool]:
    """Condition on a timer: it waits for this person or office, for somebody of the ward, or for anybody."""
    if asked.waits_for is not None:
        return literal(asked.waits_for) == any_(deadline.c.who)
    if asked.waits_for_ward:
        return not_(deadline.c.who.contained_by(cast(sorted(OFFICES), ARRAY(Text))))
    return func.cardinality(deadline.c.who) > 0


def _standing() -> ColumnElement[Any]:
    """The record of the standing decision, as JSON."""
    decisions = select(decision.c.record).where(decision.c.incident_id == incident.c.incident_id)
    latest = decisions.order_by(decision.c.number.desc()).limit(1).scalar_subquery()
    return cast(func.convert_from(latest, "UTF8"), JSONB)


def _is_vacant() -> ColumnElement[bool]:
    nobody_acts = cast("$.parties[*] ? (!exists(@.present) && !exists(@.deputy))", JSONPATH)
    found = func.jsonb_path_exists(_standing(), nobody_acts)
    return and_(incident.c.outcome != "does_not_apply", not_(_is_divided()), found)


def _is_divided() -> ColumnElement[bool]:
    return func.coalesce(_standing()["divided"].as_boolean(), false())


async def one(connection: AsyncConnection, incident_id: str) -> dict[str, Any] | None:
    """Return an incident and all its parts by name, each part in its order. None if there is no such incident."""
    found = (await connection.execute(select(incident).where(incident.c.incident_id == incident_id))).one_or_none()
    if found is None:
        return None
    whole: dict[str, Any] = {"incident": found}
    for name, table, order in (
        ("reports", report, report.c.position),
        ("decisions", decision, decision.c.number),
        ("findings", finding, finding.c.position),
        ("notices", notice, notice.c.issued_at),
        ("deadlines", deadline, deadline.c.due_at),
    ):
        rows = await connection.execute(select(table).where(table.c.incident_id == incident_id).order_by(order))
        whole[name] = rows.all()
    deliveries = await connection.execute(
        select(delivery)
        .join(notice, notice.c.notice_id == delivery.c.notice_id)
        .where(notice.c.incident_id == incident_id)
        .order_by(delivery.c.next_at)
    )
    whole["deliveries"] = deliveries.all()
    links = await connection.execute(
        select(link).where(or_(link.c.incident_id == incident_id, link.c.other_id == incident_id))
    )
    whole["links"] = links.all()
    return whole


async def occurred_at(connection: AsyncConnection, incident_id: str) -> datetime | None:
    """Return when the incident occurred, None if there is no such incident."""
    return await connection.scalar(select(incident.c.occurred_at).where(incident.c.incident_id == incident_id))


async def decision_by_id(connection: AsyncConnection, decision_id: str) -> Row[Any] | None:
    query = (
        select(decision, incident.c.unit_code, incident.c.unit_valid_from, incident.c.successor)
        .join(incident, incident.c.incident_id == decision.c.incident_id)
        .where(decision.c.decision_id == decision_id)
    )
    return (await connection.execute(query)).one_or_none()

"""Queries on where people are posted: by a tenure, a turn of duty, a posting, or the unit that a token names."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import Posting, UnitKey
from services.escalation.store.tables import posting, roster, tenure, unit
from shared.clock import local
from shared.database import any_of
from shared.http.identity import ward_of_token


async def units_held(connection: AsyncConnection, holder: str, now: datetime) -> frozenset[UnitKey]:
    """Return the units where this person has a post, for its holder too, or a turn of duty at `now`."""
    found: set[UnitKey] = set()
    for table in (tenure, roster):
        ends = table.c.valid_to
        query = (
            select(unit.c.code, unit.c.valid_from)
            .join_from(
                unit, table, and_(unit.c.code == table.c.unit_code, unit.c.valid_from == table.c.unit_valid_from)
            )
            .where(_is_in_force(now), table.c.superseded_at.is_(None), table.c.holder_id == holder)
            .where(table.c.valid_from <= now, or_(ends.is_(None), ends > now))
        )
        found |= {(row.code, row.valid_from) for row in await connection.execute(query)}
    return frozenset(found)


async def unit_named(connection: AsyncConnection, ward: str, at: datetime) -> UnitKey | None:
    """Return the unit that a token's `CODE@VALID_FROM` means; of a code alone, the unit in force `at` that time."""
    code, day = ward_of_token(ward)
    if day is not None:
        return (code, day)
    rows = await connection.execute(select(unit.c.valid_from).where(unit.c.code == code, _is_in_force(at)))
    return next(((code, row.valid_from) for row in rows), None)


async def is_in_force(connection: AsyncConnection, key: UnitKey, at: datetime) -> bool:
    which = select(unit.c.code).where(tuple_(unit.c.code, unit.c.valid_from) == key, _is_in_force(at))
    return bool(await connection.scalar(select(which.exists())))


async def units_posted(connection: AsyncConnection, subject: str, now: datetime) -> frozenset[UnitKey] | None:
    """Return the units where this officer is posted at `now`. None if no posting of theirs is recorded at all."""
    found = await of_subjects(connection, [subject])
    if not found:
        return None
    posted = {p.unit_key for p in found if p.valid_from <= now and (p.valid_to is None or now < p.valid_to)}
    in_force = select(unit.c.code, unit.c.valid_from).where(_is_in_force(now))
    rows = await connection.execute(in_force.where(tuple_(unit.c.code, unit.c.valid_from).in_(sorted(posted))))
    return frozenset((row.code, row.valid_from) for row in rows)


async def of_subjects(connection: AsyncConnection, subjects: Collection[str]) -> list[Posting]:
    """Return the postings of these, as recorded now."""
    query = select(posting).where(posting.c.superseded_at.is_(None), any_of(posting.c.subject, subjects))
    return [_posting(row) for row in await connection.execute(query)]


async def known(connection: AsyncConnection, known_at: datetime, as_of: datetime) -> list[Posting]:
    """Return the postings in force at `as_of`, as recorded at `known_at`."""
    ends, gone = posting.c.valid_to, posting.c.superseded_at
    query = select(posting).where(posting.c.recorded_at <= known_at, or_(gone.is_(None), gone > known_at))
    query = query.where(posting.c.valid_from <= as_of, or_(ends.is_(None), ends > as_of))
    return [_posting(row) for row in await connection.execute(query)]


def _posting(row: Row[Any]) -> Posting:
    return Posting(**{name: getattr(row, name) for name in Posting.model_fields})


async def add(connection: AsyncConnection, new: Sequence[Posting]) -> None:
    if new:
        await connection.execute(insert(posting), [each.model_dump() for each in new])


async def supersede(connection: AsyncConnection, old: Sequence[Posting], now: datetime) -> None:
    which = any_of(posting.c.posting_id, [each.posting_id for each in old])
    await connection.execute(update(posting).where(posting.c.superseded_at.is_(None), which).values(superseded_at=now))


def _is_in_force(at: datetime) -> ColumnElement[Any]:
    day = local(at).date()
    ends = unit.c.valid_to
    return and_(unit.c.superseded_at.is_(None), unit.c.valid_from <= day, or_(ends.is_(None), ends > day))

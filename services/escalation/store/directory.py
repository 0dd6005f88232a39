"""Queries on units, tenures, turns of duty, contacts and rulebooks. Rows are superseded, never changed."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    DateTime,
    Row,
    Select,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    column,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import Contact, Directory, Duty, Tenure, Unit, UnitKey, key_of
from services.escalation.domain.rules.rulebook import AdoptedRulebook, read
from services.escalation.store.tables import contact, posting, roster, rulebook, tenure, unit
from shared.clock import local
from shared.database import any_of
from shared.events import UnitRef

DIRECTORY_LOCK = 0x7473
_WANTED = (
    func.unnest(bindparam("codes", type_=ARRAY(Text)), bindparam("days", type_=ARRAY(Date)))
    .table_valued(column("code", Text), column("valid_from", Date))
    .render_derived("wanted")
)
_NOW = bindparam("now", type_=DateTime(timezone=True))
# built once, because they run in every batch
_UNITS_AND_SUCCESSORS = text(
    """
    WITH RECURSIVE reached AS (
        SELECT u.code, u.valid_from, u.valid_to, u.name, u.kind, u.successors, u.legal_act
        FROM escalation.unit u
        JOIN unnest(CAST(:codes AS text[]), CAST(:days AS date[])) AS wanted (code, valid_from)
            ON u.code = wanted.code AND u.valid_from = wanted.valid_from
        WHERE u.superseded_at IS NULL
        UNION
        SELECT u.code, u.valid_from, u.valid_to, u.name, u.kind, u.successors, u.legal_act
        FROM reached
        CROSS JOIN LATERAL jsonb_to_recordset(reached.successors) AS next (code text, valid_from date)
        JOIN escalation.unit u ON u.code = next.code AND u.valid_from = next.valid_from
        WHERE u.superseded_at IS NULL
    )
    SELECT * FROM reached
    """
)
_ENDED_NEAR = text(
    """
    SELECT code, valid_from, valid_to, name, kind, successors, legal_act FROM escalation.unit
    WHERE superseded_at IS NULL AND successors <> '[]' AND valid_to <= CAST(:last_day AS date)
        AND (valid_to >= CAST(:first_day AS date) OR recorded_at >= CAST(:low AS timestamptz))
    """
)
_TENURES = (
    select(tenure)
    .join(_WANTED, and_(tenure.c.unit_code == _WANTED.c.code, tenure.c.unit_valid_from == _WANTED.c.valid_from))
    .where(tenure.c.superseded_at.is_(None))
    .order_by(tenure.c.unit_code, tenure.c.post, tenure.c.valid_from)
)
_DUTIES = (
    select(roster)
    .join(
        _WANTED,
        and_(roster.c.unit_code == _WANTED.c.code, roster.c.unit_valid_from == _WANTED.c.valid_from),
        isouter=True,
    )
    .where(roster.c.superseded_at.is_(None), roster.c.valid_to > _NOW)
    .where(or_(roster.c.level != "ward", _WANTED.c.code.is_not(None)))
    .order_by(roster.c.valid_from, roster.c.roster_id)
)
_CONTACTS = (
    select(contact)
    .where(contact.c.superseded_at.is_(None), contact.c.holder_id == any_(bindparam("holders", type_=ARRAY(Text))))
    .order_by(contact.c.channel)
)


async def lock(connection: AsyncConnection) -> None:
    """Let only one transaction change the directory at a time. An import then adds to what it compared with."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": DIRECTORY_LOCK})


async def lock_to_read(connection: AsyncConnection) -> None:
    """Wait until no change is under way. Whatever is recorded after that has a later recorded time than now."""
    await connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": DIRECTORY_LOCK})


async def newest(connection: AsyncConnection) -> datetime | None:
    """Return when the directory was changed last, or None."""
    changing = (unit, tenure, roster, posting, contact)
    times = [func.max(t.c.recorded_at) for t in changing] + [func.max(t.c.superseded_at) for t in changing]
    return await connection.scalar(select(func.greatest(*(select(each).scalar_subquery() for each in times))))


async def load(connection: AsyncConnection, units: Collection[UnitKey], now: datetime) -> Directory:
    """Return what is recorded now about these units and all their successors, with their people."""
    rows = await connection.execute(_UNITS_AND_SUCCESSORS, _parameters(units))
    reached = {(row.code, row.valid_from): _unit(row) for row in rows}
    given = _parameters(reached.keys() | set(units)) | {"now": now}
    held = [_tenure(row) for row in await connection.execute(_TENURES, given)]
    turns = [duty_of(row) for row in await connection.execute(_DUTIES, given)]
    holders = {t.holder_id for t in held} | {d.holder_id for d in turns}
    return Directory(tuple(held), tuple(turns), await contacts(connection, holders), reached)


def _parameters(units: Iterable[UnitKey]) -> dict[str, Any]:
    keys = sorted(units)
    return {"codes": [code for code, _ in keys], "days": [day for _, day in keys]}


def _of_units(table: Table, units: Iterable[UnitKey]) -> ColumnElement[bool]:
    return tuple_(table.c.unit_code, table.c.unit_valid_from).in_(sorted(units))


def known(table: Table, known_at: datetime) -> ColumnElement[bool]:
    """Condition on rows: this is what was recorded at `known_at`."""
    superseded = table.c.superseded_at
    return and_(table.c.recorded_at <= known_at, or_(superseded.is_(None), superseded > known_at))


# --- units ---


async def units(connection: AsyncConnection) -> dict[UnitKey, Unit]:
    """Return all units, as recorded now."""
    rows = await connection.execute(select(unit).where(unit.c.superseded_at.is_(None)))
    return {(row.code, row.valid_from): _unit(row) for row in rows}


async def ended_near(connection: AsyncConnection, low: datetime, high: datetime) -> dict[UnitKey, Unit]:
    """Return the units with successors that ended between these two times, or whose end was recorded after `low`.

    Until their end was recorded, what happened in the successors was reported of them.
    """
    first_day = local(low - timedelta(microseconds=1)).date() + timedelta(days=1)
    days = {"first_day": first_day, "last_day": local(high).date(), "low": low.astimezone(UTC)}
    return {(row.code, row.valid_from): _unit(row) for row in await connection.execute(_ENDED_NEAR, days)}


async def units_known(connection: AsyncConnection, known_at: datetime, day: date) -> Sequence[Row[Any]]:
    """Return the rows of the units in force on `day`, as recorded at `known_at`."""
    query = select(unit).where(known(unit, known_at), unit.c.valid_from <= day)
    return (await connection.execute(query.where(or_(unit.c.valid_to.is_(None), unit.c.valid_to > day)))).all()


def _unit(row: Row[Any]) -> Unit:
    return Unit(
        ref=UnitRef(code=row.code, valid_from=row.valid_from, name=row.name),
        kind=row.kind,
        valid_to=row.valid_to,
        successors=tuple(UnitRef.model_validate(s) for s in row.successors),
        legal_act=row.legal_act,
    )


async def add_units(connection: AsyncConnection, new: Sequence[Unit], now: datetime) -> None:
    rows = [
        {
            "code": u.ref.code,
            "valid_from": u.ref.valid_from,
            "recorded_at": now,
            "valid_to": u.valid_to,
            "name": u.ref.name,
            "kind": u.kind,
            "successors": [s.model_dump(mode="json") for s in u.successors],
            "legal_act": u.legal_act,
        }
        for u in new
    ]
    if rows:
        await connection.execute(insert(unit), rows)


async def supersede_units(connection: AsyncConnection, old: Iterable[Unit], now: datetime) -> None:
    keys = sorted(key_of(u.ref) for u in old)
    await _supersede(connection, unit, tuple_(unit.c.code, unit.c.valid_from).in_(keys), now)


async def _supersede(connection: AsyncConnection, table: Table, which: ColumnElement[bool], now: datetime) -> None:
    await connection.execute(update(table).where(table.c.superseded_at.is_(None), which).values(superseded_at=now))


# --- tenures ---


async def tenures(
    connection: AsyncConnection,
    known_at: datetime,
    *,
    units: Iterable[UnitKey] | None = None,
    as_of: datetime | None = None,
) -> list[Tenure]:
    """Return tenures as recorded at `known_at`.

    `units`: only those of these units. `as_of`: only those in force then.
    """
    query = select(tenure).where(known(tenure, known_at))
    if units is not None:
        query = query.where(_of_units(tenure, units))
    query = _in_force(query, tenure, as_of).order_by(tenure.c.unit_code, tenure.c.post, tenure.c.valid_from)
    return [_tenure(row) for row in await connection.execute(query)]


def _in_force(query: Select[Any], table: Table, as_of: datetime | None) -> Select[Any]:
    if as_of is None:
        return query
    ends = table.c.valid_to
    return query.where(table.c.valid_from <= as_of, or_(ends.is_(None), ends > as_of))


def _tenure(row: Row[Any]) -> Tenure:
    ref = UnitRef(code=row.unit_code, valid_from=row.unit_valid_from, name=row.unit_name)
    columns = (name for name in Tenure.model_fields if name != "unit")
    return Tenure(unit=ref, **{name: getattr(row, name) for name in columns})


async def add_tenures(connection: AsyncConnection, new: Sequence[Tenure]) -> None:
    rows = [
        {"unit_code": t.unit.code, "unit_valid_from": t.unit.valid_from, "unit_name": t.unit.name}
        | t.model_dump(exclude={"unit"})
        for t in new
    ]
    if rows:
        await connection.execute(insert(tenure), rows)


async def supersede_tenures(connection: AsyncConnection, old: Iterable[Tenure], now: datetime) -> None:
    await _supersede(connection, tenure, any_of(tenure.c.tenure_id, [t.tenure_id for t in old]), now)


async def has_real_people(connection: AsyncConnection) -> bool:
    """Return whether some tenure, as recorded now, is no sample."""
    real = select(tenure.c.tenure_id).where(tenure.c.superseded_at.is_(None), tenure.c.sample.is_(False))
    return bool(await connection.scalar(select(real.exists())))


# --- rosters ---


async def duties(
    connection: AsyncConnection,
    known_at: datetime,
    *,
    holders: Collection[str] | None = None,
    as_of: datetime | None = None,
) -> list[Duty]:
    """Return turns of duty as recorded at `known_at`.

    `holders`: only those of these people. `as_of`: only those that run then.
    """
    query = select(roster).where(known(roster, known_at))
    if holders is not None:
        query = query.where(any_of(roster.c.holder_id, holders))
    return [duty_of(row) for row in await connection.execute(_in_force(query, roster, as_of))]


def duty_of(row: Row[Any]) -> Duty:
    return Duty(**{name: getattr(row, name) for name in Duty.model_fields})


async def add_duties(connection: AsyncConnection, new: Sequence[Duty]) -> None:
    if new:
        await connection.execute(insert(roster), [duty.model_dump() for duty in new])


async def supersede_duties(connection: AsyncConnection, old: Iterable[Duty], now: datetime) -> None:
    await _supersede(connection, roster, any_of(roster.c.roster_id, [d.roster_id for d in old]), now)


async def holders(connection: AsyncConnection) -> set[str]:
    """Return the ids of all people who have, had or will have a post or a turn, as recorded now."""
    of_posts = select(tenure.c.holder_id).where(tenure.c.superseded_at.is_(None))
    on_duty = select(roster.c.holder_id).where(roster.c.superseded_at.is_(None))
    return set(await connection.scalars(of_posts.union(on_duty)))


async def units_of(connection: AsyncConnection, holders: Collection[str]) -> set[UnitKey]:
    """Return the units where any of these people has, had or will have a post or a turn, as recorded now."""
    found: set[UnitKey] = set()
    for table in (tenure, roster):
        query = select(table.c.unit_code, table.c.unit_valid_from).distinct()
        query = query.where(table.c.superseded_at.is_(None), table.c.unit_code.is_not(None))
        rows = await connection.execute(query.where(any_of(table.c.holder_id, holders)))
        found |= {(row.unit_code, row.unit_valid_from) for row in rows}
    return found


# --- contacts ---


async def contacts(connection: AsyncConnection, holders: Collection[str]) -> dict[str, tuple[Contact, ...]]:
    """Return the channels that are in use for these people, by holder id."""
    found: dict[str, tuple[Contact, ...]] = {}
    for row in await connection.execute(_CONTACTS, {"holders": sorted(holders)}):
        found[row.holder_id] = (*found.get(row.holder_id, ()), contact_of(row))
    return found


async def contacts_known(connection: AsyncConnection, known_at: datetime) -> Sequence[Row[Any]]:
    """Return the rows of all contacts, as recorded at `known_at`. Channels are secrets: show only the scheme."""
    return (await connection.execute(select(contact).where(known(contact, known_at)))).all()


def contact_of(row: Row[Any]) -> Contact:
    quiet = [time.fromisoformat(text) if text else None for text in (row.quiet_from, row.quiet_to)]
    return Contact(row.channel, quiet[0], quiet[1])


async def add_contacts(connection: AsyncConnection, new: Sequence[tuple[str, Contact]], now: datetime) -> None:
    rows = [
        {
            "holder_id": holder,
            "channel": c.channel,
            "recorded_at": now,
            "quiet_from": f"{c.quiet_from:%H:%M}" if c.quiet_from else None,
            "quiet_to": f"{c.quiet_to:%H:%M}" if c.quiet_to else None,
        }
        for holder, c in new
    ]
    if rows:
        await connection.execute(insert(contact), rows)


async def supersede_contacts(connection: AsyncConnection, old: Iterable[tuple[str, Contact]], now: datetime) -> None:
    keys = sorted((holder, c.channel) for holder, c in old)
    await _supersede(connection, contact, tuple_(contact.c.holder_id, contact.c.channel).in_(keys), now)


# --- rulebooks ---


async def rulebooks(connection: AsyncConnection) -> list[AdoptedRulebook]:
    rows = await connection.execute(select(rulebook.c.content).order_by(rulebook.c.version))
    return [read(row.content) for row in rows]


async def add_rulebook(connection: AsyncConnection, adopted: AdoptedRulebook, now: datetime) -> None:
    await connection.execute(
        insert(rulebook).values(
            version=adopted.rulebook.version,
            sha256=adopted.sha256,
            content=adopted.text.encode(),
            adopted_at=now,
        )
    )


def after(newest_at: datetime | None, now: datetime) -> datetime:
    """Return when to record: now, or just after the last change if that was made by a clock ahead of ours."""
    return now if newest_at is None else max(now, newest_at + timedelta(microseconds=1))

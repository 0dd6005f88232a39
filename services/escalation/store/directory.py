"""Queries on units, tenures, contacts and rulebooks."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, and_, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.directory import Contact, Directory, Tenure, TenureRow, Unit, UnitKey, UnitRow, day_start
from services.escalation.rulebook import AdoptedRulebook, read
from services.escalation.store.tables import contact, rulebook, tenure, unit
from shared.events import UnitRef

DIRECTORY_LOCK = 0x7473


async def lock(connection: AsyncConnection) -> None:
    """One change of the directory at a time, so that an import compares with what it will be added to."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": DIRECTORY_LOCK})


async def current_units(connection: AsyncConnection) -> Sequence[Row[Any]]:
    rows = await connection.execute(
        select(unit).where(unit.c.superseded_at.is_(None)).order_by(unit.c.code, unit.c.valid_from)
    )
    return rows.all()


async def unit_kinds(connection: AsyncConnection) -> dict[tuple[str, object], str]:
    return {(row.code, row.valid_from): row.kind for row in await current_units(connection)}


async def add_units(connection: AsyncConnection, rows: Sequence[UnitRow], now: datetime) -> list[UnitRow]:
    """Record units that are new or differ, superseding what they differ from. Returns those recorded."""
    existing = {(r.code, r.valid_from): r for r in await current_units(connection)}
    recorded: list[UnitRow] = []
    for row in rows:
        old = existing.get((row.code, row.valid_from))
        if old is not None and (old.name, old.kind, old.valid_to) == (row.name, row.type, row.valid_to):
            continue
        if old is not None:
            await connection.execute(
                update(unit)
                .where(unit.c.code == row.code, unit.c.valid_from == row.valid_from)
                .where(unit.c.superseded_at.is_(None))
                .values(superseded_at=now)
            )
        await connection.execute(
            insert(unit).values(
                code=row.code,
                valid_from=row.valid_from,
                valid_to=row.valid_to,
                name=row.name,
                kind=row.type,
                recorded_at=now,
            )
        )
        recorded.append(row)
    return recorded


async def tenures(
    connection: AsyncConnection,
    known_at: datetime,
    *,
    units: Iterable[tuple[str, date]] | None = None,
    as_of: datetime | None = None,
) -> list[Tenure]:
    """Tenures as recorded at `known_at`, optionally only those of `units`, or in force at `as_of`."""
    query = select(tenure).where(
        tenure.c.recorded_at <= known_at,
        or_(tenure.c.superseded_at.is_(None), tenure.c.superseded_at > known_at),
    )
    if units is not None:
        wanted = [and_(tenure.c.unit_code == c, tenure.c.unit_valid_from == f) for c, f in set(units)]
        query = query.where(or_(*wanted))
    if as_of is not None:
        query = query.where(tenure.c.valid_from <= as_of)
        query = query.where(or_(tenure.c.valid_to.is_(None), tenure.c.valid_to > as_of))
    query = query.order_by(tenure.c.unit_code, tenure.c.post, tenure.c.valid_from)
    return [_tenure(row) for row in await connection.execute(query)]


def _tenure(row: Row[Any]) -> Tenure:
    ref = UnitRef(code=row.unit_code, valid_from=row.unit_valid_from, name=row.unit_name)
    columns = (name for name in Tenure.model_fields if name != "unit")
    return Tenure(unit=ref, **{name: getattr(row, name) for name in columns})


async def add_tenure(connection: AsyncConnection, new: Tenure) -> None:
    await connection.execute(
        insert(tenure).values(
            unit_code=new.unit.code,
            unit_valid_from=new.unit.valid_from,
            unit_name=new.unit.name,
            **new.model_dump(exclude={"unit"}),
        )
    )


async def supersede_tenure(connection: AsyncConnection, tenure_id: str, now: datetime) -> None:
    await connection.execute(update(tenure).where(tenure.c.tenure_id == tenure_id).values(superseded_at=now))


async def channels(connection: AsyncConnection) -> dict[str, tuple[str, ...]]:
    """Contact channels in use, by holder id."""
    found: dict[str, tuple[str, ...]] = {}
    rows = await connection.execute(
        select(contact).where(contact.c.superseded_at.is_(None)).order_by(contact.c.channel)
    )
    for row in rows:
        found[row.holder_id] = (*found.get(row.holder_id, ()), row.channel)
    return found


async def replace_channels(connection: AsyncConnection, holder_id: str, urls: set[str], now: datetime) -> set[str]:
    """Make `urls` the channels of a holder; returns those that are new."""
    old = set((await channels(connection)).get(holder_id, ()))
    await connection.execute(
        update(contact)
        .where(contact.c.holder_id == holder_id, contact.c.superseded_at.is_(None))
        .where(contact.c.channel.in_(old - urls))
        .values(superseded_at=now)
    )
    for url in sorted(urls - old):
        await connection.execute(insert(contact).values(holder_id=holder_id, channel=url, recorded_at=now))
    return urls - old


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


def tenure_of(row: TenureRow, ref: UnitRef, tenure_id: str, now: datetime) -> Tenure:
    return Tenure(
        tenure_id=tenure_id,
        unit=ref,
        post=row.post,
        holder_id=row.holder_id,
        holder_name=row.holder_name,
        acting=row.acting,
        document=row.document,
        valid_from=day_start(row.valid_from),
        valid_to=day_start(row.valid_to) if row.valid_to else None,
        sample=row.sample,
        recorded_at=now,
    )


async def load(connection: AsyncConnection, units: Iterable[UnitKey], now: datetime) -> Directory:
    """The snapshot that a transaction works with."""
    rows = {(r.code, r.valid_from): r for r in await current_units(connection)}
    known = {
        key: Unit(
            UnitRef(code=r.code, valid_from=r.valid_from, name=r.name),
            r.kind,
            r.valid_to,
            tuple(UnitRef.model_validate(s) for s in r.successors),
        )
        for key, r in rows.items()
    }
    wanted = list(units)
    for key in wanted:
        successors = known[key].successors if key in known else ()
        wanted += [k for s in successors if (k := (s.code, s.valid_from)) not in wanted]
    of_holder = await channels(connection)
    return Directory(
        tenures=tuple(await tenures(connection, now, units=wanted)) if wanted else (),
        contacts={holder: tuple(Contact(url) for url in urls) for holder, urls in of_holder.items()},
        units=known,
    )

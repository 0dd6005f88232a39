"""Schema `intake`: reports, reporters apart and sealed, the wards known here, and the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.intake.domain.draft import Draft, ReportKey
from services.intake.domain.wards import Posting, Unit
from shared.credentials.store import credential_tables
from shared.database import given, given_rows
from shared.events import PostingRecorded, ReportCorrelated, UnitRecorded
from shared.messaging import dead_letter_table, outbox_tables

metadata = MetaData(schema="intake")

report = Table(
    "report",
    metadata,
    Column("submitter", Text, primary_key=True),
    Column("report_id", Text, primary_key=True),
    Column("receipt", Text, nullable=False, unique=True),
    Column("content_mac", LargeBinary, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("ward", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("exercise", Boolean, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("incident", Text),
    Column("routed", Text),
    Column("own_id", Text, unique=True, comment="by which events name it; null: by report_id, as before"),
)
"""A report's id is its sender's: two senders may use one."""
Index("report_by_submitter", report.c.submitter, report.c.event_id)
Index("report_of_before", report.c.report_id, unique=True, postgresql_where=report.c.own_id.is_(None))

reporter = Table(
    "reporter",
    metadata,
    Column("submitter", Text, primary_key=True),
    Column("report_id", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    ForeignKeyConstraint(["submitter", "report_id"], [report.c.submitter, report.c.report_id]),
)
"""Name and phone, encrypted, with the salt of their commitment; deletable."""

unit = Table(
    "unit",
    metadata,
    Column("code", Text, primary_key=True),
    Column("valid_from", Date, primary_key=True),
    Column("valid_to", Date),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("successors", JSONB, nullable=False, server_default="[]"),
)

posting = Table(
    "posting",
    metadata,
    Column("posting_id", Text, primary_key=True),
    Column("sender", Text, nullable=False),
    Column("unit_code", Text, nullable=False),
    Column("unit_valid_from", Date, nullable=False),
    Column("valid_from", DateTime(timezone=True), nullable=False),
    Column("valid_to", DateTime(timezone=True)),
    Column("withdrawn", Boolean, nullable=False),
)
"""`sender`: the pseudonym of an officer or a device."""

outbox = outbox_tables(metadata)
dead_letter = dead_letter_table(metadata)
credentials = credential_tables(metadata)


@dataclass(frozen=True)
class StoredReport:
    """What is stored under a report id, by this attempt (`is_new`) or an earlier one."""

    receipt: str
    received_at: datetime
    content_mac: bytes
    is_new: bool


_GIVEN = [c for c in report.c if c.name not in ("incident", "routed")]
_ARRAYS = (cast(bindparam(c.name), ARRAY(c.type)) for c in _GIVEN)
_ROWS = func.unnest(*_ARRAYS).table_valued(*(c.name for c in _GIVEN)).render_derived()
_ADD_REPORTS = (
    upsert(report)
    .from_select([c.name for c in _GIVEN], select(_ROWS))
    .on_conflict_do_nothing(index_elements=[report.c.submitter, report.c.report_id])
    .returning(report.c.submitter, report.c.report_id)
)
"""One array a column: the same statement for any number of rows, so that it is compiled and prepared once."""
_ASKED = given_rows(submitter=Text(), report_id=Text())
_STORED = select(
    report.c.submitter, report.c.report_id, report.c.receipt, report.c.received_at, report.c.content_mac
).join(_ASKED, and_(report.c.submitter == _ASKED.c.submitter, report.c.report_id == _ASKED.c.report_id))


async def add_reports(connection: AsyncConnection, drafts: Sequence[Draft]) -> dict[ReportKey, StoredReport]:
    """Insert what is new (keys in `drafts` are distinct); returns what is stored under each key.

    Sorted, so that two batches that share keys wait for each other instead of deadlocking.
    """
    rows = [_report_row(d) for d in sorted(drafts, key=lambda d: d.key)]
    arrays = {c.name: [row[c.name] for row in rows] for c in _GIVEN}
    new = {(r.submitter, r.report_id) for r in await connection.execute(_ADD_REPORTS, arrays)}
    stored = {
        d.key: StoredReport(d.receipt, d.event.data.received_at, d.content_mac, is_new=True)
        for d in drafts
        if d.key in new
    }
    if len(stored) < len(drafts):
        known = [d for d in drafts if d.key not in new]
        asked = given(submitter=[d.submitter for d in known], report_id=[d.report_id for d in known])
        for r in await connection.execute(_STORED, asked):
            stored[r.submitter, r.report_id] = StoredReport(r.receipt, r.received_at, r.content_mac, is_new=False)
    return stored


def _report_row(draft: Draft) -> dict[str, Any]:
    data = draft.event.data
    assert data.unit is not None
    return {
        "report_id": draft.report_id,
        "own_id": data.report_id,
        "receipt": draft.receipt,
        "content_mac": draft.content_mac,
        "submitter": draft.submitter,
        "event_id": draft.event.id,
        "ward": data.unit.code,
        "category": data.category,
        "exercise": data.exercise,
        "occurred_at": data.occurred_at,
        "received_at": data.received_at,
    }


async def add_reporters(connection: AsyncConnection, sealed: Sequence[tuple[ReportKey, bytes, str]]) -> None:
    """(key of the report, sealed name and phone, salt of the commitment)."""
    if sealed:
        rows = [
            {"submitter": submitter, "report_id": id_, "sealed": box, "salt": bytes.fromhex(salt)}
            for (submitter, id_), box, salt in sealed
        ]
        await connection.execute(insert(reporter), rows)


async def receipt(connection: AsyncConnection, number: str) -> Row[Any] | None:
    return (await connection.execute(select(report).where(report.c.receipt == number))).one_or_none()


async def reports_of(
    connection: AsyncConnection, submitter: str, limit: int, *, report_id: str | None = None, before: str | None = None
) -> Sequence[Row[Any]]:
    """The reports of one sender, the newest first. `before`: those that came before the event of this id."""
    query = select(report).where(report.c.submitter == submitter).order_by(report.c.event_id.desc()).limit(limit)
    if report_id is not None:
        query = query.where(report.c.report_id == report_id)
    if before is not None:
        query = query.where(report.c.event_id < before)
    return (await connection.execute(query)).all()


async def load_units(connection: AsyncConnection) -> list[Unit]:
    rows = await connection.execute(select(unit).order_by(unit.c.code, unit.c.valid_from))
    return [Unit(r.code, r.valid_from, r.valid_to, r.name, r.kind, _keys(r.successors)) for r in rows]


def _keys(successors: Sequence[dict[str, str]]) -> tuple[tuple[str, date], ...]:
    return tuple((s["code"], date.fromisoformat(s["valid_from"])) for s in successors)


async def put_units(connection: AsyncConnection, events: Sequence[UnitRecorded]) -> None:
    """Take over units that escalation recorded; an older event never overwrites a newer one."""
    for event in events:
        ref = event.data.unit
        assert ref is not None
        statement = upsert(unit).values(
            code=ref.code,
            valid_from=ref.valid_from,
            valid_to=event.data.valid_to,
            name=ref.name,
            kind=event.data.kind,
            recorded_at=event.time,
            successors=[{"code": s.code, "valid_from": s.valid_from.isoformat()} for s in event.data.successors],
        )
        newer = {name: statement.excluded[name] for name in ("valid_to", "name", "kind", "recorded_at", "successors")}
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=[unit.c.code, unit.c.valid_from],
                set_=newer,
                where=unit.c.recorded_at <= statement.excluded.recorded_at,
            )
        )


async def load_postings(connection: AsyncConnection) -> dict[str, list[Posting]]:
    """All that hold, by the pseudonym of the sender."""
    found: dict[str, list[Posting]] = {}
    for row in await connection.execute(select(posting).where(posting.c.withdrawn.is_(False))):
        stay = Posting((row.unit_code, row.unit_valid_from), row.valid_from, row.valid_to)
        found.setdefault(row.sender, []).append(stay)
    return found


async def put_postings(connection: AsyncConnection, events: Sequence[PostingRecorded]) -> None:
    """Take over postings that escalation recorded. What was withdrawn stays so, in whichever order events come."""
    for event in events:
        data = event.data
        assert data.unit is not None
        statement = upsert(posting).values(
            posting_id=data.posting_id,
            sender=data.sender,
            unit_code=data.unit.code,
            unit_valid_from=data.unit.valid_from,
            valid_from=data.valid_from,
            valid_to=data.valid_to,
            withdrawn=data.withdrawn,
        )
        withdrawn = or_(posting.c.withdrawn, statement.excluded.withdrawn)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=[posting.c.posting_id], set_={"withdrawn": withdrawn})
        )


_OF_BEFORE = report.c.own_id.is_(None) & (report.c.report_id == bindparam("id"))
_SET_ROUTED = (
    update(report)
    .where(or_(report.c.own_id == bindparam("id"), _OF_BEFORE))
    .values(incident=bindparam("to_incident"), routed=bindparam("as_outcome"))
)


async def set_routed(connection: AsyncConnection, events: Sequence[ReportCorrelated]) -> None:
    """What became of each report, for its receipt."""
    if events:
        await connection.execute(
            _SET_ROUTED,
            [{"id": e.data.report_id, "to_incident": e.data.incident, "as_outcome": e.data.outcome} for e in events],
        )

"""States of a city's database that the product comes to only by an accident, or by much that a test is not about."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Executable, bindparam, delete, func, insert, literal, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.escalation.store import tables
from services.escalation.store.tables import contact, deadline, decision, delivery, incident, notice, report
from services.ledger.store.tables import private
from shared.events import UnitRef
from tests.integration.escalation_support import City


async def _run(city: City, *statements: Executable) -> None:
    async with city.escalation.database.begin() as connection:
        for statement in statements:
            await connection.execute(statement)


# --- incidents and their due times ---


async def incidents_stand_at(city: City, state: str, only: str | None = None) -> None:
    """All incidents, or that one, with nothing of what leads there."""
    await _run(city, update(incident).where(_is(incident.c.incident_id, only)).values(state=state))


async def acted_for_by(city: City, successor: UnitRef) -> None:
    """In every incident another unit's post-holders act now."""
    await _run(city, update(incident).values(successor=successor.model_dump(mode="json")))


async def due_times_are(city: City, state: str, *, kind: str | None = None, until: datetime | None = None) -> None:
    """All due times, or those of the kind or until then: nothing is done about them."""
    async with city.escalation.database.begin() as connection:
        await due_times_become(connection, state, kind=kind, until=until)


async def due_times_become(
    connection: AsyncConnection, state: str, *, kind: str | None = None, until: datetime | None = None
) -> None:
    """The same in a transaction of the caller's."""
    earlier = true() if until is None else deadline.c.due_at <= until
    await connection.execute(update(deadline).where(_is(deadline.c.kind, kind), earlier).values(state=state))


def _is(column: ColumnElement[Any], value: object | None) -> ColumnElement[bool]:
    return true() if value is None else column == value


# --- notices and their deliveries ---


async def notices_are_to(city: City, recipient: str) -> None:
    """Every notice that was issued went to this one."""
    await _run(city, update(notice).values(recipient=recipient))


async def notices_are_withdrawn(city: City) -> None:
    """Every notice, as if its recipient answered for the incident no more."""
    await _run(city, update(notice).values(withdrawn_at=notice.c.issued_at))


async def notices_say(city: City, title: str, body: str) -> None:
    """Every notice has these words, as no rule would put them."""
    await _run(city, update(notice).values(title=title, body=body))


async def deliveries_are(city: City, state: str, *, next_at: datetime | None = None, of: str | None = None) -> None:
    """All deliveries, or those of a state; `next_at`: when they are to go out, or their lease ends."""
    which = _is(delivery.c.state, of)
    await _run(city, update(delivery).where(which).values(state=state, next_at=next_at or delivery.c.next_at))


async def sent_by(city: City, channel: str, *recipients: str, earlier: timedelta = timedelta(0)) -> None:
    """What waits for these goes to that channel, so much earlier. "{}" in it becomes the id of each delivery."""
    url = func.replace(literal(channel), "{}", delivery.c.delivery_id)
    theirs = _is_to(recipients)
    await _run(city, update(delivery).where(theirs).values(channel=url, next_at=delivery.c.next_at - earlier))


async def put_off(city: City, recipient: str, until: datetime) -> None:
    """What waits for this one goes out no sooner."""
    await _run(city, update(delivery).where(_is_to((recipient,))).values(next_at=until))


async def sent_later_too(city: City, recipient: str, channel: str, later: timedelta) -> None:
    """Each notice to this one waits for another channel as well."""
    copied = ("second-" + delivery.c.delivery_id, delivery.c.notice_id, literal(channel), literal("queued"))
    second = select(*copied, delivery.c.next_at + later).where(_is_to((recipient,)))
    columns = ("delivery_id", "notice_id", "channel", "state", "next_at")
    await _run(city, insert(delivery).from_select(columns, second))


async def was_tried(city: City, notice_id: str, states: Sequence[str], at: datetime) -> None:
    """A notice was sent by so many channels, and nothing else was; what became of each."""
    tries = [
        {
            "delivery_id": f"so-{n}",
            "notice_id": notice_id,
            "channel": f"outbox://so-{n}",
            "state": state,
            "next_at": at,
            "finished_at": at,
        }
        for n, state in enumerate(states)
    ]
    await _run(city, delete(delivery), insert(delivery).values(tries))


def _is_to(recipients: Sequence[str]) -> ColumnElement[bool]:
    return delivery.c.notice_id.in_(select(notice.c.notice_id).where(notice.c.recipient.in_(recipients)))


# --- what was changed behind the product's back ---


Facts = Mapping[str, Any]
"""Of reports, by report id."""


async def spoil_reports(city: City, *, unit: str | None = None) -> Facts:
    """Nobody can read the reports of the unit, or any. Returns what they said, for `mend_reports`."""
    of_unit = select(incident.c.incident_id).where(_is(incident.c.unit_code, unit))
    spoilt = report.c.incident_id.in_(of_unit)
    async with city.escalation.database.begin() as connection:
        rows = await connection.execute(select(report.c.report_id, report.c.facts).where(spoilt))
        said = {row.report_id: row.facts for row in rows}
        await connection.execute(update(report).where(spoilt).values(facts={"bad": 1}))
    return said


async def mend_reports(city: City, said: Facts) -> None:
    """They can be read again, and say what they said."""
    each = update(report).where(report.c.report_id == bindparam("id")).values(facts=bindparam("said"))
    async with city.escalation.database.begin() as connection:
        await connection.execute(each, [{"id": id_, "said": facts} for id_, facts in said.items()])


async def alter_record(city: City, decision_id: str, old: str, new: str) -> None:
    """The record of a decision says `new` wherever it said `old`."""
    async with city.escalation.database.connect() as connection:
        rows = await connection.scalars(select(decision.c.record).where(decision.c.decision_id == decision_id))
        record = rows.one()
    altered = record.replace(old.encode(), new.encode())
    assert altered != record, f"the record says nothing of {old}"
    await _run(city, update(decision).where(decision.c.decision_id == decision_id).values(record=altered))


async def replace_inputs(city: City, decision_id: str, inputs: Mapping[str, Any]) -> None:
    """What a decision depended on is told otherwise."""
    await _run(city, update(decision).where(decision.c.decision_id == decision_id).values(inputs=inputs))


async def forget_rulebooks(city: City) -> None:
    """As if none had ever been adopted."""
    await _run(city, delete(tables.rulebook))


async def erase_personal_values(ledger: AsyncEngine) -> None:
    """From the one table of the ledger from which rows may be deleted."""
    async with ledger.begin() as connection:
        await connection.execute(delete(private))


@asynccontextmanager
async def without_decisions(city: City) -> AsyncGenerator[None]:
    """The table of decisions is not there, as before the database was migrated."""
    await _run(city, text(f"ALTER TABLE {decision} RENAME TO elsewhere"))
    try:
        yield
    finally:
        await _run(city, text(f"ALTER TABLE {decision.schema}.elsewhere RENAME TO {decision.name}"))


async def sample_directory_again(city: City) -> None:
    """Units and people as the template has them; nothing else is touched."""
    kept = (tables.unit, tables.tenure, tables.roster, contact)
    for table in kept:
        await _run(city, delete(table), text(f"INSERT INTO {table} TABLE kept.{table.name}"))


# --- a city of long standing ---


async def multiply_incidents(city: City, incidents: int, *, of_which_open: int) -> None:
    """The one incident again and again, with its due times and deliveries; most of them long closed."""
    numbered = {name: f"t.{name} || '-' || n" for name in ("notice_id", "deadline_id", "delivery_id")}
    for table, fields, ended in (
        (incident, {}, "closed"),
        (notice, numbered | {"decision_id": "NULL"}, None),
        (deadline, numbered | {"notice_id": "NULL"}, "cancelled"),
        (delivery, numbered, "sent"),
    ):
        fields |= {"incident_id": "'vu-' || n"}
        if ended:
            fields |= {"state": f"CASE WHEN n % {incidents // of_which_open} = 0 THEN t.state ELSE '{ended}' END"}
        columns = ", ".join(f"{fields.get(c.name, f't.{c.name}')} AS {c.name}" for c in table.columns)
        some = f"(SELECT * FROM {table} LIMIT 2) t, generate_series(1, {incidents}) n"
        await _run(
            city,
            text("SET LOCAL session_replication_role = replica"),  # no foreign keys: faster
            text(f"INSERT INTO {table} SELECT {columns} FROM {some}"),
            text(f"ANALYZE {table}"),
        )

"""Queries on incidents, reports, decisions and notices."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from sqlalchemy import Row, Select, and_, insert, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.accountability import Decision, ReportFacts, record_bytes
from services.escalation.correlation import Happening, Point
from services.escalation.notification import DESK
from services.escalation.routing import Case, IssuedNotice, Outcome
from services.escalation.store.tables import deadline, decision, delivery, incident, notice, report
from shared.events import ReportReceived, UnitRef
from shared.ids import uuid7

UNIT_LOCK = 0x7472
"""Class of the advisory locks that serialise correlation, one a unit."""
FINAL_STATES = ("closed", "dismissed", "merged", "handed_off")


async def lock_units(connection: AsyncConnection, codes: Iterable[str]) -> None:
    """Until the transaction ends nobody else correlates in these units. Sorted, so that two batches cannot deadlock."""
    keys = sorted({crc32(code.encode()) - 2**31 for code in codes})
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(:class, key) FROM unnest(CAST(:keys AS int[])) AS key"),
        {"class": UNIT_LOCK, "keys": keys},
    )


async def known_events(connection: AsyncConnection, event_ids: Sequence[str]) -> set[str]:
    rows = await connection.execute(select(report.c.event_id).where(report.c.event_id.in_(event_ids)))
    return {row.event_id for row in rows}


async def cases_near(connection: AsyncConnection, happenings: Sequence[Happening], window: timedelta) -> list[Case]:
    """Open incidents that any of `happenings` could belong to, locked for this transaction."""
    spans: dict[tuple[str, str], tuple[datetime, datetime]] = {}
    for h in happenings:
        key = (h.unit[0], h.family)
        low, high = spans.get(key, (h.at, h.at))
        spans[key] = (min(low, h.at), max(high, h.at))
    near = or_(
        *(
            and_(
                incident.c.unit_code == code,
                incident.c.family == family,
                incident.c.occurred_at.between(low - window, high + window),
            )
            for (code, family), (low, high) in spans.items()
        )
    )
    query = select(incident).where(near, incident.c.state.not_in(FINAL_STATES))
    return await with_history(connection, await _locked(connection, query))


async def locked(connection: AsyncConnection, incident_ids: Sequence[str]) -> list[Case]:
    """These incidents, locked for this transaction, without what `with_history` adds."""
    return await _locked(connection, select(incident).where(incident.c.incident_id.in_(incident_ids)))


async def _locked(connection: AsyncConnection, query: Select[Any]) -> list[Case]:
    rows = await connection.execute(query.order_by(incident.c.incident_id).with_for_update())
    return [_case(row) for row in rows]


async def with_history(connection: AsyncConnection, found: list[Case]) -> list[Case]:
    """The same cases with their reports, latest decision and who was told: what another decision or notice needs."""
    cases = {case.incident_id: case for case in found}
    ids = list(cases)
    if not ids:
        return found
    reports = await connection.execute(
        select(report.c.incident_id, report.c.facts)
        .where(report.c.incident_id.in_(ids))
        .order_by(report.c.incident_id, report.c.position)
    )
    for row in reports:
        cases[row.incident_id].reports.append(ReportFacts.model_validate(row.facts))
    latest = await connection.execute(
        select(decision.c.incident_id, decision.c.decision_id, decision.c.number, decision.c.record)
        .where(decision.c.incident_id.in_(ids))
        .ext(distinct_on(decision.c.incident_id))
        .order_by(decision.c.incident_id, decision.c.number.desc())
    )
    for row in latest:
        case = cases[row.incident_id]
        case.decision_id, case.decision_number = row.decision_id, row.number
        case.decision = Decision.model_validate_json(row.record)
    told = await connection.execute(
        select(notice.c.incident_id, notice.c.recipient, notice.c.purpose).where(notice.c.incident_id.in_(ids))
    )
    for row in told:
        cases[row.incident_id].told.add((row.recipient, row.purpose))
    return found


def _case(row: Row[Any]) -> Case:
    point = Point(row.latitude, row.longitude) if row.latitude is not None else None
    anchor = Happening(
        unit=(row.unit_code, row.unit_valid_from),
        family=row.family,
        exercise=row.exercise,
        at=row.occurred_at,
        point=point,
    )
    return Case(
        incident_id=row.incident_id,
        unit=UnitRef(code=row.unit_code, valid_from=row.unit_valid_from, name=row.unit_name),
        unit_kind=row.unit_kind,
        category=row.category,
        anchor=anchor,
        opened_at=row.opened_at,
        state=row.state,
        sequence=row.sequence,
    )


async def save(connection: AsyncConnection, out: Outcome, now: datetime) -> None:
    """Write what a batch came to; the outbox rows are written beside it, in the same transaction."""
    if out.cases:
        await _save_cases(connection, list(out.cases.values()))
    if out.reports:
        positions: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        for event, case in reversed(out.reports):
            taken = positions.get(case.incident_id, 0)
            positions[case.incident_id] = taken + 1
            rows.append(_report_row(event, case, len(case.reports) - taken))
        await connection.execute(insert(report), rows)
    if out.decisions:
        await connection.execute(
            insert(decision),
            [
                {
                    "decision_id": made.decision_id,
                    "incident_id": made.case.incident_id,
                    "number": made.number,
                    "previous_id": made.previous,
                    "record": record_bytes(made.decision),
                    "inputs": made.inputs.model_dump(mode="json"),
                    "exercise": made.decision.exercise,
                    "made_at": now,
                }
                for made in out.decisions
            ],
        )
    await save_notices(connection, out.notices, now)
    reviews = [
        {
            "deadline_id": uuid7(now),
            "incident_id": case.incident_id,
            "notice_id": None,
            "kind": "review",
            "due_at": due_at,
            "state": "pending",
        }
        for case, due_at in out.reviews
    ]
    if reviews:
        await connection.execute(insert(deadline), reviews)
    if out.reviewed:
        await connection.execute(
            update(deadline)
            .where(deadline.c.incident_id.in_(out.reviewed), deadline.c.kind == "review")
            .where(deadline.c.state == "pending")
            .values(state="cancelled")
        )


async def _save_cases(connection: AsyncConnection, cases: Sequence[Case]) -> None:
    rows = [_incident_row(case) for case in cases]
    statement = upsert(incident)
    changing = ("state", "outcome", "limb", "standing", "severity", "sequence")
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[incident.c.incident_id],
            set_={name: statement.excluded[name] for name in changing},
        ),
        rows,
    )


def _incident_row(case: Case) -> dict[str, Any]:
    made = case.decision
    assert made is not None
    point = case.anchor.point
    return {
        "incident_id": case.incident_id,
        "unit_code": case.unit.code,
        "unit_valid_from": case.unit.valid_from,
        "unit_name": case.unit.name,
        "unit_kind": case.unit_kind,
        "family": case.anchor.family,
        "category": case.category,
        "exercise": case.anchor.exercise,
        "occurred_at": case.anchor.at,
        "latitude": point.latitude if point else None,
        "longitude": point.longitude if point else None,
        "state": case.state,
        "outcome": made.outcome,
        "limb": made.limb,
        "standing": made.standing,
        "severity": made.severity,
        "sequence": case.sequence,
        "opened_at": case.opened_at,
    }


def _report_row(event: ReportReceived, case: Case, position: int) -> dict[str, Any]:
    data = event.data
    facts = case.reports[position - 1]
    texts = {"description": data.description, "neighbourhood": data.neighbourhood, "location": data.location}
    personal = {name: committed.value for name, committed in texts.items() if committed is not None}
    return {
        "report_id": data.report_id,
        "event_id": event.id,
        "incident_id": case.incident_id,
        "position": position,
        "facts": facts.model_dump(mode="json", exclude_none=True),
        "personal": personal or None,
    }


async def save_notices(connection: AsyncConnection, issued: Sequence[IssuedNotice], now: datetime) -> None:
    """Notices with a delivery for each channel, and the deadline by which a holder has to acknowledge."""
    if not issued:
        return
    await connection.execute(
        insert(notice),
        [
            {
                "notice_id": n.notice_id,
                "incident_id": n.case.incident_id,
                "decision_id": n.decision_id,
                "recipient": n.notice.recipient,
                "purpose": n.notice.purpose,
                "posts": list(n.notice.posts),
                "title": n.title,
                "body": n.body,
                "exercise": n.case.anchor.exercise,
                "issued_at": n.issued_at,
                "due_at": n.due_at,
            }
            for n in issued
        ],
    )
    deliveries = [
        {
            "delivery_id": uuid7(now),
            "notice_id": n.notice_id,
            "channel": channel,
            "state": "queued",
            "next_at": n.issued_at,
        }
        for n in issued
        for channel in n.channels
    ]
    if deliveries:
        await connection.execute(insert(delivery), deliveries)
    deadlines = [
        {
            "deadline_id": uuid7(now),
            "incident_id": n.case.incident_id,
            "notice_id": n.notice_id,
            "kind": "acknowledge",
            "due_at": n.due_at,
            "state": "pending",
        }
        for n in issued
        if n.due_at is not None
    ]
    if deadlines:
        await connection.execute(insert(deadline), deadlines)


async def acknowledge(connection: AsyncConnection, notice_ids: Sequence[str], by: str, at: datetime) -> set[str]:
    """Acknowledge what is not yet; cancel its deadline and what is still to be sent. Returns what was new."""
    rows = await connection.execute(
        update(notice)
        .where(notice.c.notice_id.in_(notice_ids), notice.c.acknowledged_at.is_(None))
        .values(acknowledged_at=at, acknowledged_by=by)
        .returning(notice.c.notice_id)
    )
    new = {row.notice_id for row in rows}
    await connection.execute(
        update(deadline).where(deadline.c.notice_id.in_(new), deadline.c.state == "pending").values(state="cancelled")
    )
    await connection.execute(
        update(delivery)
        .where(delivery.c.notice_id.in_(new), delivery.c.state == "queued")
        .values(state="cancelled", finished_at=at)
    )
    return new


async def set_progress(connection: AsyncConnection, case: Case) -> None:
    """Store the state and the sequence number of a case that was loaded and locked."""
    await connection.execute(
        update(incident)
        .where(incident.c.incident_id == case.incident_id)
        .values(state=case.state, sequence=case.sequence)
    )


async def holder_notices(connection: AsyncConnection, incident_id: str) -> Sequence[Row[Any]]:
    rows = await connection.execute(
        select(notice)
        .where(notice.c.incident_id == incident_id, notice.c.recipient != DESK)
        .order_by(notice.c.notice_id)
    )
    return rows.all()


async def page(
    connection: AsyncConnection,
    filters: dict[str, Any],
    occurred: tuple[datetime | None, datetime | None],
    after: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Row[Any]]:
    """Incidents, newest first, by keyset: `after` is the (opened_at, id) of the last row seen."""
    query = select(incident).order_by(incident.c.opened_at.desc(), incident.c.incident_id.desc()).limit(limit)
    for name, value in filters.items():
        if value is not None:
            query = query.where(incident.c[name] == value)
    if occurred[0] is not None:
        query = query.where(incident.c.occurred_at >= occurred[0])
    if occurred[1] is not None:
        query = query.where(incident.c.occurred_at < occurred[1])
    if after is not None:
        query = query.where(tuple_(incident.c.opened_at, incident.c.incident_id) < tuple_(*after))
    return (await connection.execute(query)).all()


async def one(connection: AsyncConnection, incident_id: str) -> dict[str, Any] | None:
    """An incident with its reports, decisions, notices, deliveries and deadlines; None if there is none."""
    found = (await connection.execute(select(incident).where(incident.c.incident_id == incident_id))).one_or_none()
    if found is None:
        return None
    whole: dict[str, Any] = {"incident": found}
    for name, table, order in (
        ("reports", report, report.c.position),
        ("decisions", decision, decision.c.number),
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
    return whole


async def decision_by_id(connection: AsyncConnection, decision_id: str) -> Row[Any] | None:
    query = (
        select(decision, incident.c.unit_code)
        .join(incident, incident.c.incident_id == decision.c.incident_id)
        .where(decision.c.decision_id == decision_id)
    )
    return (await connection.execute(query)).one_or_none()

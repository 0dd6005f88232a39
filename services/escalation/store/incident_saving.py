"""Writing what a transaction came to."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, not_, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import (
    AssignedReport,
    Case,
    ChangeSet,
    IssuedNotice,
    MadeDecision,
    NewDeadline,
)
from services.escalation.domain.rules.accountability import record_bytes
from services.escalation.store.tables import deadline, decision, delivery, finding, incident, link, notice, report
from shared.database import copy
from shared.ids import uuid7

CHANGING = (
    "family",
    "category",
    "occurred_at",
    "latitude",
    "longitude",
    "state",
    "outcome",
    "limb",
    "standing",
    "severity",
    "sequence",
    "rulebook_version",
    "round",
    "level",
    "successor",
    "merged_into",
    "digest",
    "decided_at",
)
WAITING = ("queued", "failed")
"""Deliveries that may still be called off."""


async def save(connection: AsyncConnection, changes: ChangeSet, now: datetime) -> None:
    """All of it but the events, which `Escalation.emit` puts into the outbox of the same transaction."""
    await _save_cases(connection, [case for case in changes.cases.values() if case.decision is not None])
    await _save_filed(connection, [case for case in changes.cases.values() if case.decision is None])
    await _call_off(connection, changes, now)
    for case, report_ids in changes.moved:
        await _move_reports(connection, case.incident_id, report_ids)
    await copy(connection, report, [_report_row(joined) for joined in changes.reports])
    await copy(connection, finding, _finding_rows(changes.findings))
    await copy(connection, decision, [_decision_row(made, now) for made in changes.decisions])
    await copy(connection, notice, [_notice_row(n) for n in changes.notices])
    await copy(connection, delivery, _delivery_rows(changes.notices, now))
    await copy(connection, deadline, [_deadline_row(d, now) for d in changes.deadlines])
    links = [{"incident_id": a, "other_id": b, "reason": reason, "made_at": now} for a, b, reason in changes.related]
    if links:
        await connection.execute(upsert(link).on_conflict_do_nothing(), links)


async def _save_cases(connection: AsyncConnection, cases: Sequence[Case]) -> None:
    await copy(connection, incident, [_incident_row(case) for case in cases if case.is_new])
    if changed := [_incident_row(case) for case in cases if not case.is_new]:
        statement = update(incident).where(incident.c.incident_id == bindparam("id"))
        rows = [{"id": row["incident_id"]} | {f"new_{name}": row[name] for name in CHANGING} for row in changed]
        await connection.execute(statement.values({name: bindparam(f"new_{name}") for name in CHANGING}), rows)


async def _save_filed(connection: AsyncConnection, cases: Sequence[Case]) -> None:
    """Incidents to which reports came that can change nothing."""
    if not cases:
        return
    await connection.execute(
        text(
            "UPDATE escalation.incident SET sequence = filed.sequence, digest = filed.digest"
            " FROM unnest(CAST(:ids AS text[]), CAST(:sequences AS int[]), CAST(:digests AS text[]))"
            " AS filed (id, sequence, digest) WHERE incident_id = filed.id"
        ),
        {
            "ids": [case.incident_id for case in cases],
            "sequences": [case.sequence for case in cases],
            "digests": [case.summary.model_dump_json(exclude_defaults=True) for case in cases],
        },
    )


async def _call_off(connection: AsyncConnection, changes: ChangeSet, now: datetime) -> None:
    """Due times and messages that what was decided has overtaken."""
    by_kinds: dict[tuple[str, ...], list[str]] = {}
    for incident_id, kinds in changes.cancelled_timers.items():
        by_kinds.setdefault(tuple(sorted(kinds)), []).append(incident_id)
    for kinds, incident_ids in by_kinds.items():
        await connection.execute(
            update(deadline)
            .where(deadline.c.incident_id.in_(incident_ids), deadline.c.kind.in_(kinds))
            .where(deadline.c.state == "pending")
            .values(state="cancelled")
        )
    if changes.ended:
        await connection.execute(
            update(deadline)
            .where(deadline.c.incident_id.in_(changes.ended), deadline.c.state == "pending")
            .values(state="cancelled")
        )
    of_ended = [notice.c.incident_id.in_(changes.ended) & not_(_goes_all_the_same(changes))] if changes.ended else []
    of_persons = [
        (notice.c.incident_id == incident_id) & notice.c.recipient.in_(persons)
        for incident_id, persons in changes.withdrawn.items()
    ]
    if of_ended or of_persons:
        notices = select(notice.c.notice_id).where(or_(*of_ended, *of_persons))
        if of_persons:
            await connection.execute(update(notice).where(or_(*of_persons)).values(withdrawn_at=now))
        await connection.execute(
            update(deadline)
            .where(deadline.c.notice_id.in_(notices), deadline.c.state == "pending")
            .values(state="cancelled")
        )
        await call_off_deliveries(connection, notices, now)


def _goes_all_the_same(changes: ChangeSet) -> ColumnElement[bool]:
    """That the rule applies to it, of what went to the police: they have it, and the post-holders answer for it."""
    to_police = [id_ for id_ in changes.ended if changes.cases[id_].state == "handed_off"]
    return notice.c.incident_id.in_(to_police) & (notice.c.purpose == "accountable")


async def call_off_deliveries(connection: AsyncConnection, notice_ids: Any, now: datetime) -> None:
    """`notice_ids`: a collection or a query of them."""
    await connection.execute(
        update(delivery)
        .where(delivery.c.notice_id.in_(notice_ids), delivery.c.state.in_(WAITING))
        .values(state="cancelled", finished_at=now)
    )


async def _move_reports(connection: AsyncConnection, incident_id: str, report_ids: Sequence[str]) -> None:
    await connection.execute(
        text(
            "UPDATE escalation.report SET incident_id = :incident, position = moved.position"
            " FROM unnest(CAST(:ids AS text[])) WITH ORDINALITY AS moved (report_id, position)"
            " WHERE report.report_id = moved.report_id"
        ),
        {"incident": incident_id, "ids": list(report_ids)},
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
        "rulebook_version": case.rulebook_version,
        "round": case.round,
        "level": case.level,
        "successor": case.successor.model_dump(mode="json") if case.successor else None,
        "merged_into": case.merged_into,
        "digest": case.summary.model_dump_json(exclude_defaults=True),
        "decided_at": case.decided_at,
    }


def _report_row(joined: AssignedReport) -> dict[str, Any]:
    data = joined.event.data
    texts = {"description": data.description, "neighbourhood": data.neighbourhood, "location": data.location}
    personal = {name: committed.value for name, committed in texts.items() if committed is not None}
    return {
        "report_id": data.report_id,
        "event_id": joined.event.id,
        "incident_id": joined.case.incident_id,
        "position": joined.position,
        "facts": joined.facts.model_dump_json(exclude_none=True),
        "personal": personal or None,
    }


def _finding_rows(findings: Sequence[tuple[Case, Finding]]) -> list[dict[str, Any]]:
    return [
        found.model_dump(exclude={"content"})
        | {
            "incident_id": case.incident_id,
            "position": case.findings.index(found) + 1,
            "content": found.model_dump(mode="json")["content"],
        }
        for case, found in findings
    ]


def _decision_row(made: MadeDecision, now: datetime) -> dict[str, Any]:
    return {
        "decision_id": made.decision_id,
        "incident_id": made.case.incident_id,
        "number": made.number,
        "previous_id": made.previous,
        "record": record_bytes(made.decision),
        "inputs": made.inputs.model_dump_json(),
        "exercise": made.decision.exercise,
        "made_at": now,
    }


def _notice_row(issued: IssuedNotice) -> dict[str, Any]:
    return {
        "notice_id": issued.notice_id,
        "incident_id": issued.case.incident_id,
        "decision_id": issued.decision_id,
        "recipient": issued.notice.recipient,
        "purpose": issued.notice.purpose,
        "posts": list(issued.notice.posts),
        "title": issued.title,
        "body": issued.body,
        "exercise": issued.case.anchor.exercise,
        "issued_at": issued.issued_at,
        "due_at": issued.due_at,
        "round": issued.round,
    }


def _delivery_rows(notices: Sequence[IssuedNotice], now: datetime) -> list[dict[str, Any]]:
    return [
        {"delivery_id": uuid7(now), "notice_id": n.notice_id, "channel": channel, "state": "queued", "next_at": at}
        for n in notices
        for channel, at in n.channels
    ]


def _deadline_row(new: NewDeadline, now: datetime) -> dict[str, Any]:
    return {
        "deadline_id": uuid7(now),
        "incident_id": new.case.incident_id,
        "notice_id": new.notice_id,
        "kind": new.kind,
        "due_at": new.due_at,
        "state": "pending",
        "level": new.level,
    }

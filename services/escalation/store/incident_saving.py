"""Write the change set of a transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, not_, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.incidents.change_set import (
    Acknowledgement,
    AssignedReport,
    ChangeSet,
    IssuedNotice,
    MadeDecision,
    NewTimer,
)
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import Case, Incident, IncidentRow
from services.escalation.domain.notices.delivery_state import CANCELLED, WAITING
from services.escalation.domain.rules.record import record_bytes
from services.escalation.store.deliveries import queued
from services.escalation.store.incident_row import CHANGING, summary_text, to_row
from services.escalation.store.tables import (
    SENDER_REPORT_ID,
    deadline,
    decision,
    delivery,
    finding,
    incident,
    link,
    notice,
    report,
    timeline,
)
from services.escalation.store.timeline import Line
from services.escalation.store.timeline import rows as timeline_rows
from shared.database import any_of
from shared.events import ReportReceivedV2Data
from shared.ids import uuid7
from shared.inserting import Rows, insert_rows


async def save(connection: AsyncConnection, changes: ChangeSet, now: datetime, lines: Sequence[Line]) -> None:
    """Write all of it except what goes to the outbox. `lines`: its events, for the timeline."""
    decided = [i for i in changes.incidents.values() if isinstance(i, Incident)]
    new = [i for i in decided if isinstance(i, Case) and i.is_new]
    await _save_decided(connection, [i for i in decided if i not in new])
    await _save_rows(connection, [i for i in changes.incidents.values() if not isinstance(i, Incident)])
    for acknowledgement in changes.acknowledgements:
        await _acknowledge(connection, acknowledgement)
    await _cancel_obsolete(connection, changes, now)
    for incident_id, who in changes.lapse_waits_for.items():
        lapse = (deadline.c.incident_id == incident_id) & (deadline.c.kind == "lapse")
        await connection.execute(update(deadline).where(lapse, deadline.c.state == "pending").values(who=list(who)))
    rows: dict[Table, Rows] = {
        incident: [to_row(i) for i in new],
        report: [_report_row(assigned) for assigned in changes.reports],
        finding: _finding_rows(changes.findings),
        decision: [_decision_row(made, now) for made in changes.decisions],
        notice: [_notice_row(n) for n in changes.notices],
        delivery: _delivery_rows(changes.notices, now),
        deadline: [_deadline_row(timer, now) for timer in changes.timers],
    }
    await insert_rows(connection, rows | {timeline: timeline_rows(lines)})
    for case, report_ids in changes.moved:
        await _move_reports(connection, case.incident_id, report_ids)
    links = [{"incident_id": a, "other_id": b, "reason": reason, "made_at": now} for a, b, reason in changes.related]
    if links:
        await connection.execute(upsert(link).on_conflict_do_nothing(), links)


async def _save_decided(connection: AsyncConnection, changed: Sequence[Incident]) -> None:
    if not changed:
        return
    statement = update(incident).where(incident.c.incident_id == bindparam("id"))
    rows = [{"id": row["incident_id"]} | {f"new_{n}": row[n] for n in CHANGING} for row in map(to_row, changed)]
    await connection.execute(statement.values({name: bindparam(f"new_{name}") for name in CHANGING}), rows)


async def _save_rows(connection: AsyncConnection, found: Sequence[IncidentRow]) -> None:
    """Save incidents of which only the row was loaded: their sequence number and report summary."""
    if not found:
        return
    await connection.execute(
        text(
            "UPDATE escalation.incident SET sequence = filed.sequence, digest = filed.digest"
            " FROM unnest(CAST(:ids AS text[]), CAST(:sequences AS int[]), CAST(:digests AS text[]))"
            " AS filed (id, sequence, digest) WHERE incident_id = filed.id"
        ),
        {
            "ids": [i.incident_id for i in found],
            "sequences": [i.sequence for i in found],
            "digests": [summary_text(i) for i in found],
        },
    )


async def _acknowledge(connection: AsyncConnection, given: Acknowledgement) -> None:
    await connection.execute(
        update(notice)
        .where(any_of(notice.c.notice_id, given.notice_ids), notice.c.acknowledged_at.is_(None))
        .values(acknowledged_at=given.at, acknowledged_by=given.by)
    )
    await _cancel_timers(connection, any_of(deadline.c.notice_id, given.notice_ids))
    await _cancel_deliveries(connection, given.notice_ids, given.at)


async def _cancel_obsolete(connection: AsyncConnection, changes: ChangeSet, now: datetime) -> None:
    """Cancel the timers and deliveries that the changes make obsolete."""
    by_kinds: dict[tuple[str, ...], list[str]] = {}
    for incident_id, kinds in changes.cancelled_timers.items():
        by_kinds.setdefault(tuple(sorted(kinds)), []).append(incident_id)
    for kinds, incident_ids in by_kinds.items():
        await _cancel_timers(connection, deadline.c.incident_id.in_(incident_ids) & deadline.c.kind.in_(kinds))
    if changes.ended:
        await _cancel_timers(connection, deadline.c.incident_id.in_(changes.ended))
    to_withdrawn = _to_withdrawn(changes)
    ended = [notice.c.incident_id.in_(changes.ended) & not_(_is_still_sent(changes))] if changes.ended else []
    if ended or to_withdrawn:
        notices = select(notice.c.notice_id).where(or_(*ended, *to_withdrawn))
        if to_withdrawn:
            await connection.execute(update(notice).where(or_(*to_withdrawn)).values(withdrawn_at=now))
        await _cancel_timers(connection, deadline.c.notice_id.in_(notices))
        await _cancel_deliveries(connection, notices, now)
    for incident_id, purposes in changes.superseded_purposes.items():
        which = (notice.c.incident_id == incident_id) & notice.c.purpose.in_(sorted(purposes))
        # withdrawn as well: what is under way is not tried again, and a new channel does not bring it
        await connection.execute(update(notice).where(which, notice.c.withdrawn_at.is_(None)).values(withdrawn_at=now))
        await _cancel_deliveries(connection, select(notice.c.notice_id).where(which), now)


def _to_withdrawn(changes: ChangeSet) -> list[ColumnElement[bool]]:
    return [
        (notice.c.incident_id == incident_id) & notice.c.recipient.in_(persons)
        for incident_id, persons in changes.withdrawn.items()
    ]


def _is_still_sent(changes: ChangeSet) -> ColumnElement[bool]:
    """Condition on notices that are sent although their incident ended.

    The post-holders of an incident that went to the police are still notified that the rule applies.
    """
    to_police = [id_ for id_ in changes.ended if changes.incidents[id_].state == "handed_off"]
    return notice.c.incident_id.in_(to_police) & (notice.c.purpose == "accountable")


async def _cancel_timers(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    await connection.execute(update(deadline).where(which, deadline.c.state == "pending").values(state="cancelled"))


async def _cancel_deliveries(connection: AsyncConnection, notice_ids: Any, now: datetime) -> None:
    """Cancel unsent deliveries. `notice_ids`: a collection of ids, or a query for them."""
    await connection.execute(
        update(delivery)
        .where(delivery.c.notice_id.in_(notice_ids), delivery.c.state.in_(WAITING))
        .values(state=CANCELLED, finished_at=now)
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


def _report_row(assigned: AssignedReport) -> dict[str, Any]:
    data = assigned.event.data
    texts = {"description": data.description, "neighbourhood": data.neighbourhood, "location": data.location}
    if isinstance(data, ReportReceivedV2Data):
        texts[SENDER_REPORT_ID] = data.sender_report_id
    personal = {name: committed.value for name, committed in texts.items() if committed is not None}
    return {
        "report_id": data.report_id,
        "event_id": assigned.event.id,
        "incident_id": assigned.incident.incident_id,
        "position": assigned.position,
        "facts": assigned.facts.model_dump_json(exclude_none=True),
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
        "event_id": made.event_id,
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
        "event_id": issued.event_id,
        "incident_id": issued.incident.incident_id,
        "decision_id": issued.decision_id,
        "recipient": issued.notice.recipient,
        "purpose": issued.notice.purpose,
        "posts": list(issued.notice.posts),
        "title": issued.title,
        "body": issued.body,
        "exercise": issued.exercise,
        "issued_at": issued.issued_at,
        "due_at": issued.due_at,
        "round": issued.round,
    }


def _delivery_rows(notices: Sequence[IssuedNotice], now: datetime) -> list[dict[str, Any]]:
    return [queued(n.notice_id, channel, at, now) for n in notices for channel, at in n.channels]


def _deadline_row(new: NewTimer, now: datetime) -> dict[str, Any]:
    return {
        "deadline_id": uuid7(now),
        "incident_id": new.incident.incident_id,
        "notice_id": new.notice_id,
        "kind": new.kind,
        "due_at": new.due_at,
        "state": "pending",
        "level": new.level,
        "set_at": None if new.by_calendar else now,
        "who": list(new.who),
        "since": now,
    }

"""Load incidents, and lock them for the transaction that changes them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson
from sqlalchemy import Integer, Select, Text, func, literal, select, update
from sqlalchemy import cast as cast_sql
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.directory.model import LEADERSHIP, OFFICES, UnitKey
from services.escalation.domain.incidents.correlation import Occurrence, Point
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import Case, Incident, IncidentRow, TimerKind
from services.escalation.domain.incidents.obligations import PURPOSES
from services.escalation.domain.notices.delivery_state import GOT_THROUGH, UNFINISHED
from services.escalation.domain.notices.notification import ASKING, EACH_ROUND
from services.escalation.domain.rules.accountability import ReportFacts, time_of_occurrence
from services.escalation.domain.rules.record import Decision
from services.escalation.store.incident_row import from_row
from services.escalation.store.tables import (
    SENDER_REPORT_ID,
    deadline,
    decision,
    delivery,
    finding,
    incident,
    notice,
    report,
)
from shared.blocking import letting_others_run
from shared.database import any_of
from shared.taxonomy import categories


async def locked(connection: AsyncConnection, incident_ids: Sequence[str]) -> list[IncidentRow]:
    """Lock these incidents for this transaction, and return them in order of id."""
    return await _locked(connection, select(incident).where(any_of(incident.c.incident_id, incident_ids)))


# FOR NO KEY UPDATE: whoever inserts a row that only refers to an incident, such as a link, does not wait for us
async def _locked(connection: AsyncConnection, query: Select[Any]) -> list[IncidentRow]:
    rows = await connection.execute(query.order_by(incident.c.incident_id).with_for_update(key_share=True))
    return [from_row(row) for row in rows]


async def with_standing(connection: AsyncConnection, rows: Collection[IncidentRow]) -> list[Incident]:
    """Return the incidents with their standing decision, who was notified, and what is pending.

    They cannot be evaluated: use `with_history` for that.
    """
    found = [Incident(**row.row_fields()) for row in rows]
    await _add_standing(connection, found)
    return found


async def with_history(connection: AsyncConnection, rows: Collection[IncidentRow]) -> list[Case]:
    """Return the incidents as cases: also with their reports and findings."""
    found = [Case(**row.row_fields()) for row in rows]
    cases = {case.incident_id: case for case in found}
    if cases:
        await _add_reports(connection, cases)
        await _add_findings(connection, cases)
    await _add_standing(connection, found)
    return found


async def _add_standing(connection: AsyncConnection, found: Sequence[Incident]) -> None:
    incidents = {i.incident_id: i for i in found}
    if incidents:
        await _add_decisions(connection, incidents)
        await _add_notified(connection, incidents)
        await _add_pending(connection, incidents)


async def _add_notified(connection: AsyncConnection, incidents: dict[str, Incident]) -> None:
    names = ("incident_id", "recipient", "purpose", "posts", "round", "acknowledged_by")
    rows = await connection.execute(
        select(*(notice.c[name] for name in names)).where(any_of(notice.c.incident_id, list(incidents)))
    )
    assessed = [i.incident_id for i in incidents.values() if i.summary.assessed]
    for incident_id, since in (await rounds_of_corrections(connection, assessed)).items():
        incidents[incident_id].told_since = since
    told_of_lost: dict[str, Incident] = {}
    for row in rows:
        found = incidents[row.incident_id]
        if row.round < found.told_since:
            continue
        if row.purpose in PURPOSES["lost_notice"]:
            told_of_lost[row.incident_id] = found
        found.leadership_told |= row.recipient == LEADERSHIP and row.purpose != "stand_down"
        # whoever acknowledged for an office has not done so for a post that they may get later
        if row.round == found.round and row.acknowledged_by is not None and row.recipient not in OFFICES:
            found.acknowledged |= {(who, post) for who in (row.recipient, row.acknowledged_by) for post in row.posts}
        if row.round == found.round and row.purpose in ASKING:
            found.ack_requested |= {(row.recipient, post) for post in row.posts}
        if row.purpose not in EACH_ROUND or row.round == found.round:
            found.record_notified(row.recipient, row.purpose, row.posts)
    await find_lost(connection, told_of_lost.values())


async def find_lost(connection: AsyncConnection, incidents: Collection[Incident]) -> None:
    """Set whom this round's request did not reach, as it is stored now.

    Loading an incident does so only if the desk was told that somebody was not reached.
    """
    if not incidents:
        return
    arrives = select(literal(1)).where(
        delivery.c.notice_id == notice.c.notice_id, delivery.c.state.in_(sorted({*GOT_THROUGH, *UNFINISHED}))
    )
    rows = await connection.execute(
        select(notice.c.incident_id, notice.c.recipient, notice.c.posts, notice.c.round)
        .where(any_of(notice.c.incident_id, [i.incident_id for i in incidents]), notice.c.purpose.in_(sorted(ASKING)))
        .where(notice.c.acknowledged_at.is_(None), notice.c.withdrawn_at.is_(None), ~arrives.exists())
    )
    by_id = {found.incident_id: found for found in incidents}
    for found in incidents:
        found.lost = set()
    for row in rows:
        if row.round == by_id[row.incident_id].round:
            by_id[row.incident_id].lost |= {(row.recipient, post) for post in row.posts}


async def rounds_of_corrections(connection: AsyncConnection, incident_ids: Sequence[str]) -> dict[str, int]:
    """Return the round that the last correction began, by incident. What was told before is no longer true."""
    if not incident_ids:
        return {}
    began = cast_sql(finding.c.content["round"].astext, Integer)
    rows = await connection.execute(
        select(finding.c.incident_id, func.max(began).label("round"))
        .where(any_of(finding.c.incident_id, incident_ids), finding.c.kind == "correction")
        .where(finding.c.content.has_key("round"))
        .group_by(finding.c.incident_id)
    )
    return {row.incident_id: row.round for row in rows}


async def _add_pending(connection: AsyncConnection, incidents: dict[str, Incident]) -> None:
    rows = await connection.execute(
        select(deadline.c.incident_id, deadline.c.kind).where(
            any_of(deadline.c.incident_id, list(incidents)), deadline.c.state == "pending"
        )
    )
    for row in rows:
        incidents[row.incident_id].pending.add(cast("TimerKind", row.kind))


async def _add_reports(connection: AsyncConnection, cases: dict[str, Case]) -> None:
    rows = await connection.execute(
        select(report.c.incident_id, cast_sql(report.c.facts, Text).label("facts"))
        .where(any_of(report.c.incident_id, list(cases)))
        .order_by(report.c.incident_id, report.c.position)
    )
    async for row in letting_others_run(rows):
        cases[row.incident_id].reports.append(ReportFacts.model_validate_json(row.facts))
    for case in cases.values():
        if case.summary.late is not None:
            counted = case.summary.count
            case.reports, case.late_reports = case.reports[:counted], case.reports[counted:]


async def _add_findings(connection: AsyncConnection, cases: dict[str, Case]) -> None:
    rows = await connection.execute(
        select(finding)
        .where(any_of(finding.c.incident_id, list(cases)))
        .order_by(finding.c.incident_id, finding.c.position)
    )
    for row in rows:
        fields = {name: getattr(row, name) for name in Finding.model_fields}
        cases[row.incident_id].findings.append(Finding(**fields))


async def _add_decisions(connection: AsyncConnection, incidents: dict[str, Incident]) -> None:
    latest = await connection.execute(
        select(
            decision.c.incident_id, decision.c.decision_id, decision.c.number, decision.c.record, decision.c.event_id
        )
        .where(any_of(decision.c.incident_id, list(incidents)))
        .ext(distinct_on(decision.c.incident_id))
        .order_by(decision.c.incident_id, decision.c.number.desc())
    )
    for row in latest:
        found = incidents[row.incident_id]
        found.decision_id, found.decision_number = row.decision_id, row.number
        found.decision_event = row.event_id
        found.decision = Decision.model_validate_json(row.record)


async def merged_into(connection: AsyncConnection, incident_id: str) -> list[str]:
    """Return the ids of incidents that were merged into this one. They are fixed while its unit is locked."""
    return list(await connection.scalars(select(incident.c.incident_id).where(incident.c.merged_into == incident_id)))


async def redirect_merged(connection: AsyncConnection, incident_id: str, into: str) -> None:
    """Redirect to `into` all incidents that were merged into this one."""
    await connection.execute(update(incident).where(incident.c.merged_into == incident_id).values(merged_into=into))


async def own_ids(connection: AsyncConnection, incident_id: str) -> dict[str, list[str]]:
    """Return our ids of the incident's reports by the ids that their senders gave them."""
    theirs = report.c.personal[SENDER_REPORT_ID].astext
    rows = await connection.execute(
        select(theirs.label("theirs"), report.c.report_id)
        .where(report.c.incident_id == incident_id, theirs.is_not(None))
        .order_by(report.c.position)
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.theirs, []).append(row.report_id)
    return found


async def occurrence_of_report(connection: AsyncConnection, report_id: str, like: Occurrence) -> Occurrence:
    """Return what a stored report is about. It has no point if that was erased.

    `like`: an occurrence of the same unit.
    """
    row = (await connection.execute(select(report).where(report.c.report_id == report_id))).one()
    facts = ReportFacts.model_validate(row.facts)
    place = orjson.loads((row.personal or {}).get("location") or "null")
    return replace(
        like,
        family=categories()[facts.category].family,
        at=time_of_occurrence(facts.occurred_at, facts.received_at),
        point=Point(float(place["latitude"]), float(place["longitude"])) if place else None,
    )


async def units_of(connection: AsyncConnection, incident_ids: Collection[str]) -> dict[str, UnitKey]:
    """Return the units of these incidents by id, without those that are unknown.

    Only who holds the locks of both units moves an incident from one to the other.
    """
    columns = (incident.c.incident_id, incident.c.unit_code, incident.c.unit_valid_from)
    rows = await connection.execute(select(*columns).where(any_of(incident.c.incident_id, incident_ids)))
    return {row.incident_id: (row.unit_code, row.unit_valid_from) for row in rows}

"""What must be true of a city's records after any faults, each broken promise in a sentence."""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.cli.auditing import verify_source
from services.escalation.store import deadlines
from services.escalation.store import tables as escalation_tables
from services.intake.store import outbox as intake_outbox
from services.ledger.app import signer
from shared import messaging
from shared.database import connect
from shared.identity import Principal
from shared.messaging import ESCALATION, INTAKE, is_transient
from tests.faults.house import House

SHOWN = 5
"""Examples of a broken promise that are named; the rest are counted."""

# Each query returns what breaks the promise that it stands for.
PROMISES = {
    "the receipt of report {} names another incident than escalation, or none": """
        SELECT r.report_id FROM intake.report r LEFT JOIN escalation.report e USING (report_id)
        WHERE e.incident_id IS DISTINCT FROM r.incident OR e.event_id IS DISTINCT FROM r.event_id
    """,
    "escalation knows report {}, which intake never accepted": """
        SELECT e.report_id FROM escalation.report e LEFT JOIN intake.report r USING (report_id)
        WHERE r.report_id IS NULL
    """,
    "the reports of incident {} are not numbered from 1 without a gap": """
        SELECT incident_id FROM escalation.report GROUP BY incident_id
        HAVING (min(position), max(position), count(DISTINCT position)) <> (1, count(*), count(*))
    """,
    "the decisions of incident {} are not numbered from 1 without a gap, or there is none": """
        SELECT i.incident_id FROM escalation.incident i LEFT JOIN escalation.decision d USING (incident_id)
        GROUP BY i.incident_id
        HAVING (min(d.number), max(d.number), count(DISTINCT d.number)) IS DISTINCT FROM (1, count(*), count(*))
    """,
    "decision {} is not linked to the one before it": """
        SELECT d.decision_id FROM escalation.decision d LEFT JOIN escalation.decision p
            ON p.incident_id = d.incident_id AND p.number = d.number - 1
        WHERE d.previous_id IS DISTINCT FROM p.decision_id
    """,
    "incident, recipient and purpose {} have more than one notice": """
        SELECT (incident_id, recipient, purpose)::text FROM escalation.notice
        GROUP BY incident_id, recipient, purpose HAVING count(*) > 1
    """,
    "delivery {} is neither sent nor made needless by an acknowledgement": """
        SELECT d.delivery_id FROM escalation.delivery d JOIN escalation.notice n USING (notice_id)
        WHERE d.state <> 'sent' AND NOT (d.state = 'cancelled' AND n.acknowledged_at IS NOT NULL)
    """,
    "deadline {} has passed and nothing was done": """
        SELECT deadline_id FROM escalation.deadline WHERE state = 'pending' AND due_at <= :now
    """,
    "report {} has not exactly one entry in the ledger": """
        SELECT r.report_id FROM intake.report r LEFT JOIN ledger.entry e
            ON e.event_id = r.event_id AND e.kind = 'report.received'
        GROUP BY r.report_id HAVING count(e.idx) <> 1
    """,
    "the ledger has a report.received {} that intake does not know": """
        SELECT e.event_id FROM ledger.entry e LEFT JOIN intake.report r USING (event_id)
        WHERE e.kind = 'report.received' AND r.event_id IS NULL
    """,
    # An incident numbers its events itself, so a gap here is an event that got lost on its way to the ledger.
    "the events of incident {} are not in the ledger from 1 to its last, each once": """
        SELECT i.incident_id FROM escalation.incident i LEFT JOIN (
            SELECT incident, (convert_from(body, 'UTF8')::jsonb #>> '{data,sequence}')::int AS sequence
            FROM ledger.entry WHERE incident IS NOT NULL
        ) e ON e.incident = i.incident_id
        GROUP BY i.incident_id, i.sequence
        HAVING (min(e.sequence), max(e.sequence), count(DISTINCT e.sequence), count(*))
            IS DISTINCT FROM (1, i.sequence, i.sequence, i.sequence)
    """,
    "the ledger has events of incident {}, which escalation does not know": """
        SELECT e.incident FROM ledger.entry e LEFT JOIN escalation.incident i ON i.incident_id = e.incident
        WHERE e.incident IS NOT NULL AND i.incident_id IS NULL
    """,
    "an event of service {} is dead": """
        SELECT 'intake' FROM intake.dead_letter UNION ALL SELECT 'escalation' FROM escalation.dead_letter
        UNION ALL SELECT 'ledger' FROM ledger.dead_letter
    """,
}

# Rows of a table, and the ledger's entries about them: one entry each, and no entry more.
RECORDED = {
    "decision.made": ("decision_id", "SELECT decision_id FROM escalation.decision"),
    "notice.issued": ("notice_id", "SELECT notice_id FROM escalation.notice"),
    "delivery.finished": ("delivery_id", "SELECT delivery_id FROM escalation.delivery WHERE state = 'sent'"),
    "acknowledgement.recorded": (
        "notice_id",
        "SELECT notice_id FROM escalation.notice WHERE acknowledged_at IS NOT NULL",
    ),
    "report.correlated": ("report_id", "SELECT report_id FROM escalation.report"),
    "tenure.recorded": ("tenure_id", "SELECT tenure_id FROM escalation.tenure"),
    "rulebook.adopted": ("version", "SELECT version FROM escalation.rulebook"),
}
ENTRIES_ABOUT = text("""
    SELECT convert_from(body, 'UTF8')\\:\\:jsonb #>> ARRAY['data', :key] FROM ledger.entry WHERE kind = :kind
""")


async def findings(house: House, accepted: Collection[str], acknowledged: Collection[str]) -> list[str]:
    """Every promise that is broken; empty when nothing was lost and nothing was doubled."""
    engine = connect(str(house.settings.database_url))
    try:
        async with engine.connect() as connection:
            found = [
                *await _lost(connection, accepted, acknowledged),
                *await _broken_promises(connection, house.now()),
                *await _unequal_records(connection),
                *await _untold(connection, house),
            ]
    finally:
        await engine.dispose()
    return [*found, *await _unverified(house)]


async def unsettled(house: House) -> list[str]:
    """What is still under way; empty once the system has recovered from all that was done to it."""
    engine = connect(str(house.settings.database_url))
    redis = messaging.connect(str(house.settings.redis_url))
    streams = {**messaging.streams(INTAKE, 1), **messaging.streams(ESCALATION, 1)}
    outboxes = ((engine, intake_outbox), (engine, escalation_tables.outbox))
    try:
        found = await house.not_ready()
        if not await messaging.settled(redis, outboxes, streams):
            groups = [str(group) for group in await messaging.progress(redis, streams) if not group.caught_up]
            found.append(f"events are not yet with everybody: {'; '.join(groups) or 'some are not published'}")
        async with engine.connect() as connection:
            if not await deadlines.is_idle(connection, house.now()):
                found.append("a delivery or a deadline is due")
            for _, outbox in outboxes:
                if left := await connection.scalar(text(f"SELECT count(*) FROM {outbox.rows.fullname}")):
                    found.append(f"{outbox.rows.fullname} still has {left} events that everybody should have")
        return found
    finally:
        await redis.aclose()
        await engine.dispose()


async def _unsettled_or_away(house: House) -> list[str]:
    """A server that has not come back from the last fault is one more thing that has not settled."""
    try:
        return await unsettled(house)
    except Exception as error:
        if not is_transient(error):
            raise
        return [f"a server is away: {type(error).__name__}"]


async def until_recovered(house: House, seconds: float) -> None:
    """Raises AssertionError that names what did not come to rest in time."""
    left: list[str] = ["nothing was looked at"]
    try:
        async with asyncio.timeout(seconds):
            while left := await _unsettled_or_away(house):  # noqa: ASYNC110 - the event is in other processes
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not recovered after {seconds:.0f} s: {'; '.join(left)}") from None


async def _lost(connection: AsyncConnection, accepted: Collection[str], acknowledged: Collection[str]) -> list[str]:
    stored = set(await connection.scalars(text("SELECT report_id FROM escalation.report")))
    seen = set(
        await connection.scalars(text("SELECT notice_id FROM escalation.notice WHERE acknowledged_at IS NOT NULL"))
    )
    return [
        *_named("report {} was accepted and has no incident", set(accepted) - stored),
        *_named("report {} has an incident, but no sender was told that it was accepted", stored - set(accepted)),
        *_named("the acknowledgement of notice {} was answered and is lost", set(acknowledged) - seen),
    ]


async def _broken_promises(connection: AsyncConnection, now: datetime) -> list[str]:
    found: list[str] = []
    for promise, query in PROMISES.items():
        parameters = {"now": now} if ":now" in query else {}
        rows = await connection.scalars(text(query.replace("::", "\\:\\:")), parameters)
        found += _named(promise, list(rows))
    return found


async def _unequal_records(connection: AsyncConnection) -> list[str]:
    found: list[str] = []
    for kind, (key, query) in RECORDED.items():
        rows = list(await connection.scalars(text(query)))
        entries = await connection.scalars(ENTRIES_ABOUT, {"key": key, "kind": kind})
        recorded = Counter(entries)
        twice = [id_ for id_, count in recorded.items() if count > 1]
        found += _named(f"{key} {{}} has no {kind} in the ledger", set(rows) - recorded.keys())
        found += _named(f"{key} {{}} has a {kind} in the ledger and is not stored", recorded.keys() - set(rows))
        found += _named(f"{key} {{}} has more than one {kind} in the ledger", twice)
    return found


async def _untold(connection: AsyncConnection, house: House) -> list[str]:
    query = "SELECT DISTINCT notice_id FROM escalation.delivery WHERE state = 'sent'"
    sent = set(await connection.scalars(text(query)))
    lines = await asyncio.to_thread(house.outbox.read_text, encoding="utf-8")
    reached: set[str] = {json.loads(line)["notice_id"] for line in lines.splitlines()}
    issued = set(await connection.scalars(text("SELECT notice_id FROM escalation.notice")))
    return [
        *_named("notice {} counts as sent and reached nobody", sent - reached),
        *_named("notice {} reached somebody and was never issued", reached - issued),
    ]


async def _unverified(house: House) -> list[str]:
    token = house.header(Principal("kiem-toan", "auditor"))["authorization"].removeprefix("Bearer ")
    vkey = signer(house.settings).verifier.vkey()
    report = await asyncio.to_thread(verify_source, house.urls["ledger"], vkey, token, None)
    return [f"the ledger does not verify: {failure}" for failure in report.failures]


def _named(promise: str, broken: Iterable[Any]) -> list[str]:
    items = sorted(str(item) for item in broken)
    more = [f"… and {len(items) - SHOWN} more: {promise}"] if len(items) > SHOWN else []
    return [promise.format(item) for item in items[:SHOWN]] + more


async def counts(engine: AsyncEngine) -> dict[str, int]:
    """How much there is, for the printed summary."""
    tables = ("intake.report", "escalation.incident", "escalation.decision", "escalation.notice", "ledger.entry")
    async with engine.connect() as connection:
        return {name: int(await connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0) for name in tables}

"""When each thing was there and when it was done, by the database's own record of its commits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.faults.stack import House
from tests.faults.truth import Job, Wait

_EVENTS = """
SELECT body, unit_code, extract(epoch FROM pg_xact_commit_timestamp(xmin)) AS at FROM escalation.timeline
"""
_ENTRIES = """
SELECT event_id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) AS at FROM ledger.entry
"""
_RECEIVED = "SELECT report_id, event_id, coalesce(own_id, report_id) AS own_id FROM intake.report"
_DUE_TIMES = """
SELECT notice_id, due_at, extract(epoch FROM pg_xact_commit_timestamp(xmin)) AS at FROM escalation.deadline
WHERE state = 'passed' AND notice_id IS NOT NULL
"""


class Event(NamedTuple):
    """An event of escalation, and when it was committed."""

    id: str
    type: str
    ward: str | None
    data: Mapping[str, Any]
    at: float


async def jobs(connection: AsyncConnection, house: House, accepted: Mapping[str, float]) -> list[Job]:
    """What waited for what. `accepted`: when each report was answered with success."""
    rows = (await connection.execute(text(_EVENTS))).all()
    events = [_event(row.body, row.unit_code, float(row.at)) for row in rows]
    recorded = {row.event_id: float(row.at) for row in await connection.execute(text(_ENTRIES))}
    reports = (await connection.execute(text(_RECEIVED))).all()
    received = {row.report_id: row.event_id for row in reports}
    answered = {row.own_id: accepted[row.report_id] for row in reports if row.report_id in accepted}
    due = [(row.notice_id, row.due_at, float(row.at)) for row in await connection.execute(text(_DUE_TIMES))]
    issued = {e.data["notice_id"]: e.at for e in events if e.type == "notice.issued.v1"}
    return [
        *_routing(events, answered),
        Job("events in the ledger", ("escalation", "ledger"), _waits((e.at, recorded.get(e.id)) for e in events)),
        Job(
            "reports in the ledger",
            ("intake", "ledger"),
            _waits((at, recorded.get(received.get(report_id, ""))) for report_id, at in accepted.items()),
        ),
        Job("notices sent", ("escalation",), _waits(_sendings(events, issued))),
        Job("due times acted on", ("escalation",), _waits(_dues(house, due, issued))),
    ]


def _event(body: bytes, ward: str | None, at: float) -> Event:
    read = orjson.loads(body)
    return Event(read["id"], read["type"].removeprefix("vn.trucban."), ward, read["data"], at)


def _routing(events: Iterable[Event], accepted: Mapping[str, float]) -> list[Job]:
    """One job a ward: a ward that waits is not helped by the others."""
    waits: dict[str, list[Wait]] = defaultdict(list)
    routed: set[str] = set()
    for event in sorted(events, key=lambda event: event.at):
        if event.type != "report.correlated.v1":
            continue
        report_id = event.data["report_id"]
        if report_id in accepted and report_id not in routed:
            since = accepted[report_id]
            waits[str(event.ward)].append(Wait(since, max(since, event.at)))
        routed.add(report_id)
    return [Job(f"reports of {ward} routed", ("intake", "escalation"), found) for ward, found in sorted(waits.items())]


def _sendings(events: Sequence[Event], issued: Mapping[str, float]) -> Iterable[tuple[float, float]]:
    """Of notices that a local file takes: with those only escalation is to blame for a delay."""
    for event in events:
        if event.type == "delivery.finished.v1" and event.data["channel"] == "outbox":
            yield issued.get(event.data["notice_id"], event.at), event.at


def _waits(pairs: Iterable[tuple[float, float | None]]) -> list[Wait]:
    """What was never done is told as lost or stuck, not here."""
    return [Wait(since, max(since, until)) for since, until in pairs if until is not None]


def _dues(
    house: House, due: Iterable[tuple[str, datetime, float]], issued: Mapping[str, float]
) -> Iterable[tuple[float, float]]:
    """Of due times that a notice has: they cannot be waited for before it was issued."""
    for notice_id, due_at, until in due:
        yield (
            max(shown_at(house.clocks, due_at, datetime.fromtimestamp(until, UTC)), issued.get(notice_id, until)),
            until,
        )


def shown_at(clocks: Sequence[tuple[datetime, timedelta]], due_at: datetime, before: datetime) -> float:
    """When the clocks of escalation first showed `due_at`, in real time, since they were last set back.

    `clocks`: when they were set, and how far ahead. `before`: what happened later does not count. A due time is moved
    with a clock that is set back, so what was shown before that says nothing of it.
    """
    known = [(begun, ahead) for begun, ahead in clocks if begun <= before]
    first = max((i for i, (a, b) in enumerate(pairwise(known), start=1) if b[1] < a[1]), default=0)
    for (begun, ahead), (until, _) in pairwise(known[first:]):
        if due_at - ahead < until:  # a leap over it makes it due at once
            return max(begun, due_at - ahead).timestamp()
    begun, ahead = known[-1]
    return max(begun, due_at - ahead).timestamp()

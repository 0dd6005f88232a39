"""All that the three services have stored, read at once when everything has come to rest."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from tests.integration.stored.neighbours import Entry, Received
from tests.integration.stored.records import (
    Decision,
    Delivery,
    DueTime,
    Event,
    Finding,
    Incident,
    Notice,
    Report,
    Rulebook,
    Tenure,
    dead_letters,
    every,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Kept:
    at: datetime
    """What the clocks of escalation said when it was ended."""
    set_back: timedelta
    """How far the clocks were set back at most: of two times, the later one may be by so much the earlier."""
    inherited: int
    """How many entries the ledger had before an upgrade; 0 without one."""
    received: Sequence[Received]
    incidents: Sequence[Incident]
    reports: Sequence[Report]
    decisions: Sequence[Decision]
    findings: Sequence[Finding]
    notices: Sequence[Notice]
    deliveries: Sequence[Delivery]
    due_times: Sequence[DueTime]
    timeline: Sequence[Event]
    tenures: Sequence[Tenure]
    rulebooks: Sequence[Rulebook]
    entries: Sequence[Entry]
    dead: Sequence[str]
    """Names of services with an event that could not be handled."""

    @cached_property
    def notice(self) -> Mapping[str, Notice]:
        return {notice.notice_id: notice for notice in self.notices}

    @cached_property
    def incident(self) -> Mapping[str, Incident]:
        return {incident.incident_id: incident for incident in self.incidents}

    @cached_property
    def decisions_of(self) -> Mapping[str, Sequence[Decision]]:
        return grouped(self.decisions, lambda decision: decision.incident_id)

    @cached_property
    def findings_of(self) -> Mapping[str, Sequence[Finding]]:
        return grouped(self.findings, lambda finding: finding.incident_id)

    @cached_property
    def notices_of(self) -> Mapping[str, Sequence[Notice]]:
        return grouped(self.notices, lambda notice: notice.incident_id)

    @cached_property
    def due_times_of(self) -> Mapping[str, Sequence[DueTime]]:
        return grouped(self.due_times, lambda due: due.incident_id)

    @cached_property
    def entries_of(self) -> Mapping[str, Sequence[Entry]]:
        """Of the ledger, by incident."""
        return grouped((e for e in self.entries if e.incident is not None), lambda entry: str(entry.incident))


def grouped(items: Iterable[T], key: Callable[[T], str]) -> Mapping[str, Sequence[T]]:
    """Empty for a key that none has."""
    found: dict[str, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


async def kept(connection: AsyncConnection, at: datetime, set_back: timedelta, inherited: int) -> Kept:
    return Kept(
        at=at,
        set_back=set_back,
        inherited=inherited,
        received=await every(connection, Received),
        incidents=await every(connection, Incident),
        reports=await every(connection, Report),
        decisions=await every(connection, Decision),
        findings=await every(connection, Finding),
        notices=await every(connection, Notice),
        deliveries=await every(connection, Delivery),
        due_times=await every(connection, DueTime),
        timeline=await every(connection, Event),
        tenures=await every(connection, Tenure),
        rulebooks=await every(connection, Rulebook),
        entries=await every(connection, Entry),
        dead=await dead_letters(connection),
    )

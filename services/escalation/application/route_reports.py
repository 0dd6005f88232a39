"""Route a batch of reports: find the incident of each, and do what follows. One transaction, safe to repeat."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.incidents import grouping
from services.escalation.domain.incidents.change_set import AssignedReport, ChangeSet
from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Case
from services.escalation.domain.incidents.report import occurrence_of
from services.escalation.store import correlation, incident_loading
from shared.events import AnyReport
from shared.messaging import Left

SHOWN = 5
"""Wards that are named when more than these are locked."""


async def route_reports(escalation: Escalation, events: Sequence[AnyReport]) -> Left[AnyReport] | None:
    """Route reports in the given order. A report that was routed before is skipped.

    Reports of wards that another transaction has locked, or that have an incident which another transaction keeps
    locked, are left, and returned. So nobody who holds a ward stops the others.
    """
    occurrences = {event.id: occurrence_of(event) for event in events}
    wards = {event_id: occurrence.unit[0] for event_id, occurrence in occurrences.items()}
    async with escalation.database.begin() as connection:
        locked = await correlation.try_lock_units(connection, wards.values())
        ours = [e for e in events if wards[e.id] in locked]
        changes, busy = await _route(escalation, connection, ours, occurrences)
    if changes is not None:
        escalation.committed(changes)
    left = [e for e in events if wards[e.id] not in locked - busy]
    if not left:
        return None
    return Left(left, _names((set(wards.values()) - locked) | busy))


async def _route(
    escalation: Escalation,
    connection: AsyncConnection,
    events: Sequence[AnyReport],
    occurrences: Mapping[str, Occurrence],
) -> tuple[ChangeSet | None, set[str]]:
    """Return what was saved, or None if there was nothing to save, and the wards whose reports are left."""
    fresh = await _fresh(connection, events)
    if not fresh:
        return None, set()
    near = [occurrences[event.id] for event in fresh]
    engine = await escalation.incident_engine(connection, {o.unit for o in near})
    busy = await _load_open(connection, engine, near)
    fresh = [event for event in fresh if occurrences[event.id].unit[0] not in busy]
    if not fresh:
        return None, busy
    assigned = [grouping.assign(engine, event) for event in fresh]
    await _load_neighbours(connection, engine, assigned)
    grouping.attach_all(engine, await _with_history(connection, assigned))
    await escalation.save(connection, engine.changes, engine.now)
    return engine.changes, busy


def _names(wards: Collection[str]) -> str:
    more = f" and {len(wards) - SHOWN} more" if len(wards) > SHOWN else ""
    return f"another transaction has locked ward {', '.join(sorted(wards)[:SHOWN])}{more}"


async def _fresh(connection: AsyncConnection, events: Sequence[AnyReport]) -> list[AnyReport]:
    """Return the reports that are not known yet, each once."""
    by_id = {event.id: event for event in reversed(events)}
    known = await correlation.known_events(connection, list(by_id))
    return [event for event in events if by_id.pop(event.id, None) and event.id not in known]


async def _load_open(connection: AsyncConnection, engine: IncidentEngine, near: Sequence[Occurrence]) -> set[str]:
    """Load the open incidents that these reports could belong to, by the widest window of all rulebooks.

    Returns the wards of incidents that another transaction keeps locked.
    """
    window = max(a.rulebook.correlation.window_minutes for a in engine.rulebooks)
    found, busy = await correlation.incidents_near(connection, near, timedelta(minutes=window))
    for row in found:
        for key in {anchor.key for anchor in (row.anchor, *row.aliases)}:
            engine.open_incidents.setdefault(key, []).append(row)
    return busy


async def _load_neighbours(
    connection: AsyncConnection, engine: IncidentEngine, assigned: Sequence[AssignedReport]
) -> None:
    opened = [a.incident.anchor for a in assigned if a.outcome == "new"]
    if opened:
        policies = [a.rulebook.patterns for a in engine.rulebooks]
        wide = max(max(p.ward_window_minutes, p.related_window_minutes) for p in policies)
        engine.neighbours.update(await correlation.neighbours(connection, opened, timedelta(minutes=wide)))


async def _with_history(connection: AsyncConnection, assigned: Sequence[AssignedReport]) -> list[AssignedReport]:
    """Return the same assignments. Incidents that must be evaluated are now cases."""
    rows = {a.incident.incident_id: a.incident for a in assigned if a.matters and not isinstance(a.incident, Case)}
    cases = {case.incident_id: case for case in await incident_loading.with_history(connection, list(rows.values()))}
    return [replace(a, incident=cases.get(a.incident.incident_id, a.incident)) for a in assigned]

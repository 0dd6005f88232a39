"""Route a batch of reports: find the incident of each, and do what follows. One transaction, safe to repeat."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.application.fire_timers import fire_missed, mark_missed
from services.escalation.domain.directory.model import UnitKey, key_of
from services.escalation.domain.directory.succession import kin_of
from services.escalation.domain.incidents import grouping
from services.escalation.domain.incidents.change_set import AssignedReport, ChangeSet
from services.escalation.domain.incidents.correlation import Occurrence
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Case, IncidentRow
from services.escalation.domain.incidents.report import occurrence_of
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from services.escalation.store import correlation, directory, incident_loading
from shared.blocking import letting_others_run
from shared.events import AnyReport
from shared.messaging import Left

SHOWN = 5
"""Wards that are named when more than these are locked."""


async def route_reports(escalation: Escalation, events: Sequence[AnyReport]) -> Left[AnyReport] | None:
    """Route reports in the given order. A report that was routed before is skipped.

    Reports of wards that another transaction has locked, or that have an incident which another transaction keeps
    locked, are left, and returned. So nobody who holds a ward stops the others. Near the day on which a ward takes the
    place of another, its reports need both.
    """
    if not events:
        return None
    occurrences = {event.id: occurrence_of(event) for event in events}
    async with escalation.database.begin() as connection:
        rulebooks = await directory.rulebooks(connection)
        window = timedelta(minutes=max(a.rulebook.correlation.window_minutes for a in rulebooks))
        places = await _lock_places(connection, list(occurrences.values()), window)
        of_others = places.left()
        ours = [e for e in events if occurrences[e.id].unit not in of_others]
        changes, busy = await _route(escalation, connection, ours, occurrences, places, rulebooks, window)
    if changes is not None:
        escalation.committed(changes)
    of_others = places.left(busy)
    left = [e for e in events if occurrences[e.id].unit in of_others]
    if not left:
        return None
    return Left(left, _names(places.codes - places.locked | busy))


@dataclass(frozen=True)
class _Places:
    """The units of a batch. `kin`: for each, the units in whose incidents its reports may belong, itself included."""

    kin: Mapping[UnitKey, set[UnitKey]]
    locked: set[str]
    """Codes that this transaction has locked."""

    @property
    def codes(self) -> set[str]:
        return {code for units in self.kin.values() for code, _ in units}

    def left(self, busy: Collection[str] = ()) -> set[UnitKey]:
        """Return the units whose reports are left, because a unit that they need is not locked or is `busy`."""
        free = self.locked.difference(busy)
        return {unit for unit, units in self.kin.items() if not free.issuperset(code for code, _ in units)}


async def _lock_places(connection: AsyncConnection, occurrences: Sequence[Occurrence], window: timedelta) -> _Places:
    """Lock the units of these occurrences, and those that they followed or that took their place near that time."""
    units, times = {o.unit for o in occurrences}, [o.at for o in occurrences]
    low, high = min(times) - window, max(times) + window
    wanted, tried, locked = {code for code, _ in units}, set[str](), set[str]()
    while True:
        locked |= await correlation.try_lock_units(connection, wanted)
        tried |= wanted
        # What is read under a lock may name further units. Nobody waits here, so the order of the locks is free.
        places = _Places(kin_of(await directory.ended_near(connection, low, high), units), locked)
        wanted = places.codes - tried
        if not wanted:
            return places


async def _route(
    escalation: Escalation,
    connection: AsyncConnection,
    events: Sequence[AnyReport],
    occurrences: Mapping[str, Occurrence],
    places: _Places,
    rulebooks: Sequence[AdoptedRulebook],
    window: timedelta,
) -> tuple[ChangeSet | None, set[str]]:
    """Return what was saved, or None if there was nothing to save, and the wards whose reports are left."""
    fresh = await _fresh(connection, events)
    if not fresh:
        return None, set()
    near = [occurrences[event.id] for event in fresh]
    # The widest window of all rulebooks: which of them decides is known for each report only.
    found, busy = await correlation.incidents_near(connection, near, places.kin, window)
    of_others = places.left(busy)
    fresh = [event for event in fresh if occurrences[event.id].unit not in of_others]
    if not fresh:
        return None, busy
    engine = await escalation.incident_engine(connection, _units_of(near, places, found), rulebooks)
    for row in found:
        engine.add_near(row)
    assigned = [grouping.assign(engine, e, occurrences[e.id]) async for e in letting_others_run(fresh)]
    await _load_neighbours(connection, engine, assigned)
    assigned = await _with_history(connection, engine, assigned)
    async for each in letting_others_run(assigned):
        grouping.attach(engine, each)
    async for each in letting_others_run(grouping.decisive(assigned)):
        grouping.follow_up(engine, each)
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


def _units_of(near: Sequence[Occurrence], places: _Places, found: Sequence[IncidentRow]) -> set[UnitKey]:
    """Return the units of reports and incidents. Their successors are loaded with them."""
    kin = {unit for occurrence in near for unit in places.kin[occurrence.unit]}
    merged = {anchor.unit for row in found for anchor in row.aliases}
    acting = {key_of(row.successor) for row in found if row.successor}
    return kin | merged | acting | {key_of(row.unit) for row in found}


async def _load_neighbours(
    connection: AsyncConnection, engine: IncidentEngine, assigned: Sequence[AssignedReport]
) -> None:
    opened = [a.incident.anchor for a in assigned if a.outcome == "new"]
    if opened:
        policies = [a.rulebook.patterns for a in engine.rulebooks]
        wide = max(max(p.ward_window_minutes, p.related_window_minutes) for p in policies)
        engine.neighbours.update(await correlation.neighbours(connection, opened, timedelta(minutes=wide)))


async def _with_history(
    connection: AsyncConnection, engine: IncidentEngine, assigned: Sequence[AssignedReport]
) -> list[AssignedReport]:
    """Return the same assignments. Incidents that must be evaluated are now cases.

    Deadlines of theirs that have passed are acted on first, so that a graver report does not hide who missed one.
    """
    rows = {a.incident.incident_id: a.incident for a in assigned if a.matters and not isinstance(a.incident, Case)}
    missed = await mark_missed(connection, rows, engine.now)
    cases = {case.incident_id: case for case in await incident_loading.with_history(connection, list(rows.values()))}
    await fire_missed(connection, engine, cases.values(), missed)
    return [replace(a, incident=cases.get(a.incident.incident_id, a.incident)) for a in assigned]

"""Route a batch of reports: which incident each is about, and what follows for it. One transaction, safe to repeat."""

from collections.abc import Sequence
from datetime import timedelta

from services.escalation.application.escalation import Escalation, count
from services.escalation.domain.incidents import grouping
from services.escalation.domain.incidents.incident import occurrence_of
from services.escalation.store import incident_loading
from shared.events import ReportReceived


async def route_reports(escalation: Escalation, events: Sequence[ReportReceived]) -> None:
    """Route a batch of reports in its order. A report that is known already is left alone."""
    by_id = {event.id: event for event in reversed(events)}
    async with escalation.database.begin() as connection:
        occurrences = {id_: occurrence_of(event) for id_, event in by_id.items()}
        await incident_loading.lock_units(connection, [h.unit[0] for h in occurrences.values()])
        for known in await incident_loading.known_events(connection, list(by_id)):
            del by_id[known]
        fresh = [event for event in events if by_id.pop(event.id, None)]
        if not fresh:
            return
        near = [occurrences[event.id] for event in fresh]
        engine = await escalation.incident_engine(connection, {h.unit for h in near})
        rules = [a.rulebook for a in engine.rulebooks]
        window = timedelta(minutes=max(r.correlation.window_minutes for r in rules))
        for case in await incident_loading.cases_near(connection, near, window):
            for key in {anchor.key for anchor in (case.anchor, *case.aliases)}:
                engine.cases.setdefault(key, []).append(case)
        wide = max(max(r.patterns.ward_window_minutes, r.patterns.related_window_minutes) for r in rules)
        joined = [grouping.join(engine, event) for event in fresh]
        opened = [j.case.anchor for j in joined if j.case.is_new]
        if opened:
            engine.neighbours.update(await incident_loading.neighbours(connection, opened, timedelta(minutes=wide)))
        stored = {j.case.incident_id: j.case for j in joined if j.matters and not j.case.has_history}
        await incident_loading.with_history(connection, list(stored.values()))
        for each in joined:
            grouping.attach(engine, each)
        await escalation.save(connection, engine.changes, engine.now)
    count(engine.changes)
    escalation.wake()

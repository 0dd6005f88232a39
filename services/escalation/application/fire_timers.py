"""Fire timers that are due. Each is acted on once, whichever process does it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import UnitKey, key_of
from services.escalation.domain.incidents.change_set import ChangeSet
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.incident import Case, Incident
from services.escalation.domain.incidents.timers import DECIDES_ANEW, FiredTimer, fire
from services.escalation.store import incident_loading, timers
from shared.clock import monotonic
from shared.halving import work_in_halves
from shared.messaging import describe_error, is_transient

log = structlog.get_logger()
AT_ONCE = 500
TRIED_AGAIN_SECONDS = 60.0
"""How long an incident that fails is skipped."""


async def fire_due_timers(escalation: Escalation) -> int:
    """Act on timers that are due. Returns the number of incidents that had any.

    A batch that fails for good is halved until the failing incident is alone. Its timers stay due, and the watch
    reports them; those of the other incidents are acted on. Raises transient errors, such as a lost connection; their
    batch is rolled back.
    """
    now, put_aside = monotonic(), escalation.put_aside
    for incident_id in [i for i, until in put_aside.items() if until <= now]:
        del put_aside[incident_id]
    claimed: list[str] = []
    try:
        return await _fire(escalation, claimed)
    except Exception as error:
        if is_transient(error) or not claimed:
            raise

    async def leave_alone(incident_id: str, error: Exception) -> None:
        put_aside[incident_id] = monotonic() + TRIED_AGAIN_SECONDS
        again = f"{TRIED_AGAIN_SECONDS:.0f} s"
        log.error("incident cannot be handled", incident=incident_id, error=describe_error(error), tried_again_in=again)

    return sum(await work_in_halves(claimed, lambda ids: _fire(escalation, [], ids), leave_alone, is_transient))


async def _fire(escalation: Escalation, claimed: list[str], which: Sequence[str] | None = None) -> int:
    """One transaction. `claimed` gets the incidents that it works on; `which`: those it may take, None for all."""
    async with escalation.database.begin() as connection:
        now = escalation.clock.now()
        claimed += await timers.claim_due(connection, now, AT_ONCE, which, escalation.put_aside)
        if not claimed:
            return 0
        done, changes = await _act(escalation, connection, claimed, now)
    escalation.worked["deadlines"] = monotonic()
    escalation.committed(changes)
    return done


async def _act(
    escalation: Escalation, connection: AsyncConnection, ids: Sequence[str], now: datetime
) -> tuple[int, ChangeSet]:
    """Act on the due timers of locked incidents. Returns the number of incidents that had any, and the change set."""
    fired = await timers.mark_fired(connection, ids, now)
    # another process may have fired some of them before we held the lock
    found = await _loaded(connection, fired)
    units: set[UnitKey] = {key_of(i.unit) for i in found}
    units |= {key_of(i.successor) for i in found if i.successor}
    engine = await escalation.incident_engine(connection, units)
    notices = await timers.notices(connection, fired.values())
    for incident in found:
        fire(engine, incident, fired[incident.incident_id], notices)
    await escalation.save(connection, engine.changes, engine.now)
    return len(fired), engine.changes


async def mark_missed(
    connection: AsyncConnection, incident_ids: Collection[str], now: datetime
) -> dict[str, list[FiredTimer]]:
    """Mark deadlines of locked incidents that have passed, before the incidents are loaded. For `fire_missed`."""
    return await timers.mark_fired(connection, incident_ids, now, "acknowledge") if incident_ids else {}


async def fire_missed(
    connection: AsyncConnection,
    engine: IncidentEngine,
    cases: Iterable[Case],
    missed: Mapping[str, Sequence[FiredTimer]],
) -> None:
    """Act on deadlines that `mark_missed` returned, in a transaction that then changes the incidents.

    So it does not depend on who is first whether anybody is told that a deadline was missed. Call it before a command
    records anything: the events so far name nobody.
    """
    if missed:
        notices = await timers.notices(connection, missed.values())
        for case in cases:
            if case.incident_id in missed:
                fire(engine, case, missed[case.incident_id], notices)
        engine.changes.fell_due = len(engine.changes.events)


async def _loaded(connection: AsyncConnection, fired: Mapping[str, Sequence[FiredTimer]]) -> Collection[Incident]:
    """Load incidents, in order of id.

    Those that must be evaluated are cases. The others come without their reports.
    """
    rows = await incident_loading.locked(connection, list(fired))
    decides = {id_ for id_, mine in fired.items() if any(t.kind in DECIDES_ANEW for t in mine)}
    cases = await incident_loading.with_history(connection, [r for r in rows if r.incident_id in decides])
    others = await incident_loading.with_standing(connection, [r for r in rows if r.incident_id not in decides])
    by_id: dict[str, Incident] = {i.incident_id: i for i in (*cases, *others)}
    return [by_id[r.incident_id] for r in rows]

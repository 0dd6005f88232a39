"""The loop over due times: each that has passed is acted on once, whoever runs it."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.handlers import Escalation, count
from services.escalation.domain.directory.model import UnitKey, key_of
from services.escalation.domain.incidents.incident import Outcome
from services.escalation.domain.incidents.timers import Passed, Told, pass_due
from services.escalation.store import incident_loading, timers
from shared.clock import monotonic
from shared.messaging import describe_error, is_transient

log = structlog.get_logger()
AT_ONCE = 500
WITH_REPORTS = frozenset({"directory", "lapse", "idle", "remind"})
"""Kinds that decide anew, and so look at all reports."""
TRIED_AGAIN_SECONDS = 60.0
_put_aside: dict[str, float] = {}
"""Incidents that this process could not handle, and until when it leaves them alone, by `monotonic`."""


async def pass_deadlines(escalation: Escalation) -> int:
    """Act on due times that have passed; returns of how many incidents.

    A batch that fails for good is halved until the guilty incident is alone. Its due times stay, for the watch to
    complain of; the others' are acted on. Raises transient errors, such as a lost connection: nothing was changed.
    """
    now = monotonic()
    for incident_id in [i for i, until in _put_aside.items() if until <= now]:
        del _put_aside[incident_id]
    return await _pass(escalation, None)


async def _pass(escalation: Escalation, which: Sequence[str] | None) -> int:
    """`which`: of these incidents only."""
    claimed: list[str] = []
    try:
        async with escalation.engine.begin() as connection:
            now = escalation.clock.now()
            claimed += await timers.claim_passed(connection, now, AT_ONCE, which, _put_aside)
            if not claimed:
                return 0
            done, out = await _act(escalation, connection, claimed, now)
    except Exception as error:
        if is_transient(error) or not claimed:
            raise
        if len(claimed) > 1:
            middle = len(claimed) // 2
            return await _pass(escalation, claimed[:middle]) + await _pass(escalation, claimed[middle:])
        _put_aside[claimed[0]] = monotonic() + TRIED_AGAIN_SECONDS
        again = f"{TRIED_AGAIN_SECONDS:.0f} s"
        log.error("incident cannot be handled", incident=claimed[0], error=describe_error(error), tried_again_in=again)
        return 0
    count(out)
    escalation.wake()
    return done


async def _act(
    escalation: Escalation, connection: AsyncConnection, ids: Sequence[str], now: datetime
) -> tuple[int, Outcome]:
    """What has passed of these incidents, which are locked; of how many, and what came of it."""
    passed: dict[str, list[Passed]] = {}
    decides: set[str] = set()
    for row in await timers.pass_deadlines(connection, ids, now):
        passed.setdefault(row.incident_id, []).append(Passed(row.kind, row.due_at, row.notice_id, row.level))
        if row.kind in WITH_REPORTS:
            decides.add(row.incident_id)
    # another process may have acted on some between our look at what is due and our lock
    found = await incident_loading.locked(connection, list(passed))
    await incident_loading.with_history(connection, [c for c in found if c.incident_id in decides])
    await incident_loading.with_history(connection, [c for c in found if c.incident_id not in decides], reports=False)
    units: set[UnitKey] = {key_of(case.unit) for case in found}
    units |= {key_of(case.successor) for case in found if case.successor}
    router = await escalation.router(connection, units)
    notice_ids = [p.notice_id for rows in passed.values() for p in rows if p.notice_id]
    told: dict[str, Told] = await timers.notices(connection, notice_ids)
    for case in found:
        pass_due(router, case, passed[case.incident_id], told)
    await escalation.save(connection, router.out, router.now)
    return len(passed), router.out

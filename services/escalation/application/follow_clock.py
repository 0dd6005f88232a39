"""Follow the clock: what falls due by a clock that was set back since falls due by the new one. One transaction."""

import structlog

from services.escalation.application.escalation import Escalation
from services.escalation.store import clock_changes

log = structlog.get_logger()


async def follow_clock(escalation: Escalation, *, always: bool = False) -> None:
    """Move what was set by a clock that was set back since. Safe to repeat, and beside other processes.

    It looks only when this process sees that the clock was set back, or `always`: at the start, since nobody may have
    seen it while the service was stopped.
    """
    now = escalation.clock.now()
    back = escalation.clock_set_back.look(now)
    if back is None and not always:
        return
    async with escalation.database.begin() as connection:
        moved = await clock_changes.move_back(connection, now, back)
    if back is not None:
        escalation.clock_set_back.acted()
    if any(moved):
        by = f"{back.total_seconds():.0f} s" if back else "not known"
        log.warning("the clock was set back", by=by, due_times=moved.deadlines, deliveries=moved.deliveries)
        escalation.wake()

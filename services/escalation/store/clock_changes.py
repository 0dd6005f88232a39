"""What was set by a clock that was set back since.

A wait of five minutes that was set at 01:00 ends at 01:05. If the clock is then set back to 00:00, it would last an
hour and five minutes. So each time is stored with when it was set, and one that was set later than now is moved. Times
of the calendar, such as a change of hands or the end of quiet hours, do not move.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import DateTime, Interval, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.clock import CLOCK_SLACK

_NOW = bindparam("now", type_=DateTime(timezone=True))
_LATEST = bindparam("latest", type_=DateTime(timezone=True))
_BACK = bindparam("back", type_=Interval())
_LOCK = text(
    """
    SELECT incident_id FROM escalation.incident
    WHERE incident_id IN (
        SELECT incident_id FROM escalation.deadline WHERE state = 'pending' AND set_at > :latest
        UNION ALL
        SELECT incident_id FROM escalation.delivery JOIN escalation.notice USING (notice_id)
        WHERE state IN ('queued', 'sending', 'failed') AND (set_at > :latest OR next_at > :now + INTERVAL '1 day')
    )
    ORDER BY incident_id FOR NO KEY UPDATE
    """
).bindparams(_NOW, _LATEST)
_DEADLINES = text(
    """
    UPDATE escalation.deadline
    SET due_at = due_at - GREATEST(set_at - :now, :back), set_at = set_at - GREATEST(set_at - :now, :back)
    WHERE state = 'pending' AND set_at > :latest
    """
).bindparams(_NOW, _LATEST, _BACK)
_DELIVERIES = text(
    """
    UPDATE escalation.delivery
    SET next_at = next_at - GREATEST(set_at - :now, :back), set_at = set_at - GREATEST(set_at - :now, :back),
        ready_at = ready_at - GREATEST(set_at - :now, :back)
    WHERE state IN ('queued', 'sending', 'failed') AND set_at > :latest
    """
).bindparams(_NOW, _LATEST, _BACK)
_PACE = text(
    """
    UPDATE escalation.pace
    SET allowed_at = allowed_at - GREATEST(set_at - :now, :back), set_at = set_at - GREATEST(set_at - :now, :back)
    WHERE key IN (SELECT key FROM escalation.pace WHERE set_at > :latest ORDER BY key FOR UPDATE)
        AND set_at > :latest
    """
).bindparams(_NOW, _LATEST, _BACK)
"""Locked by key, and after the deliveries, as by a claim."""
_QUIET = text(
    """
    UPDATE escalation.delivery
    SET next_at = next_at - floor(EXTRACT(EPOCH FROM next_at - :now) / 86400) * INTERVAL '1 day',
        ready_at = ready_at - floor(EXTRACT(EPOCH FROM next_at - :now) / 86400) * INTERVAL '1 day'
    WHERE state = 'queued' AND set_at IS NULL AND next_at > :now + INTERVAL '1 day'
    """
).bindparams(_NOW)
"""The end of quiet hours is never more than a day ahead. It stays a time of the day."""


class Moved(NamedTuple):
    """How many due times and deliveries were moved."""

    deadlines: int
    deliveries: int


async def move_back(connection: AsyncConnection, now: datetime, back: timedelta | None) -> Moved:
    """Move what was set later than `now` as far as the clock was set back. Locks the incidents concerned.

    `back`: how far that was, None if it is not known. Then the wait begins anew.
    """
    latest = {"now": now, "latest": now + CLOCK_SLACK}
    await connection.execute(_LOCK, latest)
    given = latest | {"back": back or timedelta(0)}
    deadlines = await connection.execute(_DEADLINES, given)
    deliveries = await connection.execute(_DELIVERIES, given)
    quiet = await connection.execute(_QUIET, {"now": now})
    await connection.execute(_PACE, given)
    return Moved(deadlines.rowcount, deliveries.rowcount + quiet.rowcount)

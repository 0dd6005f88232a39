"""What is due, and what falls due next: for the loops, for who moves the clock, and for who waits for rest."""

from datetime import datetime
from math import inf

from services.escalation.application.escalation import Escalation
from services.escalation.store import shifts, timers
from shared.database import reading


async def next_due_at(escalation: Escalation) -> datetime | None:
    """When the next deadline falls due, the next delivery may go or a turn of duty begins; None if nothing waits."""
    async with reading(escalation.database).connect() as connection:
        return await timers.next_due(connection, escalation.clock.now())


async def next_timer_in(escalation: Escalation) -> float:
    """In how many seconds the next timer is due."""
    async with reading(escalation.database).connect() as connection:
        return _seconds_until(escalation, await timers.next_timer(connection))


async def next_turn_in(escalation: Escalation) -> float:
    """In how many seconds the next turn of duty begins on whose beginning nobody has acted."""
    async with reading(escalation.database).connect() as connection:
        at = await connection.scalar(shifts.next_begin(escalation.clock.now()))
        return _seconds_until(escalation, at)


async def next_delivery_in(escalation: Escalation) -> float:
    """In how many seconds the next delivery may go."""
    async with reading(escalation.database).connect() as connection:
        return _seconds_until(escalation, await timers.next_delivery(connection))


def _seconds_until(escalation: Escalation, at: datetime | None) -> float:
    return inf if at is None else (at - escalation.clock.now()).total_seconds()


async def is_idle(escalation: Escalation) -> bool:
    """Whether nothing is due now: no deadline has passed, no turn has begun, no delivery may go or is under way."""
    async with reading(escalation.database).connect() as connection:
        return await timers.is_idle(connection, escalation.clock.now())

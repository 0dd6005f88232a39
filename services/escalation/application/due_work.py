"""What is due, and what falls due next: for who moves the clock, or waits for the service to come to rest."""

from datetime import datetime

from services.escalation.application.escalation import Escalation
from services.escalation.store import timers


async def next_due_at(escalation: Escalation) -> datetime | None:
    """When the next deadline falls due, the next delivery may go or a turn of duty begins; None if nothing waits."""
    async with escalation.database.connect() as connection:
        return await timers.next_due(connection, escalation.clock.now())


async def is_idle(escalation: Escalation) -> bool:
    """Whether nothing is due now: no deadline has passed, no turn has begun, no delivery may go or is under way."""
    async with escalation.database.connect() as connection:
        return await timers.is_idle(connection, escalation.clock.now())

"""The channels of people, as recorded now: for whoever looks after this system."""

from typing import NamedTuple

from services.escalation.application.escalation import Escalation
from services.escalation.store import directory


class Recorded(NamedTuple):
    contacts: list[tuple[str, str]]
    """(holder id, channel)"""
    is_real: bool
    """Whether somebody in the directory is no sample."""


async def recorded_contacts(escalation: Escalation) -> Recorded:
    """Channels are secrets: show only the scheme."""
    async with escalation.database.connect() as connection:
        now = directory.after(await directory.newest(connection), escalation.clock.now())
        rows = await directory.contacts_known(connection, now)
        return Recorded([(row.holder_id, row.channel) for row in rows], await directory.has_real_people(connection))

"""What every use case of intake needs: the database, the clock, the keys, and the wards known here."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import store
from services.intake.domain.wards import Posting, Unit
from shared.clock import Clock, monotonic
from shared.database import reading

UNITS_FRESH_SECONDS = 2.0
"""The wards that were read are used for this long."""


@dataclass
class Intake:
    """What the use cases need."""

    database: AsyncEngine
    clock: Clock
    partitions: int
    content_key: bytes
    """Key of the hash that tells whether a report id is used again for another content."""
    reporter_key: bytes
    """Key that names and phone numbers of reporters are encrypted with."""
    pseudonym_key: bytes
    """Key of the pseudonyms by which events name senders. The rows of reports say whose each is."""
    wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called after each commit: the outbox relay need not wait for its next poll."""
    _units: list[Unit] = field(default_factory=list[Unit])
    postings: Mapping[str, Sequence[Posting]] = field(default_factory=dict[str, list[Posting]])
    """Who is posted where, by pseudonym. Read together with the wards."""
    _units_read_at: float = -UNITS_FRESH_SECONDS
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wake(self) -> None:
        for wake in self.wakes:
            wake()

    async def units(self) -> list[Unit]:
        """The wards known here, as they were at most two seconds ago."""
        if self._has_stale_units():
            async with self._reading:  # the reports of a batch ask at the same moment: one of them reads
                if self._has_stale_units():
                    async with reading(self.database).connect() as connection:
                        self._units = await store.load_units(connection)
                        self.postings = await store.load_postings(connection)
                    self._units_read_at = monotonic()
        return self._units

    def forget_units(self) -> None:
        """Read the wards anew for whoever asks next."""
        self._units_read_at = -UNITS_FRESH_SECONDS

    def _has_stale_units(self) -> bool:
        return monotonic() - self._units_read_at > UNITS_FRESH_SECONDS or not self._units

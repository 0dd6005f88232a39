"""What every use case needs: the database, the clock, the engine over the directory, and how changes are saved."""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.escalation.application import metrics
from services.escalation.domain.directory.model import UnitKey
from services.escalation.domain.incidents.engine import IncidentEngine, OfficeChannels
from services.escalation.domain.incidents.incident import Case, ChangeSet
from services.escalation.domain.rules.accountability import Decision
from services.escalation.store import directory, incident_saving, tables, timeline
from shared.clock import Clock
from shared.commitment import Committed
from shared.events import Event, encode
from shared.ids import id_generator, uuid7
from shared.messaging import ESCALATION, Outgoing, add, route


@dataclass(frozen=True)
class Escalation:
    """What the handlers need: the database, the clock, and where offices and exercises are told."""

    database: AsyncEngine
    clock: Clock
    partitions: int
    channels: OfficeChannels
    wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called after each commit: the outbox relay and the delivery loop need not wait for their next poll."""

    def new_id(self) -> str:
        return uuid7(self.clock.now())

    def wake(self) -> None:
        for wake in self.wakes:
            wake()

    async def emit(self, connection: AsyncConnection, events: Sequence[Event]) -> None:
        """Put events into the outbox and the timeline of the caller's transaction, in this order."""
        bodies = [encode(e) for e in events]
        rows = [
            Outgoing(e.id, route(ESCALATION, e.data.unit.code if e.data.unit else "", self.partitions), body)
            for e, body in zip(events, bodies, strict=True)
        ]
        await add(connection, tables.outbox, rows)
        await timeline.add(connection, [timeline.line(e, body) for e, body in zip(events, bodies, strict=True)])

    async def incident_engine(self, connection: AsyncConnection, units: Collection[UnitKey]) -> IncidentEngine:
        now = self.clock.now()
        return IncidentEngine(
            cases={},
            directory=await directory.load(connection, units, now),
            rulebooks=await directory.rulebooks(connection),
            channels=self.channels,
            now=now,
            new_id=id_generator(now),
        )

    async def save(self, connection: AsyncConnection, changes: ChangeSet, now: datetime) -> None:
        await incident_saving.save(connection, changes, now)
        await self.emit(connection, changes.events)

    def committed(self, text: str | None) -> Committed | None:
        """Free text for an event: the ledger keeps a salted commitment to it."""
        return Committed(salt=secrets.token_hex(32), value=text) if text else None


def count(changes: ChangeSet) -> None:
    """Metrics of what was written; exercises are in no count."""
    for joined in changes.reports:
        if not joined.case.anchor.exercise:
            metrics.incidents.labels(joined.outcome).inc()
    for issued in changes.notices:
        if not issued.case.anchor.exercise:
            metrics.notices.labels(issued.notice.purpose).inc()


def record_of(case: Case) -> Decision:
    """The standing decision; every stored incident has one."""
    assert case.decision is not None
    return case.decision

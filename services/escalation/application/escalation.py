"""What every use case needs: the database, the clock, the incident engine, and how changes are saved."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.escalation.application import metrics
from services.escalation.domain.directory.model import UnitKey
from services.escalation.domain.incidents.change_set import ChangeSet
from services.escalation.domain.incidents.engine import IncidentEngine, OfficeChannels
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from services.escalation.store import directory, incident_saving, tables, timeline
from shared.clock import Clock, SetBack
from shared.commitment import Committed, new_salt
from shared.events import Event, Who, encode
from shared.http.identity import Principal
from shared.ids import id_generator, uuid7
from shared.messaging import ESCALATION, Outgoing, add, route
from shared.pseudonym import known_pseudonym


@dataclass(frozen=True)
class Escalation:
    """The dependencies of all use cases. One for each process."""

    database: AsyncEngine
    clock: Clock
    partitions: int
    channels: OfficeChannels
    pseudonym_key: bytes
    """Key of the pseudonyms by which events name officers."""
    who: Who | None = None
    """The person for whom this one works. All events that it writes name them."""
    wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called after each commit, so that whoever passes events on need not wait for the next poll."""
    delivery_wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called when a delivery may go at once."""
    timer_wakes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called when timers may be due at once: after a change of the directory."""

    put_aside: dict[str, float] = field(default_factory=dict[str, float])
    """Incidents whose timers this process could not act on, and the `monotonic` time until which it skips them."""
    worked: dict[str, float] = field(default_factory=dict[str, float])
    """When this process last acted on "deadlines" and on "deliveries", by `monotonic`."""
    clock_set_back: SetBack = field(default_factory=SetBack)

    def by(self, person: Principal | Who) -> "Escalation":
        """Return the same dependencies, for a request of this person."""
        who = person if isinstance(person, Who) else person.who(self.pseudonym_key)
        return replace(self, who=who)

    def pseudonym_of(self, subject: str) -> str:
        """How events name an officer or a device."""
        return known_pseudonym(self.pseudonym_key, subject)

    def new_id(self) -> str:
        return uuid7(self.clock.now())

    def wake(self, *, deliveries: bool = True, timers: bool = False) -> None:
        for wake in (*self.wakes, *(self.delivery_wakes if deliveries else ()), *(self.timer_wakes if timers else ())):
            wake()

    async def emit(self, connection: AsyncConnection, events: Sequence[Event], fell_due: int = 0) -> None:
        """Write events to the timeline and the outbox, in this order, in the caller's transaction.

        Each names the person for whom this works, if there is one. The first `fell_due` events name nobody: they
        follow from a time that passed. Take every lock before. Who calls this more than once in a transaction calls
        `lock_streams` first.
        """
        encoded = self._encoded(events, fell_due)
        await timeline.add(connection, [timeline.line(e, body) for e, body in encoded])
        await self._send(connection, encoded)

    def _encoded(self, events: Sequence[Event], fell_due: int) -> list[tuple[Event, bytes]]:
        if (who := self.who) is not None:
            events = [*events[:fell_due], *(_caused_by(who, e) for e in events[fell_due:])]
        return [(e, encode(e)) for e in events]

    async def _send(self, connection: AsyncConnection, encoded: Sequence[tuple[Event, bytes]]) -> None:
        rows = [
            Outgoing(e.id, route(ESCALATION, e.data.unit.code if e.data.unit else "", self.partitions), body)
            for e, body in encoded
        ]
        await add(connection, tables.outbox, rows, partitions=self.partitions)

    async def incident_engine(
        self,
        connection: AsyncConnection,
        units: Collection[UnitKey],
        rulebooks: Sequence[AdoptedRulebook] | None = None,
    ) -> IncidentEngine:
        """Return an engine on what is recorded now of these units and their successors.

        `rulebooks`: all that are adopted, if the caller has loaded them.
        """
        now = self.clock.now()
        return IncidentEngine(
            directory=await directory.load(connection, units, now),
            rulebooks=rulebooks or await directory.rulebooks(connection),
            channels=self.channels,
            now=now,
            new_id=id_generator(now),
            pseudonym=cache(self.pseudonym_of),
        )

    async def save(self, connection: AsyncConnection, changes: ChangeSet, now: datetime) -> None:
        """Write a change set, its events last. The caller commits, and then calls `committed`."""
        encoded = self._encoded(changes.events, changes.fell_due)
        await incident_saving.save(connection, changes, now, [timeline.line(e, body) for e, body in encoded])
        await self._send(connection, encoded)

    def committed(self, changes: ChangeSet) -> None:
        """Count what was written, without exercises, and wake the loops. Call it after the commit."""
        for assigned in changes.reports:
            if not assigned.incident.anchor.exercise:
                metrics.incidents.labels(assigned.outcome).inc()
        for issued in changes.notices:
            if not issued.exercise:
                metrics.notices.labels(issued.notice.purpose).inc()
        self.wake(deliveries=bool(changes.notices))


def _caused_by(who: Who, event: Event) -> Event:
    return event.model_copy(update={"data": event.data.model_copy(update={"who": who})})


def salted(text: str | None) -> Committed | None:
    """Return free text with a new salt, or None if there is none. The ledger keeps a commitment to it."""
    return Committed(salt=new_salt(), value=text) if text else None

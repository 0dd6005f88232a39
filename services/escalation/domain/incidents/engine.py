"""The incident engine: what one transaction knows about its incidents, and the change set that it fills. Pure.

Every change of an incident goes through it: reports (`grouping`), decisions (`evaluation`), notices (`notifying`), due
times (`timers`), acknowledgements (`acknowledging`) and the commands of `application`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.escalation.domain.directory import succession
from services.escalation.domain.directory.model import (
    Directory,
    Lineage,
    Tenure,
    UnitKey,
    key_of,
    known_at,
    lineage,
    within,
)
from services.escalation.domain.directory.succession import Line
from services.escalation.domain.envelope import Envelope, envelope
from services.escalation.domain.incidents.change_set import ChangeSet, NewTimer
from services.escalation.domain.incidents.correlation import Key, Occurrence
from services.escalation.domain.incidents.incident import Case, EventData, Incident, IncidentRow, TimerKind
from services.escalation.domain.incidents.patterns import Neighbour
from services.escalation.domain.rules.rulebook import AdoptedRulebook, Rulebook, in_force, newness
from shared.events import Event, IncidentOpened, IncidentOpenedData, UnitRef

BuildEvent = Callable[[Envelope, EventData], Event]
"""Builds an event from its envelope and the data that all events of an incident have in common."""

Answering = tuple[str | None, frozenset[tuple[str, str]]]
"""The version of a rulebook, and (post, holder id) of each holder."""


@dataclass(frozen=True)
class OfficeChannels:
    """Apprise URLs at which the desk, the leadership and exercises are notified.

    Those on duty at the desk or in the leadership are notified at their own channels as well.
    """

    desk: str
    leadership: str
    log: str


@dataclass
class IncidentEngine:
    """The state of one transaction. Make a new one for each; the caller has locked the incidents."""

    directory: Directory
    rulebooks: Sequence[AdoptedRulebook]
    channels: OfficeChannels
    now: datetime
    new_id: Callable[[], str]
    pseudonym: Callable[[str], str]
    """Gives the pseudonym of a sender. A pseudonym stays as it is."""
    near: dict[Key, list[IncidentRow]] = field(default_factory=dict[Key, list[IncidentRow]])
    """Incidents, open or ended, that a report of the batch may belong to, by correlation key. Fill it by `add_near`."""
    neighbours: dict[UnitKey, list[Neighbour]] = field(default_factory=dict[UnitKey, list[Neighbour]])
    """Incidents of the batch's units that are near in time, for `patterns`."""
    changes: ChangeSet = field(default_factory=ChangeSet)
    _edges_of: dict[UnitKey, tuple[datetime, ...]] = field(default_factory=dict[UnitKey, tuple[datetime, ...]])
    _tenures_of: dict[tuple[UnitKey, UnitKey | None], tuple[Tenure, ...]] = field(
        default_factory=dict[tuple[UnitKey, UnitKey | None], tuple[Tenure, ...]]
    )
    _hands_of: dict[tuple[UnitKey, UnitKey | None], tuple[datetime, ...]] = field(
        default_factory=dict[tuple[UnitKey, UnitKey | None], tuple[datetime, ...]]
    )
    _lines: dict[tuple[UnitKey, UnitKey | None], Line] = field(
        default_factory=dict[tuple[UnitKey, UnitKey | None], Line]
    )

    def emit(
        self, incident: IncidentRow, build: BuildEvent, *, cause: str | None = None, officials: Iterable[str] = ()
    ) -> str:
        """Record an event of the incident, under its next sequence number. Returns the event's id.

        The id is the `cause` of whatever follows from this event.
        """
        data = incident.number_event(cause, officials)
        event = build(envelope(self.new_id(), incident.incident_id, self.now), data)
        self.changes.incidents[incident.incident_id] = incident
        self.changes.events.append(event)
        return event.id

    # --- incidents ---

    def new_case(self, occurrence: Occurrence, unit: UnitRef, category: str) -> Case:
        """Make a new case that later reports of the batch find. Records nothing: call `announce`."""
        known = self.directory.units.get(key_of(unit))
        case = Case(
            incident_id=self.new_id(),
            unit=unit,
            unit_kind=known.kind if known else "",
            category=category,
            anchor=occurrence,
            opened_at=self.now,
            is_new=True,
        )
        self.add_near(case)
        return case

    def announce(self, case: Case, cause: str | None) -> None:
        """Record that a new case was opened. `cause`: id of the event of the report or the split that opened it."""
        family, exercise = case.anchor.family, case.anchor.exercise
        self.emit(
            case,
            lambda head, data: IncidentOpened(
                **head, data=IncidentOpenedData(**data, family=family, exercise=exercise)
            ),
            cause=cause,
        )

    # --- places ---

    def add_near(self, incident: IncidentRow) -> None:
        """Let reports find the incident, by its own unit and by those that took its place."""
        incident.summary = incident.summary.by_pseudonym(self.pseudonym)
        keys = {
            (unit, anchor.family, anchor.exercise)
            for anchor in (incident.anchor, *incident.aliases)
            for unit in self._line(anchor.unit, incident)
        }
        for key in keys:
            self.near.setdefault(key, []).append(incident)

    def anchors_near(self, report: Occurrence) -> list[tuple[IncidentRow, Occurrence]]:
        """Return the incidents of the report's place with their anchors, each anchor as one of the report's unit."""
        found: list[tuple[IncidentRow, Occurrence]] = []
        for unit in self._line(report.unit):
            for incident in self.near.get((unit, report.family, report.exercise), ()):
                for anchor in (incident.anchor, *incident.aliases):
                    if anchor.unit == report.unit:
                        found.append((incident, anchor))
                    elif all(self._is_there(report, each, incident) for each in (anchor, incident.anchor)):
                        found.append((incident, replace(anchor, unit=report.unit)))
        return found

    def is_one_place(self, one: IncidentRow, other: IncidentRow) -> bool:
        """Return whether the units of two incidents are one, or one took the place of the other."""
        return self._is_there(one.anchor, other.anchor, other) or self._is_there(other.anchor, one.anchor, one)

    def _is_there(self, occurrence: Occurrence, anchor: Occurrence, incident: IncidentRow) -> bool:
        """Return whether the units are one, or one took the place of the other. `anchor`: one of the incident's."""
        of_incident, of_occurrence = self._line(anchor.unit, incident), self._line(occurrence.unit)
        return succession.has_place(of_incident, occurrence.unit, occurrence.at) or succession.has_place(
            of_occurrence, anchor.unit, anchor.at
        )

    def _line(self, unit: UnitKey, incident: IncidentRow | None = None) -> Line:
        acting = key_of(incident.successor) if incident is not None and incident.successor else None
        if (unit, acting) not in self._lines:
            self._lines[unit, acting] = succession.line(self.directory.units, unit, acting)
        return self._lines[unit, acting]

    # --- what holds for an incident ---

    def rulebook_of(self, incident: IncidentRow) -> AdoptedRulebook | None:
        """Return the rulebook that first decided the incident, or None if none was in force.

        Before the first decision, it is the one in force when the incident occurred.
        """
        if incident.rulebook_version is None:
            return in_force(self.rulebooks, incident.anchor.at)
        return next(a for a in self.rulebooks if a.rulebook.version == incident.rulebook_version)

    def policy_of(self, incident: IncidentRow) -> Rulebook:
        """Return the rulebook that gives the incident's time limits and chain of levels.

        Where no rulebook was in force, the newest one gives them.
        """
        return (self.rulebook_of(incident) or self.newest_rulebook()).rulebook

    def newest_rulebook(self) -> AdoptedRulebook:
        return max(self.rulebooks, key=newness)

    def lineage(self, case: Case) -> Lineage:
        """Return what became of the incident's unit, as recorded now.

        Where a unit was divided, the reassignments by the desk say which part acts.
        """
        said = (UnitRef.model_validate(f.content["to"]) for f in case.findings if f.kind == "reassignment")
        return lineage(self.directory.units, case.unit, [key_of(unit) for unit in said], self.now)

    def tenures(self, unit: UnitRef, successor: UnitRef | None) -> tuple[Tenure, ...]:
        """Return the tenures of `unit` and `successor`, each cut at the end of its unit. Results are cached."""
        keys = (key_of(unit), key_of(successor) if successor else None)
        if keys not in self._tenures_of:
            theirs = (t for t in self.directory.tenures if key_of(t.unit) in keys)
            self._tenures_of[keys] = tuple(within(theirs, self.directory.units))
        return self._tenures_of[keys]

    def changes_of_hands(self, incident: IncidentRow) -> tuple[datetime, ...]:
        """Return when the incident's posts change hands, and when its acting unit ends, as recorded now.

        Results are cached.
        """
        unit, successor = incident.unit, incident.successor
        if (keys := (key_of(unit), key_of(successor) if successor else None)) not in self._hands_of:
            acts = self.directory.units.get(keys[1] or keys[0])
            times = [at for t in self.tenures(unit, successor) for at in (t.valid_from, t.valid_to)]
            times.append(acts.ends_at if acts is not None else None)
            self._hands_of[keys] = tuple(at for at in times if at is not None)
        return self._hands_of[keys]

    def is_answered_for_alike(self, incident: IncidentRow, *times: datetime) -> bool:
        """Return whether the same people answer, by the same rulebook, for what occurred at any of these times."""
        first, last = min(times), max(times)
        return not any(first < edge <= last for edge in self._edges(incident.unit))

    def _edges(self, unit: UnitRef) -> tuple[datetime, ...]:
        """Return when a tenure of the unit, or a rulebook, begins or ends. Results are cached."""
        if (key := key_of(unit)) not in self._edges_of:
            held = [(t.valid_from, t.valid_to) for t in self.tenures(unit, None) if t.capacity == "holder"]
            read = [(a.rulebook.valid_from, a.rulebook.valid_to) for a in self.rulebooks]
            self._edges_of[key] = tuple({at for span in (*held, *read) for at in span if at is not None})
        return self._edges_of[key]

    def answering(self, unit: UnitRef, at: datetime) -> Answering:
        """Return by which rulebook, and who for which post, answers for what occurred in the unit at `at`."""
        tenures, adopted = self.tenures(unit, None), in_force(self.rulebooks, at)
        known = known_at(tenures, self.now)
        held = {(t.post, t.holder_id) for t in tenures if t.capacity == "holder" and t.covers(at, known)}
        return adopted.rulebook.version if adopted else None, frozenset(held)

    def is_held_as_decided(self, incident: IncidentRow) -> bool:
        """Return whether no post has changed hands since the standing decision was made."""
        decided_at = incident.decided_at
        return decided_at is not None and not any(decided_at < at <= self.now for at in self.changes_of_hands(incident))

    # --- timers ---

    def schedule(
        self,
        incident: Incident,
        kind: TimerKind,
        at: datetime,
        notice_id: str | None = None,
        *,
        level: int = 0,
        who: tuple[str, ...] = (),
        by_calendar: bool = False,
    ) -> None:
        """Set a timer. `who`: whom the incident waits for until then."""
        incident.pending.add(kind)
        self.changes.timers.append(NewTimer(incident, kind, at, notice_id, level, who, by_calendar))

    def cancel(self, incident: Incident, *kinds: TimerKind) -> None:
        """Cancel timers of these kinds, whether they are stored or were scheduled in this transaction."""
        if incident.pending.intersection(kinds):
            self.cancel_stored(incident, *kinds)
            new = self.changes.timers
            new[:] = [t for t in new if t.incident is not incident or t.kind not in kinds]
            incident.pending.difference_update(kinds)

    def cancel_stored(self, incident: Incident, *kinds: TimerKind) -> None:
        """Cancel stored timers of these kinds. Those scheduled in this transaction stay."""
        self.changes.cancelled_timers.setdefault(incident.incident_id, set()).update(kinds)
        new = {t.kind for t in self.changes.timers if t.incident is incident}
        incident.pending.difference_update(set(kinds) - new)

    def withdraw(self, incident: IncidentRow, persons: set[str]) -> None:
        """Withdraw all that these people (holder ids) were told so far about the incident.

        Their stored timers and unsent deliveries are cancelled.
        """
        if persons:
            self.changes.withdrawn.setdefault(incident.incident_id, set()).update(persons)

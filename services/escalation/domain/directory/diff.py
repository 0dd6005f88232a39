"""What recording rows adds to the directory, and what it supersedes. Pure.

A record is never changed in place.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.directory.model import (
    Contact,
    Duty,
    Span,
    Tenure,
    Unit,
    UnitKey,
    changed_spans,
    day_start,
    key_of,
    overlap,
    remainders,
)
from services.escalation.domain.directory.schemas import (
    Note,
    Numbered,
    Place,
    RosterRow,
    Tables,
    TenureRow,
    UnitRow,
)
from services.escalation.domain.directory.validation import Units, with_recorded
from shared.clock import local

T = TypeVar("T")
NewId = Callable[[], str]


@dataclass(frozen=True)
class Ended(Generic[T]):
    """A record that is superseded.

    `left`: new records for what stays true of it. `by`: the record that takes its place.
    """

    place: Place
    old: T
    left: tuple[T, ...] = ()
    by: T | None = None


@dataclass
class Plan(Generic[T]):
    """Planned changes, in order of lines. A line that says what is recorded already adds nothing."""

    added: list[tuple[Place, T]] = field(default_factory=list[tuple[Place, T]])
    ended: list[Ended[T]] = field(default_factory=list[Ended[T]])
    notes: list[Note] = field(default_factory=list[Note])

    @property
    def recorded(self) -> list[T]:
        """All new records: first what stays true of superseded ones, then the added ones."""
        return [*(left for e in self.ended for left in e.left), *(new for _, new in self.added)]

    @property
    def places(self) -> set[Place]:
        """The lines that change something."""
        return {place for place, _ in self.added} | {e.place for e in self.ended}


# --- units ---


def plan_units(rows: Sequence[Numbered[UnitRow]], recorded: Units) -> Plan[Unit]:
    plan = Plan[Unit]()
    after = with_recorded(rows, recorded)
    for line, row in rows:
        old, new = recorded.get(row.key), after[row.key]
        if old == new:
            continue
        plan.added.append((("units", line), new))
        if old is not None:
            plan.ended.append(Ended(("units", line), old, by=new))
    return plan


# --- tenures ---


def plan_tenures(
    rows: Sequence[Numbered[TenureRow]], units: Units, recorded: Sequence[Tenure], now: datetime, new_id: NewId
) -> Plan[Tenure]:
    """Plan what the rows change. `recorded`: what is recorded now for the units that they name.

    The rows must be validated: no two of them overlap in the same post.
    """
    plan = Plan[Tenure]()
    of_post: dict[tuple[Any, ...], list[Tenure]] = {}
    for old in recorded:
        of_post.setdefault(_post(old), []).append(old)
    twins = {(_post(old), _same(old)): old for old in recorded}
    changes: dict[tuple[Any, ...], list[_Change]] = {}
    for line, row in rows:
        new = tenure_of(row, units[row.unit_key], new_id(), now)
        twin = twins.get((_post(new), _same(new)))
        if row.withdrawn and twin is None:
            plan.notes.append(Note("no such tenure is recorded: there is nothing to withdraw", line, "tenures"))
        if (twin is None) if row.withdrawn else (twin is not None and _content(twin) == _content(new)):
            continue
        changes.setdefault(_post(new), []).append((line, row, new))
        if not row.withdrawn:
            plan.added.append((("tenures", line), new))
    for post, changed in changes.items():
        plan.ended += _ended(of_post.get(post, ()), changed, now, new_id)
    plan.ended.sort(key=lambda e: (e.place, e.old.valid_from))
    return plan


_Change = tuple[int, TenureRow, Tenure]
"""(line, row, the tenure that it says)."""


def _ended(
    recorded: Sequence[Tenure], changed: Sequence[_Change], now: datetime, new_id: NewId
) -> Iterator[Ended[Tenure]]:
    """Yield what becomes of the recorded tenures of a post when rows change it."""
    twins = {_same(new): (line, row, new) for line, row, new in changed}
    added = sorted(((line, new) for line, row, new in changed if not row.withdrawn), key=lambda e: e[1].valid_from)
    starts = [new.valid_from for _, new in added]
    for old in recorded:
        if (twin := twins.get(_same(old))) is not None:
            line, row, new = twin
            yield Ended(("tenures", line), old, by=None if row.withdrawn else new)
            continue
        # no two of the added ones overlap: of those that begin before `old`, only the last can reach into it
        first = max(0, bisect_right(starts, old.valid_from) - 1)
        until = len(starts) if old.valid_to is None else bisect_left(starts, old.valid_to)
        meeting = [(line, new) for line, new in added[first:until] if overlap(old, new)]
        if meeting:
            left = _rest_of(old, [new for _, new in meeting])
            kept = tuple(piece.model_copy(update={"tenure_id": new_id(), "recorded_at": now}) for piece in left)
            line, by = min(meeting, key=lambda each: each[0])
            yield Ended(("tenures", line), old, kept, None if kept else by)


def _rest_of(old: Tenure, new: Sequence[Tenure]) -> list[Tenure]:
    """Return the parts of `old` beside those that take its place, which are in order and do not overlap."""
    pieces = [old]
    for each in new:
        pieces += remainders(pieces.pop(), each)
        if not pieces or each.valid_to is None or pieces[-1].valid_from < each.valid_to:
            break
    return pieces


def tenure_of(row: TenureRow, unit: Unit, tenure_id: str, now: datetime) -> Tenure:
    taken = ("post", "holder_id", "holder_name", "acting", "capacity", "reason", "document", "sample")
    return Tenure(
        tenure_id=tenure_id,
        unit=unit.ref,
        valid_from=day_start(row.valid_from),
        valid_to=day_start(row.valid_to) if row.valid_to else None,
        recorded_at=now,
        **{name: getattr(row, name) for name in taken},
    )


def _same(tenure: Tenure) -> tuple[Any, ...]:
    """Return what makes two tenures of a post the same one: the person, and the time from which they hold it.

    They may differ in the rest, such as the end or the document.
    """
    return (tenure.holder_id, tenure.valid_from)


def _post(tenure: Tenure) -> tuple[Any, ...]:
    return (key_of(tenure.unit), tenure.post, tenure.capacity)


def _content(tenure: Tenure) -> dict[str, Any]:
    return tenure.model_dump(exclude={"tenure_id", "unit", "recorded_at", "superseded_at"})


# --- rosters ---


def plan_rosters(
    rows: Sequence[Numbered[RosterRow]], recorded: Sequence[Duty], now: datetime, new_id: NewId
) -> Plan[Duty]:
    """Plan what the rows change. Turns may overlap.

    A row for the same office or ward, person and times as a recorded turn replaces it.
    """
    plan = Plan[Duty]()
    turns = {_turn(duty): duty for duty in recorded}
    for line, row in rows:
        new = duty_of(row, new_id(), now)
        old = turns.get(_turn(new))
        if row.withdrawn:
            if old is None:
                plan.notes.append(Note("no such turn is recorded: there is nothing to withdraw", line, "rosters"))
            else:
                plan.ended.append(Ended(("rosters", line), old))
        elif old is None or shown_duty(old) != shown_duty(new):
            plan.added.append((("rosters", line), new))
            plan.ended += [Ended(("rosters", line), old, by=new)] if old is not None else []
    return plan


def duty_of(row: RosterRow, roster_id: str, now: datetime) -> Duty:
    taken = row.model_dump(exclude={"channel", "withdrawn"})
    return Duty(roster_id=roster_id, recorded_at=now, **taken)


def _turn(duty: Duty) -> tuple[Any, ...]:
    return (duty.level, duty.unit_key, duty.holder_id, duty.valid_from, duty.valid_to)


# --- contacts ---


@dataclass(frozen=True)
class Reach:
    """One channel of one person."""

    holder_id: str
    contact: Contact


def plan_contacts(tables: Tables, recorded: Mapping[str, Sequence[Contact]]) -> Plan[Reach]:
    """Plan what the rows change of people's channels. `recorded`: by holder id.

    A person's contact rows give all channels of that person. Without contact rows, the channels in the person's tenure
    and roster rows do. If these have none either, the recorded channels stay.
    """
    wanted: dict[str, dict[str, tuple[Place, Contact]]] = {}
    first: dict[str, Place] = {}
    for line, row in tables.contacts:
        first.setdefault(row.holder_id, ("contacts", line))
        channels = wanted.setdefault(row.holder_id, {})
        if row.contact is not None:
            channels[row.contact.channel] = (("contacts", line), row.contact)
    named = set(wanted)
    known = {holder: {c.channel: c for c in theirs} for holder, theirs in recorded.items()}
    for place, row in _with_channels(tables):
        if row.channel and row.holder_id not in named and not row.withdrawn:
            first.setdefault(row.holder_id, place)
            contact = known.get(row.holder_id, {}).get(row.channel, Contact(row.channel))
            wanted.setdefault(row.holder_id, {}).setdefault(row.channel, (place, contact))
    plan = Plan[Reach]()
    for holder, channels in wanted.items():
        _plan_channels(plan, holder, channels, recorded.get(holder, ()), first[holder])
    return plan


def _with_channels(tables: Tables) -> Iterator[tuple[Place, TenureRow | RosterRow]]:
    for line, row in tables.tenures:
        yield ("tenures", line), row
    for line, turn in tables.rosters:
        yield ("rosters", line), turn


def _plan_channels(
    plan: Plan[Reach],
    holder: str,
    wanted: Mapping[str, tuple[Place, Contact]],
    recorded: Sequence[Contact],
    first: Place,
) -> None:
    old = {contact.channel: contact for contact in recorded}
    for channel, (place, contact) in wanted.items():
        if contact != old.get(channel):
            plan.added.append((place, Reach(holder, contact)))
    for channel, contact in old.items():
        if channel not in wanted:
            plan.ended.append(Ended(first, Reach(holder, contact)))
        elif wanted[channel][1] != contact:
            place, new = wanted[channel]
            plan.ended.append(Ended(place, Reach(holder, contact), by=Reach(holder, new)))


# --- changes that concern incidents ---


@dataclass(frozen=True)
class Change:
    """What the incidents of a unit must be evaluated for.

    `occurred`: times of occurrence for which another person is accountable now. `boundaries`: instants from which other
    people act there.
    """

    unit: UnitKey
    occurred: tuple[Span, ...] = ()
    boundaries: tuple[datetime, ...] = ()


def changes_of_units(plan: Plan[Unit]) -> list[Change]:
    before = {key_of(e.old.ref): e.old for e in plan.ended}
    found: list[Change] = []
    for _, new in plan.added:
        old = before.get(key_of(new.ref))
        ends = sorted(at for at in {new.ends_at, old.ends_at if old else None} if at is not None)
        found.append(Change(key_of(new.ref), ((ends[0], None),) if ends else (), tuple(ends)))
    return found


def changes_of_tenures(plan: Plan[Tenure]) -> list[Change]:
    """Return the changes by unit.

    A change of a deputy concerns who is notified now, and nothing that occurred earlier.
    """
    before: dict[tuple[Any, ...], list[Tenure]] = {}
    after: dict[tuple[Any, ...], list[Tenure]] = {}
    for e in plan.ended:
        before.setdefault(_post(e.old), []).append(e.old)
    for new in plan.recorded:
        after.setdefault(_post(new), []).append(new)
    found: list[Change] = []
    for post in before.keys() | after.keys():
        spans = changed_spans(before.get(post, ()), after.get(post, ()))
        unit, _, capacity = post
        boundaries = {at for span in spans for at in span if at is not None}
        if spans:
            found.append(Change(unit, tuple(spans) if capacity == "holder" else (), tuple(sorted(boundaries))))
    return found


# --- differences for people to read ---


def shown_unit(unit: Unit) -> dict[str, Any]:
    return {
        "code": unit.ref.code,
        "valid_from": unit.ref.valid_from.isoformat(),
        "name": unit.ref.name,
        "type": unit.kind,
        "valid_to": unit.valid_to.isoformat() if unit.valid_to else None,
        "successors": " ".join(f"{s.code}/{s.valid_from}" for s in unit.successors) or None,
        "legal_act": unit.legal_act,
    }


def shown_tenure(tenure: Tenure) -> dict[str, Any]:
    taken = ("post", "capacity", "holder_id", "holder_name", "acting", "reason", "document")
    return {
        "unit_code": tenure.unit.code,
        "unit_valid_from": tenure.unit.valid_from.isoformat(),
        **{name: getattr(tenure, name) for name in taken},
        "valid_from": _day(tenure.valid_from),
        "valid_to": _day(tenure.valid_to) if tenure.valid_to else None,
        "sample": tenure.sample,
    }


def shown_duty(duty: Duty) -> dict[str, Any]:
    return {
        "level": duty.level,
        "unit_code": duty.unit_code,
        "unit_valid_from": duty.unit_valid_from.isoformat() if duty.unit_valid_from else None,
        "holder_id": duty.holder_id,
        "holder_name": duty.holder_name,
        "valid_from": local(duty.valid_from).isoformat(),
        "valid_to": local(duty.valid_to).isoformat(),
        "document": duty.document,
        "sample": duty.sample,
    }


def shown_reach(reach: Reach) -> dict[str, Any]:
    """Return the fields of a contact. Of the channel only the scheme is shown: the rest is an address or a secret."""
    contact = reach.contact
    return {
        "holder_id": reach.holder_id,
        "channel": scheme(contact.channel),
        "quiet_from": f"{contact.quiet_from:%H:%M}" if contact.quiet_from else None,
        "quiet_to": f"{contact.quiet_to:%H:%M}" if contact.quiet_to else None,
    }


def _day(at: datetime) -> str:
    return local(at).date().isoformat()

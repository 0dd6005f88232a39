"""The directory: who holds which post (chức vụ). Pure.

It has two times: valid time (when it was so) and recorded time (when we knew it).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from itertools import pairwise
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.clock import HO_CHI_MINH
from shared.events import UnitRef

DESK = "desk"
"""The city duty desk (trực ban thành phố)."""
LEADERSHIP = "leadership"
"""The city leadership (lãnh đạo thành phố)."""
OFFICES = frozenset({DESK, LEADERSHIP})
"""Recipients that are not a person. Their notices go to the office's channel and to whoever is on duty there."""
ROLES: Mapping[str, Literal["desk", "leader"]] = {DESK: "desk", LEADERSHIP: "leader"}
"""The role of those who act for each office."""
OFFICE_OF: Mapping[str, str] = {role: office for office, role in ROLES.items()}
"""The office for which a role acts. Other roles act for none."""


class Tenure(BaseModel):
    """One person's time in one post (nhiệm kỳ) of one unit, with the document that appointed them."""

    model_config = ConfigDict(frozen=True)

    tenure_id: str
    unit: UnitRef
    post: str
    holder_id: str
    holder_name: str
    acting: bool
    capacity: Literal["holder", "deputy"] = "holder"
    """A deputy (người được ủy quyền) is notified in the holder's place; the holder stays accountable."""
    reason: str | None = None
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    sample: bool
    recorded_at: AwareDatetime
    superseded_at: AwareDatetime | None = None

    def covers(self, at: datetime, known_at: datetime) -> bool:
        """Return whether the tenure was valid at `at`, as known at `known_at`."""
        valid = self.valid_from <= at and (self.valid_to is None or at < self.valid_to)
        known = self.recorded_at <= known_at and (self.superseded_at is None or known_at < self.superseded_at)
        return valid and known


class Duty(BaseModel):
    """One person's turn on the duty roster (lịch trực) of a ward, the desk or the leadership. It always ends."""

    model_config = ConfigDict(frozen=True)

    roster_id: str
    level: Literal["ward", "desk", "leadership"]
    unit_code: str | None = None
    unit_valid_from: date | None = None
    holder_id: str
    holder_name: str
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime
    sample: bool
    recorded_at: AwareDatetime
    superseded_at: AwareDatetime | None = None

    @property
    def unit_key(self) -> "UnitKey | None":
        return (self.unit_code, self.unit_valid_from) if self.unit_code and self.unit_valid_from else None


class Posting(BaseModel):
    """An officer's, or a device's, time in a unit. One may be posted in several at once."""

    model_config = ConfigDict(frozen=True)

    posting_id: str
    unit_code: str
    unit_valid_from: date
    subject: str
    """Of the credential. Events name it by pseudonym."""
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    sample: bool
    recorded_at: AwareDatetime
    superseded_at: AwareDatetime | None = None

    @property
    def unit_key(self) -> "UnitKey":
        return (self.unit_code, self.unit_valid_from)


@dataclass(frozen=True)
class Contact:
    """A URL (Apprise, `mailto(s)://` or `webhook(s)://`) at which a person is notified, with its quiet hours."""

    channel: str
    quiet_from: time | None = None
    """Local time of day. Quiet hours may pass midnight."""
    quiet_to: time | None = None


@dataclass(frozen=True)
class Directory:
    """What is recorded now about the units of one transaction and their successors."""

    tenures: tuple[Tenure, ...] = ()
    duties: tuple[Duty, ...] = ()
    """Turns that end later than now."""
    contacts: Mapping[str, tuple[Contact, ...]] = field(default_factory=dict[str, tuple[Contact, ...]])
    """By holder id."""
    units: Mapping["UnitKey", "Unit"] = field(default_factory=dict["UnitKey", "Unit"])


UnitKey = tuple[str, date]


def key_of(unit: UnitRef) -> UnitKey:
    return (unit.code, unit.valid_from)


@dataclass(frozen=True)
class Unit:
    """A ward or commune (phường, xã), and the units that took its place."""

    ref: UnitRef
    kind: str
    valid_to: date | None = None
    successors: tuple[UnitRef, ...] = ()
    legal_act: str | None = None

    @property
    def starts_at(self) -> datetime:
        return day_start(self.ref.valid_from)

    @property
    def ends_at(self) -> datetime | None:
        return day_start(self.valid_to) if self.valid_to is not None else None

    def ended(self, at: datetime) -> bool:
        return self.ends_at is not None and self.ends_at <= at

    def ended_by(self, day: date) -> bool:
        return self.valid_to is not None and self.valid_to <= day

    def in_force(self, day: date) -> bool:
        return self.ref.valid_from <= day and not self.ended_by(day)


@dataclass(frozen=True)
class Lineage:
    """What became of a unit up to some instant."""

    acting: UnitRef
    """The unit itself, or the last one known to have taken its place."""
    divided: bool = False
    """Several units took parts of `acting`, and nobody has said which of them acts. It is never guessed."""
    parts: tuple[UnitRef, ...] = ()
    """All units that took a part in a division on the way."""


def lineage(units: Mapping[UnitKey, Unit], first: UnitRef, chosen: Sequence[UnitKey], at: datetime) -> Lineage:
    """Follow the successors of `first` up to `at`.

    `chosen`: the units that people said took the place of a divided one, the latest last.
    """
    acting, seen, parts = first, set[UnitKey](), tuple[UnitRef, ...]()
    while (key := key_of(acting)) not in seen:
        seen.add(key)
        unit = units.get(key)
        if unit is None or not unit.ended(at) or not unit.successors:
            break
        possible = {key_of(s): s for s in unit.successors}
        if len(possible) > 1:
            parts += unit.successors
            named = next((possible[k] for k in reversed(chosen) if k in possible), None)
            if named is None:
                return Lineage(acting, divided=True, parts=parts)
            acting = named
        else:
            (acting,) = possible.values()
    return Lineage(acting, parts=parts)


def followers(units: Mapping[UnitKey, Unit], first: Unit, day: date) -> list[Unit]:
    """Return the units that have the place of `first`, or parts of it, on `day`, in order of their codes."""
    found: dict[UnitKey, Unit] = {}
    seen, waiting = {key_of(first.ref)}, [first]
    while waiting:
        for key in map(key_of, waiting.pop().successors):
            unit = units.get(key)
            if unit is None or key in seen:
                continue
            seen.add(key)
            if unit.ended_by(day) and unit.successors:
                waiting.append(unit)
            else:
                found[key] = unit
    return [found[key] for key in sorted(found)]


def within(tenures: Iterable[Tenure], units: Mapping[UnitKey, Unit]) -> Iterator[Tenure]:
    """Yield the tenures, each cut at the end of its unit: nobody holds a post of a unit that has ended."""
    for tenure in tenures:
        unit = units.get(key_of(tenure.unit))
        ends_at = unit.ends_at if unit is not None else None
        if ends_at is None or (tenure.valid_to is not None and tenure.valid_to <= ends_at):
            yield tenure
        elif tenure.valid_from < ends_at:
            yield tenure.model_copy(update={"valid_to": ends_at})


def answers(tenures: Sequence[Tenure], post: str, holder_id: str, now: datetime, unit: UnitRef) -> bool:
    """Return whether the person holds the post of the unit now, or is deputy for its holder."""
    known = known_at(tenures, now)
    found = (holder_at(tenures, post, now, known, unit=unit, capacity=c) for c in ("holder", "deputy"))
    return any(t is not None and t.holder_id == holder_id for t in found)


def holder_at(
    tenures: Iterable[Tenure],
    post: str,
    at: datetime,
    known_at: datetime,
    *,
    unit: UnitRef | None = None,
    capacity: str = "holder",
) -> Tenure | None:
    """Return the tenure of `post` that was valid at `at`, as known at `known_at`. None is a vacancy.

    `unit`: look at tenures of this unit only.
    """
    return next(
        (
            t
            for t in tenures
            if t.post == post
            and t.capacity == capacity
            and (unit is None or (t.unit.code, t.unit.valid_from) == (unit.code, unit.valid_from))
            and t.covers(at, known_at)
        ),
        None,
    )


def known_at(tenures: Iterable[Tenure], now: datetime) -> datetime:
    """Return `now`, or the latest time at which one of these was recorded by a process whose clock is ahead."""
    return max([now, *(t.recorded_at for t in tenures)])


def overlap(a: Tenure, b: Tenure) -> bool:
    starts_before = b.valid_to is None or a.valid_from < b.valid_to
    return starts_before and (a.valid_to is None or b.valid_from < a.valid_to)


def remainders(old: Tenure, new: Tenure) -> list[Tenure]:
    """Return the parts of `old` before and after `new`, which overlaps it."""
    left: list[Tenure] = []
    if old.valid_from < new.valid_from:
        left.append(old.model_copy(update={"valid_to": new.valid_from}))
    if new.valid_to is not None and (old.valid_to is None or new.valid_to < old.valid_to):
        left.append(old.model_copy(update={"valid_from": new.valid_to}))
    return left


def day_start(day: date) -> datetime:
    """Return the instant at which a day of the directory begins: midnight in the city, not in UTC."""
    return datetime.combine(day, time.min, HO_CHI_MINH)


Span = tuple[datetime, datetime | None]
"""(start, end): from `start` until just before `end`. None: without an end."""


def changed_spans(before: Iterable[Tenure], after: Iterable[Tenure]) -> list[Span]:
    """Return the times for which a decision now shows another holder or document than before.

    Neither of the two may hold tenures that overlap.
    """
    was, becomes = _by_start(before), _by_start(after)
    ends = (t.valid_to for t in (*was, *becomes) if t.valid_to is not None)
    edges = sorted({*(t.valid_from for t in (*was, *becomes)), *ends})
    spans: list[Span] = []
    for start, end in pairwise([*edges, None]):
        if start is None or _shown_at(was, start) == _shown_at(becomes, start):
            continue
        if spans and spans[-1][1] == start:
            start = spans.pop()[0]
        spans.append((start, end))
    return spans


def _by_start(tenures: Iterable[Tenure]) -> list[Tenure]:
    return sorted(tenures, key=_start)


def _start(tenure: Tenure) -> datetime:
    return tenure.valid_from


def _shown_at(tenures: Sequence[Tenure], at: datetime) -> tuple[object, ...] | None:
    """Return what a decision shows of the holder at `at`. `tenures`: in order of their starts."""
    place = bisect_right(tenures, at, key=_start)
    found = tenures[place - 1] if place else None
    if found is None or (found.valid_to is not None and found.valid_to <= at):
        return None
    return (found.holder_id, found.holder_name, found.acting, found.document, found.reason)

"""Which ward a sender means: exactly one, or candidates to choose from, never a guess. Pure."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from operator import attrgetter

from shared.clock import local
from shared.http.identity import ward_of_token
from shared.text import fold_place

CANDIDATES = 5
_BY_CODE = attrgetter("code")
_ENDS = attrgetter("valid_to")


@dataclass(frozen=True)
class Unit:
    """A ward or commune (phường, xã). Codes and names are reused: the key is (code, valid_from)."""

    code: str
    valid_from: date
    valid_to: date | None
    name: str
    kind: str
    successors: tuple[tuple[str, date], ...] = ()
    """(code, valid_from) of the units that took its place, whole or in parts."""

    @cached_property
    def folded(self) -> str:
        """Computed once, and not for every report that is compared with the ward."""
        return fold_place(self.name)

    def is_in_force(self, day: date) -> bool:
        return self.valid_from <= day and (self.valid_to is None or day < self.valid_to)


@dataclass(frozen=True)
class Posting:
    """An officer's, or a device's, time in a unit."""

    unit: tuple[str, date]
    valid_from: datetime
    valid_to: datetime | None

    def holds(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


def in_force(units: Iterable[Unit], at: datetime) -> list[Unit]:
    """Units in force on the city's day of `at`, by code."""
    day = local(at).date()
    return sorted((u for u in units if u.is_in_force(day)), key=_BY_CODE)


def is_named(unit: Unit, ward: str, at: datetime) -> bool:
    """Whether a token's `CODE@VALID_FROM` means the unit. A code alone means the unit in force `at` that time."""
    code, day = ward_of_token(ward)
    return unit.code == code and (unit.is_in_force(local(at).date()) if day is None else unit.valid_from == day)


def resolve(text: str, units: Sequence[Unit]) -> Unit | list[Unit]:
    """The one unit of `units` with this code or folded name; else the candidates, best first, perhaps none."""
    found = exact(text, units)
    if len(found) == 1:
        return found[0]
    return found or candidates(text, units)


def exact(text: str, units: Iterable[Unit]) -> list[Unit]:
    """Units with this code; where there is none, those with this folded name."""
    known, code = list(units), text.strip()
    coded = [u for u in known if u.code == code]
    if coded:
        return coded
    wanted = fold_place(text)
    return [u for u in known if u.folded == wanted]


def of_another_time(text: str, units: Iterable[Unit], day: date) -> Unit | None:
    """The unit that has exactly this code or name, if there is one, but only before or after `day`.

    Of several the one that ended last, else the one that begins first. What has the name on the day goes before it.
    """
    found = exact(text, units)
    if any(u.is_in_force(day) for u in found):
        return None
    ended = max((u for u in found if u.valid_to is not None and u.valid_to <= day), key=_ENDS, default=None)
    return ended or min(found, key=attrgetter("valid_from"), default=None)


def followers(first: Unit, units: Iterable[Unit], day: date) -> list[Unit]:
    """The units in force on `day` that have the place of `first`, or parts of it, by code."""
    known = {(u.code, u.valid_from): u for u in units}
    seen, waiting, found = {(first.code, first.valid_from)}, [first], list[Unit]()
    while waiting:
        for key in waiting.pop().successors:
            if key in known and key not in seen:
                seen.add(key)
                found += [known[key]] if known[key].is_in_force(day) else []
                waiting.append(known[key])
    return sorted(found, key=_BY_CODE)


def candidates(text: str, units: Sequence[Unit]) -> list[Unit]:
    """Units whose name begins with `text`; if there are none, those whose name is close to it."""
    wanted = fold_place(text)
    begins = [u for u in units if wanted and u.folded.startswith(wanted)]
    if begins:
        return begins
    names = {u.folded: u for u in units}
    return [names[n] for n in difflib.get_close_matches(wanted, names, n=CANDIDATES, cutoff=0.7)]


def search(text: str, units: Sequence[Unit]) -> list[Unit]:
    """Units that hold `text` anywhere in name or code, without regard to marks and case."""
    wanted = fold_place(text)
    return [u for u in units if wanted in u.folded or wanted in u.code]

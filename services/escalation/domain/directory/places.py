"""Which units somebody means who asks about a ward, by code or by name. Pure. Nothing is guessed."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from services.escalation.domain.directory.model import Unit, UnitKey, key_of
from shared.text import fold_name, fold_place

CANDIDATES = 5
CLOSE = 0.7
_CODE = re.compile(r"([0-9]{5})(?:@([0-9]{4}-[0-9]{2}-[0-9]{2}))?")


@dataclass(frozen=True)
class Place:
    """The units of one code that were asked for: all, or those of `days`."""

    code: str
    days: frozenset[date] | None = None
    """First days of units."""

    def holds(self, code: str | None, valid_from: date | None) -> bool:
        return code == self.code and (self.days is None or valid_from in self.days)


@dataclass(frozen=True)
class Sight:
    """What somebody may see: incidents of these units, and those that the holder `told` was sent a notice of."""

    units: frozenset[UnitKey]
    told: str | None = None


def find_place(text: str, units: Mapping[UnitKey, Unit]) -> Place | list[Unit]:
    """Return the units that are meant, or candidates, perhaps none.

    `CODE` means all units that ever had the code, `CODE@VALID_FROM` one of them. A name, with or without marks, means
    those that had it. Where units with different codes had the name, they are candidates.
    """
    if (coded := _CODE.fullmatch(text.strip())) is not None:
        code, day = coded.groups()
        of_code = {str(unit.ref.valid_from): unit for unit in units.values() if unit.ref.code == code}
        if day in of_code:
            return Place(code, frozenset({of_code[day].ref.valid_from}))
        return Place(code) if of_code and day is None else _in_order(of_code.values())
    wanted = fold_place(text)
    named = [unit for unit in units.values() if fold_name(unit.ref.name) == wanted]
    codes = {unit.ref.code for unit in named}
    if len(codes) == 1:
        return Place(codes.pop(), frozenset(unit.ref.valid_from for unit in named))
    return _in_order(named or _close(wanted, units.values()))


def unit_of(text: str, units: Mapping[UnitKey, Unit], day: date) -> Unit | list[Unit]:
    """Return the one unit that is meant of those in force on `day`, or candidates, perhaps none.

    If none of that day is meant exactly, but one of another time is, that is returned.
    """
    there = {key: unit for key, unit in units.items() if unit.in_force(day)}
    found = find_place(text, there)
    meant = [] if isinstance(found, list) else [u for key, u in there.items() if found.holds(*key)]
    if not meant and isinstance(ever := find_place(text, units), Place):
        meant = [u for key, u in units.items() if ever.holds(*key)]
    return meant[0] if len(meant) == 1 else found if isinstance(found, list) else meant


def _close(wanted: str, units: Iterable[Unit]) -> list[Unit]:
    """Return units whose name begins with the text; if there are none, those whose name is close to it."""
    names = {unit: fold_name(unit.ref.name) for unit in units}
    begins = [unit for unit, name in names.items() if wanted and name.startswith(wanted)]
    near = difflib.get_close_matches(wanted, set(names.values()), n=CANDIDATES, cutoff=CLOSE)
    return begins or [unit for unit, name in names.items() if name in near]


def _in_order(units: Iterable[Unit]) -> list[Unit]:
    return sorted(units, key=lambda unit: key_of(unit.ref))

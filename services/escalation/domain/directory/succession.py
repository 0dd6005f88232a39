"""Succession: which units are, or were, one place under several names and codes. Pure.

A unit that ended with one successor goes on there. Of a unit that was divided only a person can say where a happening
goes on.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from services.escalation.domain.directory.model import Unit, UnitKey, key_of
from shared.events import UnitRef

Line = Mapping[UnitKey, datetime | None]
"""A unit and those that took its place one after the other. For each: from when it has that place, or None if that is
since the unit itself began."""


def line(units: Mapping[UnitKey, Unit], first: UnitKey, acting: UnitKey | None = None) -> Line:
    """Return the line of `first`. It ends where a unit was divided.

    `acting`: the unit that acts now for a happening in `first`. Where it follows from one part of a divided unit, the
    line goes on there.
    """
    return _line(units, first, acting, frozenset())


def _line(units: Mapping[UnitKey, Unit], first: UnitKey, acting: UnitKey | None, before: frozenset[UnitKey]) -> Line:
    found: dict[UnitKey, datetime | None] = {first: None}
    key = first
    while (unit := units.get(key)) is not None and unit.valid_to is not None:
        following = _follower(units, unit, acting, before | found.keys())
        if following is None:
            break
        key = key_of(following)
        goes_on = following.valid_from < unit.valid_to
        found[key] = unit.ends_at if goes_on else None
    return found


def _follower(
    units: Mapping[UnitKey, Unit], unit: Unit, acting: UnitKey | None, before: frozenset[UnitKey]
) -> UnitRef | None:
    possible = [s for s in unit.successors if key_of(s) not in before]
    if len(unit.successors) > 1:
        possible = [s for s in possible if acting in _line(units, key_of(s), acting, before)]
    return possible[0] if len(possible) == 1 else None


def has_place(of: Line, unit: UnitKey, at: datetime) -> bool:
    """Return whether what happens in `unit` at this time may be in the place of this line."""
    since = of.get(unit)
    return unit in of and (since is None or since <= at)


def kin_of(ended: Mapping[UnitKey, Unit], units: Iterable[UnitKey]) -> dict[UnitKey, set[UnitKey]]:
    """Return for each of these units those in whose incidents its reports may belong, itself included.

    They are the units that it follows, whole or in part, and those that took its place whole. `ended`: the units that
    ended near enough in time.
    """
    before: dict[UnitKey, set[UnitKey]] = {}
    for key, unit in ended.items():
        for successor in unit.successors:
            before.setdefault(key_of(successor), set()).add(key)
    return {unit: set(line(ended, unit)) | _reached(before, unit) for unit in units}


def _reached(before: Mapping[UnitKey, set[UnitKey]], unit: UnitKey) -> set[UnitKey]:
    found, waiting = set[UnitKey](), [unit]
    while waiting:
        new = before.get(waiting.pop(), set[UnitKey]()) - found
        found |= new
        waiting += new
    return found

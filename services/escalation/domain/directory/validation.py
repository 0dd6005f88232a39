"""Validation of rows for the directory. Pure.

An error must be corrected before its line is recorded. No check compares each row with each other: a request holds
thousands of one post.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from services.escalation.domain.directory.model import Unit, UnitKey, followers, key_of
from services.escalation.domain.directory.schemas import (
    ContactRow,
    LineError,
    Numbered,
    PostingRow,
    RosterRow,
    Table,
    Tables,
    TenureRow,
    UnitRow,
)
from shared.clock import local
from shared.events import UnitRef

Units = Mapping[UnitKey, Unit]


def check(tables: Tables, recorded: Units, posts: Iterable[str]) -> list[LineError]:
    """Return all errors in the rows. `recorded`: the units as recorded. `posts`: keys of the known posts."""
    units = with_recorded(tables.units, recorded)
    return [
        *check_units(tables.units, recorded),
        *check_tenures(tables.tenures, units, posts),
        *check_rosters(tables.rosters, units),
        *check_postings(tables.postings, units),
        *check_contacts(tables.contacts),
    ]


def with_recorded(rows: Sequence[Numbered[UnitRow]], recorded: Units) -> dict[UnitKey, Unit]:
    """Return all units as they will be after the rows.

    A column that the file does not have keeps its recorded value.
    """
    names = {key: unit.ref.name for key, unit in recorded.items()} | {row.key: row.name for _, row in rows}
    found = dict(recorded)
    for _, row in rows:
        old = recorded.get(row.key)
        given = row.model_fields_set
        successors = tuple(
            UnitRef(code=code, valid_from=since, name=names.get((code, since), ""))
            for code, since in row.successors or ()
        )
        found[row.key] = Unit(
            ref=UnitRef(code=row.code, valid_from=row.valid_from, name=row.name),
            kind=row.type,
            valid_to=row.valid_to if "valid_to" in given or old is None else old.valid_to,
            successors=successors if "successors" in given or old is None else old.successors,
            legal_act=row.legal_act if "legal_act" in given or old is None else old.legal_act,
        )
    return found


def check_units(rows: Sequence[Numbered[UnitRow]], recorded: Units | None = None) -> list[LineError]:
    """Return errors: units named twice, empty or overlapping periods, and impossible successors."""
    units = with_recorded(rows, recorded or {})
    errors: list[LineError] = []
    seen: dict[UnitKey, int] = {}
    for line, row in rows:
        earlier = seen.setdefault(row.key, line)
        if earlier != line:
            errors.append(_error(line, f"unit {name_of(row.key)} is on line {earlier} already: name it once", "code"))
            continue
        unit = units[row.key]
        if unit.valid_to is not None and unit.valid_to <= row.valid_from:
            errors.append(
                _error(line, f"valid_to {unit.valid_to} is not after valid_from {row.valid_from}", "valid_to")
            )
        errors += [_error(line, detail, "successors") for detail in _wrong_successors(unit, units)]
    errors += [*_overlapping_units(units, seen), *_wrong_predecessors(units, seen)]
    return sorted(errors, key=lambda e: e.line)


def _wrong_successors(unit: Unit, units: Units) -> list[str]:
    if unit.successors and unit.valid_to is None:
        return ["successors of a unit without valid_to: give the day on which they took its place"]
    wrong = [text for key in map(key_of, unit.successors) if (text := _wrong_successor(unit, key, units)) is not None]
    if len(set(map(key_of, unit.successors))) < len(unit.successors):
        wrong.append("a successor is named twice: name it once")
    return wrong


def _wrong_successor(unit: Unit, key: UnitKey, units: Units) -> str | None:
    """Return why this unit cannot take the place of `unit`. It may have been there before, and go on."""
    successor, ends = units.get(key), unit.valid_to
    if successor is None:
        return f"successor {name_of(key)} is unknown: put it in the same file, or import it first"
    if ends is None or successor.in_force(ends):
        return None
    if key[1] > ends:
        return f"successor {name_of(key)} begins after the unit ends, which is {ends}: correct one of the days"
    return f"successor {name_of(key)} ends on {successor.valid_to}, and the unit on {ends}: name one that goes on"


def _wrong_predecessors(units: Units, lines: Mapping[UnitKey, int]) -> list[LineError]:
    """Return an error for each line after which a recorded unit would have a successor that cannot be."""
    errors: list[LineError] = []
    for key, unit in units.items():
        for successor in map(key_of, unit.successors if key not in lines else ()):
            if successor in lines and (wrong := _wrong_successor(unit, successor, units)) is not None:
                detail = f"{unit.ref.name} ({name_of(key)}), which is recorded, names it as a successor: {wrong}"
                errors.append(_error(lines[successor], detail, "valid_to"))
    return errors


def _overlapping_units(units: Units, lines: Mapping[UnitKey, int]) -> list[LineError]:
    """Return an error wherever one code means two units at the same time."""
    errors: list[LineError] = []
    longest: UnitKey | None = None  # of those with this code so far, the one that ends last
    for key in sorted(units):
        if longest is None or longest[0] != key[0]:
            longest = key
            continue
        ends, line = units[longest].valid_to, lines.get(key, lines.get(longest))
        if line is not None and (ends is None or ends > key[1]):
            until = f"until {ends}" if ends else "without an end"
            other = f"{units[longest].ref.name}, which has the code from {longest[1]} {until}"
            errors.append(_error(line, f"unit {name_of(key)} overlaps {other}: give that one its valid_to", "code"))
            longest = longest if key in lines else key
        elif ends is not None and ((end := units[key].valid_to) is None or end > ends):
            longest = key
    return errors


def consequences(rows: Sequence[Numbered[UnitRow]], recorded: Units, errors: Sequence[LineError]) -> list[LineError]:
    """Return an error for each unit that would have no successor if the lines with `errors` were left out.

    It follows from an error of another line, at any remove.
    """
    bad = {e.line for e in errors if e.table == "units"}
    naming: dict[UnitKey, list[Numbered[UnitRow]]] = {}
    for line, row in rows:
        for key in row.successors or ():
            naming.setdefault(key, []).append((line, row))
    there = {*recorded, *(row.key for line, row in rows if line not in bad)}
    gone = [(line, row.key) for line, row in rows if line in bad and row.key not in there]
    found: list[LineError] = []
    while gone:
        cause, key = gone.pop()
        for line, row in naming.get(key, ()):
            if line not in bad:
                bad.add(line)
                detail = f"successor {name_of(key)} has an error on line {cause}: correct that one"
                found.append(_error(line, detail, "successors"))
                gone += [(line, row.key)] if row.key not in recorded else []
    return found


def check_tenures(rows: Sequence[Numbered[TenureRow]], units: Units, posts: Iterable[str]) -> list[LineError]:
    """Return errors: unknown units and posts, empty periods, units that ended, and two tenures at once in one post."""
    known_posts = set(posts)
    endings = Endings(units)
    errors: list[LineError] = []
    of_post: dict[tuple[Any, ...], _Tenures] = {}
    for line, row in rows:
        if (text := endings.wrong_unit(row.unit_key, row.valid_from, row.withdrawn)) is not None:
            errors.append(_error(line, text, "unit_code", "tenures"))
        if row.post not in known_posts:
            use = " or ".join(sorted(known_posts))
            errors.append(_error(line, f"post {row.post} is unknown: use {use}", "post", "tenures"))
        if row.valid_to is not None and row.valid_to <= row.valid_from:
            detail = f"valid_to {row.valid_to} is not after valid_from {row.valid_from}"
            errors.append(_error(line, detail, "valid_to", "tenures"))
            continue
        same_post = of_post.setdefault((row.unit_key, row.post, row.capacity), _Tenures())
        if (wrong := same_post.add(line, row)) is not None:
            errors.append(wrong)
    return errors


@dataclass
class _Tenures:
    """The tenures of one post that are without error so far: no two of them overlap."""

    lines: dict[tuple[str, date], int] = field(default_factory=dict[tuple[str, date], int])
    """By person and first day, including tenures that are withdrawn."""
    starts: list[date] = field(default_factory=list[date])
    held: list[Numbered[TenureRow]] = field(default_factory=list[Numbered[TenureRow]])
    """In order of their first days, which `starts` holds."""

    def add(self, line: int, row: TenureRow) -> LineError | None:
        """Take a tenure in, or return why it cannot be beside an earlier one."""
        earlier = self.lines.setdefault((row.holder_id, row.valid_from), line)
        if earlier != line:
            return _error(line, f"the tenure of line {earlier} again: say it once", "holder_id", "tenures")
        if row.withdrawn:
            return None
        place = bisect_right(self.starts, row.valid_from)
        for number, other in self.held[max(0, place - 1) : place + 1]:  # no two overlap, so only these can
            if _overlap(other, row):
                detail = f"overlaps line {number} for {row.post} of {row.unit_code}: one {row.capacity} at a time"
                return _error(line, detail, "valid_from", "tenures")
        self.starts.insert(place, row.valid_from)
        self.held.insert(place, (line, row))
        return None


class Endings:
    """Which units a row may name at which day."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._of_code: dict[str, list[Unit]] = {}
        for key in sorted(units):
            self._of_code.setdefault(key[0], []).append(units[key])

    def wrong_unit(self, key: UnitKey, day: date, withdrawn: bool = False) -> str | None:
        """Return why nobody holds a post of the unit from this day, and which unit to name. None: they may.

        A record that is withdrawn may be of any unit that is known.
        """
        unit = self._units.get(key)
        if unit is None:
            return f"unit {name_of(key)} is unknown: {self._instead(key[0], day)}"
        if withdrawn or unit.valid_to is None or day < unit.valid_to:
            return None
        return f"{unit.ref.name} ({name_of(key)}) {self._ended(unit, day)}"

    def _instead(self, code: str, day: date) -> str:
        known = self._of_code.get(code, ())
        meant = next((unit for unit in known if unit.in_force(day)), None)
        if meant is not None:
            return f"the code is of {meant.ref.name} since {meant.ref.valid_from}: give that unit_valid_from"
        ended = next((unit for unit in reversed(known) if unit.ended_by(day)), None)
        return f"{ended.ref.name} {self._ended(ended, day)}" if ended is not None else "import its ward first"

    def _ended(self, unit: Unit, day: date) -> str:
        heirs = [f"{heir.ref.name} ({name_of(key_of(heir.ref))})" for heir in followers(self._units, unit, day)]
        return f"ended on {unit.valid_to}: " + (f"name {' or '.join(heirs)}" if heirs else "no successor is recorded")


def _overlap(a: TenureRow, b: TenureRow) -> bool:
    return a.valid_from < (b.valid_to or date.max) and b.valid_from < (a.valid_to or date.max)


def check_rosters(rows: Sequence[Numbered[RosterRow]], units: Units) -> list[LineError]:
    """Return errors: unknown units and units that ended, empty periods, and turns given twice."""
    endings = Endings(units)
    errors: list[LineError] = []
    seen: dict[tuple[Any, ...], int] = {}
    for line, row in rows:
        since = local(row.valid_from).date()
        if row.unit_key is not None and (text := endings.wrong_unit(row.unit_key, since, row.withdrawn)) is not None:
            errors.append(_error(line, text, "unit_code", "rosters"))
        if row.valid_to <= row.valid_from:
            errors.append(_error(line, "valid_to is not after valid_from", "valid_to", "rosters"))
        earlier = seen.setdefault((row.level, row.unit_key, row.holder_id, row.valid_from, row.valid_to), line)
        if earlier != line:
            errors.append(_error(line, f"the turn of line {earlier} again: say it once", "holder_id", "rosters"))
    return errors


def check_postings(rows: Sequence[Numbered[PostingRow]], units: Units) -> list[LineError]:
    """Return errors: unknown units and units that ended, empty periods, and postings given twice."""
    endings = Endings(units)
    errors: list[LineError] = []
    seen: dict[tuple[Any, ...], int] = {}
    for line, row in rows:
        if (text := endings.wrong_unit(row.unit_key, row.valid_from, row.withdrawn)) is not None:
            errors.append(_error(line, text, "unit_code", "postings"))
        if row.valid_to is not None and row.valid_to <= row.valid_from:
            detail = f"valid_to {row.valid_to} is not after valid_from {row.valid_from}"
            errors.append(_error(line, detail, "valid_to", "postings"))
        earlier = seen.setdefault((row.unit_key, row.subject, row.valid_from), line)
        if earlier != line:
            errors.append(_error(line, f"the posting of line {earlier} again: say it once", "subject", "postings"))
    return errors


def check_contacts(rows: Sequence[Numbered[ContactRow]]) -> list[LineError]:
    """Return errors: a channel given twice, and "no channel" beside a channel of the same person."""
    errors: list[LineError] = []
    seen: dict[tuple[str, str | None], int] = {}
    for line, row in rows:
        earlier = seen.setdefault((row.holder_id, row.channel), line)
        if earlier != line:
            errors.append(_error(line, f"the channel of line {earlier} again: give it once", "channel", "contacts"))
    some = {holder for holder, channel in seen if channel}
    for (holder, channel), line in seen.items():
        if channel is None and holder in some:
            errors.append(
                _error(line, f"{holder} has channels on other lines: leave this one out", "channel", "contacts")
            )
    return errors


def _error(line: int, detail: str, field: str, table: Table = "units") -> LineError:
    return LineError(line, detail, field, table)


def name_of(key: UnitKey) -> str:
    return f"{key[0]} of {key[1]}"

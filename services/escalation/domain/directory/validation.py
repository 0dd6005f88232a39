"""Validation of rows for the directory. Pure.

An error must be corrected before its line is recorded. A note is only to be checked.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise, product
from typing import Any

from services.escalation.domain.directory.model import Duty, Tenure, Unit, UnitKey, key_of
from services.escalation.domain.directory.schemas import (
    ContactRow,
    LineError,
    Note,
    Numbered,
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
    refs = [unit.ref for unit in units.values()]
    return [
        *check_units(tables.units, recorded),
        *check_tenures(tables.tenures, refs, posts),
        *check_rosters(tables.rosters, refs),
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
            errors.append(_error(line, f"unit {_name(row.key)} is on line {earlier} already: name it once", "code"))
            continue
        unit = units[row.key]
        if unit.valid_to is not None and unit.valid_to <= row.valid_from:
            errors.append(
                _error(line, f"valid_to {unit.valid_to} is not after valid_from {row.valid_from}", "valid_to")
            )
        errors += [_error(line, detail, "successors") for detail in _wrong_successors(unit, units)]
    return sorted([*errors, *_overlapping_units(units, seen)], key=lambda e: e.line)


def _wrong_successors(unit: Unit, units: Units) -> list[str]:
    if unit.successors and unit.valid_to is None:
        return ["successors of a unit without valid_to: give the day on which they took its place"]
    wrong: list[str] = []
    for key in map(key_of, unit.successors):
        if key not in units:
            wrong.append(f"successor {_name(key)} is unknown: put it in the same file, or import it first")
        elif key[1] != unit.valid_to:
            wrong.append(f"successor {_name(key)} begins on another day than the unit ends, which is {unit.valid_to}")
    if len(set(map(key_of, unit.successors))) < len(unit.successors):
        wrong.append("a successor is named twice: name it once")
    return wrong


def _overlapping_units(units: Units, lines: Mapping[UnitKey, int]) -> list[LineError]:
    """Return an error wherever one code means two units at the same time."""
    errors: list[LineError] = []
    for a, b in pairwise(sorted(units)):
        ends, line = units[a].valid_to, lines.get(b, lines.get(a))
        if a[0] == b[0] and line is not None and (ends is None or ends > b[1]):
            until = f"until {ends}" if ends else "without an end"
            detail = f"unit {_name(b)} overlaps {units[a].ref.name}, which has the code from {a[1]} {until}"
            errors.append(_error(line, f"{detail}: give that one its valid_to", "code"))
    return errors


def note_units(rows: Sequence[Numbered[UnitRow]], recorded: Units) -> list[Note]:
    """Return notes: codes that are used again, and units that end without a successor."""
    units = with_recorded(rows, recorded)
    lines = {row.key: line for line, row in rows}
    notes: list[Note] = []
    for a, b in pairwise(sorted(units)):
        if a[0] == b[0] and a in lines:
            notes.append(Note(f"code {a[0]} is used again from {b[1]} by {units[b].ref.name}", lines[a], "units"))
        elif a[0] == b[0] and b in lines:
            detail = f"code {a[0]} was {units[a].ref.name} until {units[a].valid_to}"
            notes.append(Note(detail, lines[b], "units"))
    for key, line in lines.items():
        if units[key].valid_to is not None and not units[key].successors:
            detail = f"unit {_name(key)} ends without a successor: nobody acts for what is open there"
            notes.append(Note(detail, line, "units"))
    return sorted(notes, key=lambda n: n.line or 0)


def check_tenures(
    rows: Sequence[Numbered[TenureRow]], units: Iterable[UnitRef], posts: Iterable[str]
) -> list[LineError]:
    """Return errors: unknown units and posts, empty periods, and two tenures at once in one post."""
    known_units, known_posts = {key_of(u) for u in units}, set(posts)
    errors: list[LineError] = []
    seen: dict[tuple[Any, ...], list[tuple[int, TenureRow]]] = {}
    for line, row in rows:
        if row.unit_key not in known_units:
            errors.append(_unknown_unit(line, row.unit_key, "tenures"))
        if row.post not in known_posts:
            use = " or ".join(sorted(known_posts))
            errors.append(_error(line, f"post {row.post} is unknown: use {use}", "post", "tenures"))
        if row.valid_to is not None and row.valid_to <= row.valid_from:
            detail = f"valid_to {row.valid_to} is not after valid_from {row.valid_from}"
            errors.append(_error(line, detail, "valid_to", "tenures"))
        same_post = seen.setdefault((row.unit_key, row.post, row.capacity), [])
        errors += _conflicts(line, row, same_post)
        same_post.append((line, row))
    return errors


def _conflicts(line: int, row: TenureRow, others: Sequence[tuple[int, TenureRow]]) -> list[LineError]:
    errors: list[LineError] = []
    for number, other in others:
        if (other.holder_id, other.valid_from) == (row.holder_id, row.valid_from):
            detail = f"the tenure of line {number} again: say it once"
            errors.append(_error(line, detail, "holder_id", "tenures"))
        elif not (row.withdrawn or other.withdrawn) and _overlap(other, row):
            detail = f"overlaps line {number} for {row.post} of {row.unit_code}: one {row.capacity} at a time"
            errors.append(_error(line, detail, "valid_from", "tenures"))
    return errors


def _overlap(a: TenureRow, b: TenureRow) -> bool:
    return a.valid_from < (b.valid_to or date.max) and b.valid_from < (a.valid_to or date.max)


def check_rosters(rows: Sequence[Numbered[RosterRow]], units: Iterable[UnitRef]) -> list[LineError]:
    """Return errors: unknown units, empty periods, and turns given twice."""
    known_units = {key_of(u) for u in units}
    errors: list[LineError] = []
    seen: dict[tuple[Any, ...], int] = {}
    for line, row in rows:
        if row.unit_key is not None and row.unit_key not in known_units:
            errors.append(_unknown_unit(line, row.unit_key, "rosters"))
        if row.valid_to <= row.valid_from:
            errors.append(_error(line, "valid_to is not after valid_from", "valid_to", "rosters"))
        earlier = seen.setdefault((row.level, row.unit_key, row.holder_id, row.valid_from, row.valid_to), line)
        if earlier != line:
            errors.append(_error(line, f"the turn of line {earlier} again: say it once", "holder_id", "rosters"))
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


def note_tenures(
    rows: Sequence[Numbered[TenureRow]], units: Units, posts: Iterable[str], held: Sequence[Tenure]
) -> list[Note]:
    """Return notes: periods in which a post has no holder, and tenures that begin before their unit.

    Looks at the units that the rows name. `held`: the tenures of these units as they will be recorded.
    """
    line_of = {(row.unit_key, row.post, row.holder_id, row.valid_from): line for line, row in rows}
    of_post: dict[tuple[UnitKey, str], list[Tenure]] = {}
    for tenure in held:
        if tenure.capacity == "holder":
            of_post.setdefault((key_of(tenure.unit), tenure.post), []).append(tenure)
    notes: list[Note] = []
    for key, post in product(sorted({row.unit_key for _, row in rows}), sorted(posts)):
        for start, end, before in gaps(of_post.get((key, post), ()), units[key]):
            at = (key, post, before.holder_id, local(before.valid_from).date()) if before else None
            until = f"to {_day(end)}" if end else "on"
            detail = f"post {post} of {key[0]} {units[key].ref.name} has no holder from {_day(start)} {until}"
            notes.append(Note(detail, line_of.get(at) if at else None, "tenures"))
    notes += [
        Note(f"begins on {row.valid_from}, before its unit does", line, "tenures")
        for line, row in rows
        if row.valid_from < row.unit_valid_from
    ]
    return sorted(notes, key=lambda n: n.line or 0)


def gaps(tenures: Sequence[Tenure], unit: Unit) -> list[tuple[datetime, datetime | None, Tenure | None]]:
    """Return the periods of the unit that no tenure covers: (start, end, the tenure before it)."""
    found: list[tuple[datetime, datetime | None, Tenure | None]] = []
    reached: datetime | None = unit.starts_at
    before: Tenure | None = None
    for tenure in sorted(tenures, key=lambda t: t.valid_from):
        if reached is None or (unit.ends_at is not None and reached >= unit.ends_at):
            return found
        if tenure.valid_from > reached:
            end = tenure.valid_from if unit.ends_at is None else min(tenure.valid_from, unit.ends_at)
            found.append((reached, end, before))
        reached = None if tenure.valid_to is None else max(reached, tenure.valid_to)
        before = tenure
    if reached is not None and (unit.ends_at is None or reached < unit.ends_at):
        found.append((reached, unit.ends_at, before))
    return found


def note_rosters(rows: Sequence[Numbered[RosterRow]], held: Sequence[Duty]) -> list[Note]:
    """Return notes: turns that overlap another turn of the same person, which they may be meant to replace.

    `held`: the turns of these people as they will be recorded.
    """
    of_person: dict[tuple[Any, ...], list[Duty]] = {}
    for duty in held:
        of_person.setdefault((duty.level, duty.unit_key, duty.holder_id), []).append(duty)
    notes: list[Note] = []
    for line, row in rows:
        beside = (
            duty
            for duty in of_person.get((row.level, row.unit_key, row.holder_id), ())
            if (duty.valid_from, duty.valid_to) != (row.valid_from, row.valid_to)
            and duty.valid_from < row.valid_to
            and row.valid_from < duty.valid_to
        )
        if not row.withdrawn and any(beside):
            detail = f"{row.holder_id} has another turn at this time: withdraw it if this one is instead"
            notes.append(Note(detail, line, "rosters"))
    return notes


def note_contacts(rows: Sequence[Numbered[ContactRow]], holders: Collection[str]) -> list[Note]:
    """Return notes: channels of people without a post or a turn, whose id may be mistyped."""
    unknown = {row.holder_id: line for line, row in reversed(rows) if row.holder_id not in holders}
    return [
        Note(f"{holder} holds no post and is on no roster", line, "contacts")
        for holder, line in sorted(unknown.items(), key=lambda item: item[1])
    ]


def _unknown_unit(line: int, key: UnitKey, table: Table) -> LineError:
    return _error(line, f"unit {_name(key)} is unknown: import its ward first", "unit_code", table)


def _error(line: int, detail: str, field: str, table: Table = "units") -> LineError:
    return LineError(line, detail, field, table)


def _name(key: UnitKey) -> str:
    return f"{key[0]} of {key[1]}"


def _day(at: datetime) -> str:
    return local(at).date().isoformat()

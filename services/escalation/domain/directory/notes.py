"""Notes on rows for the directory: what is not wrong, but should be checked. Pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import pairwise, product
from typing import Any

from services.escalation.domain.directory.model import Duty, Tenure, Unit, UnitKey, key_of
from services.escalation.domain.directory.schemas import ContactRow, Note, Numbered, RosterRow, TenureRow, UnitRow
from services.escalation.domain.directory.validation import Units, name_of, with_recorded
from shared.clock import local


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
            detail = f"unit {name_of(key)} ends without a successor: nobody acts for what is open there"
            notes.append(Note(detail, line, "units"))
    return sorted(notes, key=lambda n: n.line or 0)


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
    of_person: dict[tuple[Any, ...], list[_Turn]] = {}
    for duty in held:
        of_person.setdefault((duty.level, duty.unit_key, duty.holder_id), []).append((duty.valid_from, duty.valid_to))
    for _, row in rows:
        if not row.withdrawn:
            person = (row.level, row.unit_key, row.holder_id)
            of_person.setdefault(person, []).append((row.valid_from, row.valid_to))
    crossing = {person: _crossing(turns) for person, turns in of_person.items()}
    notes: list[Note] = []
    for line, row in rows:
        turns = crossing.get((row.level, row.unit_key, row.holder_id), frozenset[_Turn]())
        if not row.withdrawn and (row.valid_from, row.valid_to) in turns:
            detail = f"{row.holder_id} has another turn at this time: withdraw it if this one is instead"
            notes.append(Note(detail, line, "rosters"))
    return notes


_Turn = tuple[datetime, datetime]


def _crossing(turns: Iterable[_Turn]) -> frozenset[_Turn]:
    """Return the turns that overlap another one."""
    found: set[_Turn] = set()
    longest: _Turn | None = None  # of the turns so far, the one that ends last
    for turn in sorted(set(turns)):
        if longest is not None and turn[0] < longest[1]:
            found |= {turn, longest}
        longest = turn if longest is None or turn[1] > longest[1] else longest
    return frozenset(found)


def note_contacts(rows: Sequence[Numbered[ContactRow]], holders: Collection[str]) -> list[Note]:
    """Return notes: channels of people without a post or a turn, whose id may be mistyped."""
    unknown = {row.holder_id: line for line, row in reversed(rows) if row.holder_id not in holders}
    return [
        Note(f"{holder} holds no post and is on no roster", line, "contacts")
        for holder, line in sorted(unknown.items(), key=lambda item: item[1])
    ]


def _day(at: datetime) -> str:
    return local(at).date().isoformat()

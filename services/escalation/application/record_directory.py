"""Record changes of the directory.

They are validated together and written in one transaction, with an event for each change.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.application.find_coverage import coverage_in
from services.escalation.application.reroute import reroute
from services.escalation.domain.directory import events as directory_events
from services.escalation.domain.directory.causes import MOST_SHOWN, causes_of, lines_of
from services.escalation.domain.directory.coverage import Coverage
from services.escalation.domain.directory.diff import (
    Change,
    Plan,
    Reach,
    changes_of_tenures,
    changes_of_units,
    plan_contacts,
    plan_rosters,
    plan_tenures,
    plan_units,
    shown_duty,
    shown_reach,
    shown_tenure,
    shown_unit,
)
from services.escalation.domain.directory.differences import Difference, differences
from services.escalation.domain.directory.model import Contact, Duty, Posting, Tenure, Unit, UnitKey, key_of
from services.escalation.domain.directory.notes import note_contacts, note_rosters, note_tenures, note_units
from services.escalation.domain.directory.postings import plan_postings, shown_posting
from services.escalation.domain.directory.schemas import LineError, Note, Place, RequestedChanges, Table, Tables
from services.escalation.domain.directory.validation import Units, check, consequences, with_recorded
from services.escalation.store import correlation, directory, postings, waiting_deliveries
from services.escalation.store.reevaluation import schedule_reevaluation
from services.escalation.store.tables import outbox
from shared.messaging import lock_streams

T = TypeVar("T")
AT_ONCE = 500
ChannelCheck = Callable[[str], str | None]
"""Returns why a channel cannot work, without its address, or None."""
Progress = Callable[[int, int], None]
"""Called with the number of events written, and their total."""


@dataclass(frozen=True)
class ImportSummary:
    """The result: how many lines there were, how many of them change something, and what was wrong."""

    lines: int
    recorded: int
    errors: Sequence[LineError]
    """The first causes, each once, with the lines that it concerns."""
    differences: Sequence[Difference] = ()
    notes: Sequence[Note] = ()
    dry_run: bool = False
    unchanged: int = 0
    """How many lines say what is recorded already."""
    causes: int = 0
    """How many causes of errors there are; `errors` holds the first of them."""
    wrong: int = 0
    """How many lines have an error."""
    coverage: Coverage | None = None
    """What the directory lacks after the change. None if nothing was to be recorded."""


@dataclass(frozen=True)
class _Recorded:
    """What is recorded now about everything that the rows name."""

    units: Units
    posts: Collection[str]
    tenures: Sequence[Tenure]
    duties: Sequence[Duty]
    postings: Sequence[Posting]
    contacts: Mapping[str, Sequence[Contact]]
    holders: Collection[str]
    """Ids of all people with a post or a turn, including those in these rows."""


@dataclass(frozen=True)
class Plans:
    """The planned changes of all tables."""

    units: Plan[Unit]
    tenures: Plan[Tenure]
    rosters: Plan[Duty]
    postings: Plan[Posting]
    contacts: Plan[Reach]

    @property
    def differences(self) -> list[Difference]:
        return [
            *differences("unit", self.units, shown_unit),
            *differences("tenure", self.tenures, shown_tenure),
            *differences("roster", self.rosters, shown_duty),
            *differences("posting", self.postings, shown_posting),
            *differences("contact", self.contacts, shown_reach),
        ]

    @property
    def lines(self) -> int:
        """How many lines change something."""
        plans = (self.units, self.tenures, self.rosters, self.postings, self.contacts)
        return len(set[Place]().union(*(plan.places for plan in plans)))


async def record(
    escalation: Escalation,
    requested: RequestedChanges,
    *,
    posts: Collection[str] = (),
    check_channel: ChannelCheck | None = None,
    keep_going: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportSummary:
    """Record what is asked. If any line has an error nothing is recorded, unless `keep_going`.

    `check_channel`: says which channels cannot work; None takes all that have a known scheme.

    A dry run does everything and rolls it back, so that it returns what the real run would return. `posts`: the known
    posts while no rulebook is adopted.
    """
    if check_channel is not None:
        requested = await asyncio.to_thread(_with_channels_checked, requested, check_channel)
    async with _changing(escalation, dry_run=dry_run) as connection:
        units = await directory.units(connection)
        posts = {p.key for a in await directory.rulebooks(connection) for p in a.rulebook.posts} or posts
        tables, found = _checked(requested, units, posts, keep_going=keep_going)
        causes, wrong = causes_of(found), lines_of(found)
        errors = causes[:MOST_SHOWN]
        if errors and not keep_going:
            return ImportSummary(
                requested.lines, 0, errors, notes=requested.notes, dry_run=dry_run, causes=len(causes), wrong=wrong
            )
        now = directory.after(await directory.newest(connection), escalation.clock.now())
        recorded = await _recorded(connection, tables, units, posts, now)
        plans = _plan(tables, recorded, now, escalation.new_id)
        await _write(escalation, connection, plans, with_recorded(tables.units, units), now, progress)
        lacks = await coverage_in(connection, posts, escalation.clock.now(), now)
    notes = [*requested.notes, *_notes(tables, recorded, plans)]
    unchanged = len(tables) - plans.lines
    return ImportSummary(
        requested.lines,
        plans.lines,
        errors,
        plans.differences,
        notes,
        dry_run,
        unchanged,
        len(causes),
        wrong,
        lacks,
    )


def _with_channels_checked(requested: RequestedChanges, check_channel: ChannelCheck) -> RequestedChanges:
    tables = requested.tables
    given: list[tuple[Table, int, str]] = [
        *(("tenures", line, row.channel) for line, row in tables.tenures if row.channel is not None),
        *(("rosters", line, row.channel) for line, row in tables.rosters if row.channel is not None),
        *(("contacts", line, row.channel) for line, row in tables.contacts if row.channel is not None),
    ]
    wrong = {channel: check_channel(channel) for channel in {channel for _, _, channel in given}}
    errors = [
        LineError(line, detail, "channel", table)
        for table, line, channel in given
        if (detail := wrong[channel]) is not None
    ]
    return replace(requested, tables=tables.without(errors), errors=[*requested.errors, *errors])


@asynccontextmanager
async def _changing(escalation: Escalation, *, dry_run: bool) -> AsyncGenerator[AsyncConnection]:
    async with escalation.database.connect() as connection, connection.begin() as transaction:
        await directory.lock(connection)
        yield connection
        if dry_run:
            await transaction.rollback()
    if not dry_run:
        escalation.wake(timers=True)


def _checked(
    requested: RequestedChanges, units: Units, posts: Collection[str], *, keep_going: bool
) -> tuple[Tables, list[LineError]]:
    """Return the rows that can be recorded together, and the errors of the others.

    Without `keep_going` there are no errors that only follow from others, since nothing is recorded.
    """
    tables, errors = requested.tables, [*requested.errors]
    while found := check(tables, units, posts):
        errors += found
        if not keep_going:
            break
        follow = consequences(tables.units, units, found)
        errors += follow
        tables = tables.without([*found, *follow])
    return tables, errors


async def _recorded(
    connection: AsyncConnection, tables: Tables, units: Units, posts: Collection[str], now: datetime
) -> _Recorded:
    keys = {row.unit_key for _, row in tables.tenures}
    on_duty = {row.holder_id for _, row in tables.rosters}
    posted = {row.subject for _, row in tables.postings}
    named = {row.holder_id for _, row in (*tables.tenures, *tables.rosters)}
    reached = named | {row.holder_id for _, row in tables.contacts}
    return _Recorded(
        units=units,
        posts=posts,
        tenures=await directory.tenures(connection, now, units=keys) if keys else (),
        duties=await directory.duties(connection, now, holders=on_duty) if on_duty else (),
        postings=await postings.of_subjects(connection, posted) if posted else (),
        contacts=await directory.contacts(connection, reached) if reached else {},
        holders=await directory.holders(connection) | named if tables.contacts else (),
    )


def _plan(tables: Tables, recorded: _Recorded, now: datetime, new_id: Callable[[], str]) -> Plans:
    units = with_recorded(tables.units, recorded.units)
    return Plans(
        units=plan_units(tables.units, recorded.units),
        tenures=plan_tenures(tables.tenures, units, recorded.tenures, now, new_id),
        rosters=plan_rosters(tables.rosters, recorded.duties, now, new_id),
        postings=plan_postings(tables.postings, recorded.postings, now, new_id),
        contacts=plan_contacts(tables, recorded.contacts),
    )


async def _write(
    escalation: Escalation,
    connection: AsyncConnection,
    plans: Plans,
    units: Units,
    now: datetime,
    progress: Progress | None,
) -> None:
    changes = _with_predecessors([*changes_of_units(plans.units), *changes_of_tenures(plans.tenures)], units)
    notified_in = await _units_with_notices(connection, plans.contacts, units)
    # From here on no report is correlated in these units. Earlier batches have committed: their incidents are found.
    await correlation.lock_units(connection, {change.unit[0] for change in changes} | {code for code, _ in notified_in})
    await directory.supersede_units(connection, [e.old for e in plans.units.ended], now)
    await directory.add_units(connection, plans.units.recorded, now)
    await directory.supersede_tenures(connection, [e.old for e in plans.tenures.ended], now)
    await directory.add_tenures(connection, plans.tenures.recorded)
    await directory.supersede_duties(connection, [e.old for e in plans.rosters.ended], now)
    await directory.add_duties(connection, plans.rosters.recorded)
    await postings.supersede(connection, [e.old for e in plans.postings.ended], now)
    await postings.add(connection, plans.postings.recorded)
    ended = [(e.old.holder_id, e.old.contact) for e in plans.contacts.ended]
    await directory.supersede_contacts(connection, ended, now)
    new = [(reach.holder_id, reach.contact) for reach in plans.contacts.recorded]
    await directory.add_contacts(connection, new, now)
    gone = [(holder, old.channel) for holder, old in ended]
    incident_ids = await waiting_deliveries.concerned(connection, notified_in, gone)
    await schedule_reevaluation(connection, changes, escalation.clock.now(), also=incident_ids)
    await lock_streams(connection, outbox)
    of_contacts = directory_events.of_contacts(plans.contacts, now, escalation.new_id)
    events = [
        *directory_events.of_units(plans.units, now, escalation.new_id),
        *directory_events.of_tenures(plans.tenures, now, escalation.new_id),
        *directory_events.of_rosters(plans.rosters, units, now, escalation.new_id),
        *directory_events.of_postings(plans.postings, units, now, escalation.new_id, escalation.pseudonym_of),
        *of_contacts,
    ]
    for start in range(0, len(events), AT_ONCE):
        part = events[start : start + AT_ONCE]
        await escalation.emit(connection, part)
        if progress is not None:
            progress(start + len(part), len(events))
    await reroute(escalation, connection, incident_ids, gone, now, {e.subject: e.id for e in of_contacts})


async def _units_with_notices(connection: AsyncConnection, plan: Plan[Reach], units: Units) -> set[UnitKey]:
    """Return the units whose incidents may notify somebody whose channels change."""
    holders = {reach.holder_id for reach in (*plan.recorded, *(e.old for e in plan.ended))}
    theirs = await directory.units_of(connection, holders) if holders else set[UnitKey]()
    return {change.unit for change in _with_predecessors([Change(unit) for unit in sorted(theirs)], units)}


def _with_predecessors(changes: Sequence[Change], units: Units) -> list[Change]:
    """Add a change for each predecessor of these units: its open incidents are concerned as well."""
    before: dict[UnitKey, set[UnitKey]] = {}
    for key, unit in units.items():
        for successor in unit.successors:
            before.setdefault(key_of(successor), set()).add(key)
    found = list(changes)
    for change in changes:
        reached, waiting = {change.unit}, [change.unit]
        while waiting:
            new = before.get(waiting.pop(), set[UnitKey]()) - reached
            reached |= new
            waiting += new
        found += [Change(key, (), change.boundaries) for key in sorted(reached - {change.unit})]
    return found


def _notes(tables: Tables, recorded: _Recorded, plans: Plans) -> list[Note]:
    units = with_recorded(tables.units, recorded.units)
    return [
        *note_units(tables.units, recorded.units),
        *plans.tenures.notes,
        *note_tenures(tables.tenures, units, recorded.posts, _as_planned(recorded.tenures, plans.tenures)),
        *plans.rosters.notes,
        *note_rosters(tables.rosters, _as_planned(recorded.duties, plans.rosters)),
        *plans.postings.notes,
        *note_contacts(tables.contacts, recorded.holders),
    ]


def _as_planned(recorded: Iterable[T], plan: Plan[T]) -> list[T]:
    gone = {id(e.old) for e in plan.ended}
    return [*(old for old in recorded if id(old) not in gone), *plan.recorded]

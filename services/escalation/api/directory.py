"""Routes on the directory: what was so, as it was known, and changes of it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.api.common import Ward, Wired, asked_ward
from services.escalation.api.models.directory import (
    Changed,
    ContactRows,
    DirectoryPage,
    Item,
    PostingRows,
    RosterRows,
    TenureRows,
    changed,
    contact_item,
    posting_item,
    roster_item,
    tenure_item,
    unit_item,
)
from services.escalation.api.rights import RIGHTS
from services.escalation.application.access import insist_on_office
from services.escalation.application.escalation import Escalation
from services.escalation.application.record_directory import record
from services.escalation.domain.directory.causes import ranges
from services.escalation.domain.directory.model import key_of
from services.escalation.domain.directory.places import Place
from services.escalation.domain.directory.schemas import LineError, RequestedChanges, Tables
from services.escalation.sending.channels import WayOut
from services.escalation.store import directory, postings
from shared.clock import local
from shared.http import cursor as cursors
from shared.http.body import bounded
from shared.http.cursor import Instant, Limit
from shared.http.guard import Caller
from shared.http.problem import FieldError, invalid

MAX_BYTES = 5_000_000
router = APIRouter(route_class=bounded(MAX_BYTES))
DryRun = Annotated[bool, Query(description="change nothing; answer what the change would be")]
ListedKind = Literal["tenures", "rosters", "postings", "contacts", "units"]
Found = list[tuple[list[str | int], Any]]
"""Records, each with a sort key that is unique in its list."""
WHATEVER_IS_RECORDED = datetime.max.replace(tzinfo=UTC)


@router.get("/directory")
async def get_directory(
    escalation: Wired,
    caller: Caller,
    as_of: Instant | None = None,
    known_at: Instant | None = None,
    ward: Ward = None,
    kind: ListedKind = "tenures",
    limit: Limit = 50,
    cursor: str | None = None,
) -> DirectoryPage:
    """Who held each post at `as_of` (who was on duty, which units there were), as it was known at `known_at`.

    If not given, `as_of` is now, and what is recorded counts, even by a clock that was ahead of ours. A `known_at` to
    come is taken for now. A change is recorded later than any before it and
    never before the clock of the replica that records it: so a `known_at` that every replica's clock has passed is
    answered the same for ever. Contacts are shown to the desk and administrators, by their scheme; they have no time of
    being so, only of being known.
    """
    if (right := RIGHTS.get(f"GET /directory?kind={kind}")) is not None:
        right.insist(caller.role)
    async with escalation.database.connect() as connection:
        await insist_on_office(connection, escalation, caller)
        await directory.lock_to_read(connection)
        now = escalation.clock.now()
        known = WHATEVER_IS_RECORDED if known_at is None else min(known_at, now)
        find, shown = _LISTS[kind]
        found = await find(connection, as_of or now, known, await asked_ward(connection, ward))
    page, following = cursors.page(sorted(found, key=lambda item: item[0]), lambda item: item[0], limit, cursor)
    return DirectoryPage(items=[shown(record) for _, record in page], next=following)


async def _tenures(connection: AsyncConnection, as_of: datetime, known: datetime, ward: Place | None) -> Found:
    found = await directory.tenures(connection, known, as_of=as_of)
    return [
        ([t.unit.code, t.unit.valid_from.isoformat(), t.post, t.tenure_id], t)
        for t in found
        if ward is None or ward.holds(*key_of(t.unit))
    ]


async def _rosters(connection: AsyncConnection, as_of: datetime, known: datetime, ward: Place | None) -> Found:
    found = await directory.duties(connection, known, as_of=as_of)
    return [
        ([d.level, d.unit_code or "", d.valid_from.isoformat(), d.roster_id], d)
        for d in found
        if ward is None or ward.holds(d.unit_code, d.unit_valid_from)
    ]


async def _postings(connection: AsyncConnection, as_of: datetime, known: datetime, ward: Place | None) -> Found:
    found = await postings.known(connection, known, as_of)
    return [
        ([p.unit_code, p.unit_valid_from.isoformat(), p.subject, p.posting_id], p)
        for p in found
        if ward is None or ward.holds(*p.unit_key)
    ]


async def _units(connection: AsyncConnection, as_of: datetime, known: datetime, ward: Place | None) -> Found:
    found = await directory.units_known(connection, known, _day(as_of))
    return [
        ([row.code, row.valid_from.isoformat()], row)
        for row in found
        if ward is None or ward.holds(row.code, row.valid_from)
    ]


def _day(instant: datetime) -> date:
    """The city's; the last hours that there are have none."""
    try:
        return local(instant).date()
    except OverflowError:
        return instant.date()


async def _contacts(connection: AsyncConnection, as_of: datetime, known: datetime, ward: Place | None) -> Found:
    """`ward`: of those who hold a post or are on duty there at `as_of`."""
    rows = await directory.contacts_known(connection, known)
    if ward is not None:
        held = await directory.tenures(connection, known, as_of=as_of)
        there = {t.holder_id for t in held if ward.holds(*key_of(t.unit))}
        turns = await directory.duties(connection, known, as_of=as_of)
        there |= {d.holder_id for d in turns if ward.holds(d.unit_code, d.unit_valid_from)}
        rows = [row for row in rows if row.holder_id in there]
    in_order = sorted(rows, key=lambda row: (row.holder_id, row.channel))
    return [([row.holder_id, number], row) for number, row in enumerate(in_order)]


Find = Callable[[AsyncConnection, datetime, datetime, Place | None], Awaitable[Found]]
_LISTS: dict[ListedKind, tuple[Find, Callable[[Any], Item]]] = {
    "tenures": (_tenures, tenure_item),
    "rosters": (_rosters, roster_item),
    "postings": (_postings, posting_item),
    "contacts": (_contacts, contact_item),
    "units": (_units, unit_item),
}


async def _way_out(request: Request) -> WayOut:
    return request.app.state.way_out


WiredWayOut = Annotated[WayOut, Depends(_way_out)]


@router.put("/directory/tenures")
async def put_tenures(
    escalation: Wired, caller: Caller, way_out: WiredWayOut, body: TenureRows, *, dry_run: DryRun = False
) -> Changed:
    """Record who holds a post, or stands in for its holder. A row supersedes what it contradicts; all rows or none."""
    return await _put(escalation.by(caller), way_out, Tables(tenures=list(enumerate(body.rows))), dry_run=dry_run)


@router.put("/directory/rosters")
async def put_rosters(
    escalation: Wired, caller: Caller, way_out: WiredWayOut, body: RosterRows, *, dry_run: DryRun = False
) -> Changed:
    """Add turns of duty, or withdraw them; all rows or none."""
    return await _put(escalation.by(caller), way_out, Tables(rosters=list(enumerate(body.rows))), dry_run=dry_run)


@router.put("/directory/postings")
async def put_postings(
    escalation: Wired, caller: Caller, way_out: WiredWayOut, body: PostingRows, *, dry_run: DryRun = False
) -> Changed:
    """Record where officers and devices are posted; all rows or none. Who has none is where their token says."""
    return await _put(escalation.by(caller), way_out, Tables(postings=list(enumerate(body.rows))), dry_run=dry_run)


@router.put("/directory/contacts")
async def put_contacts(
    escalation: Wired, caller: Caller, way_out: WiredWayOut, body: ContactRows, *, dry_run: DryRun = False
) -> Changed:
    """Say at which channels people are told, and when these are not to ring; all rows or none."""
    return await _put(escalation.by(caller), way_out, Tables(contacts=list(enumerate(body.rows))), dry_run=dry_run)


async def _put(escalation: Escalation, way_out: WayOut, tables: Tables, *, dry_run: bool) -> Changed:
    requested = RequestedChanges(tables, len(tables))
    done = await record(escalation, requested, check_channel=way_out.error, dry_run=dry_run)
    if done.errors:
        raise invalid([_field_error(e) for e in done.errors], of=done.causes)
    return changed(done)


def _field_error(error: LineError) -> FieldError:
    """One cause; `rows` are further rows with the same."""
    pointer = f"#/rows/{error.line}" + (f"/{error.field}" if error.field else "")
    if not error.also:
        return FieldError(pointer, error.detail)
    return FieldError(pointer, f"{error.detail} (rows {ranges([error.line, *error.also])})", rows=list(error.also))

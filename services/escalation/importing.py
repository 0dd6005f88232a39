"""Bringing wards, post-holders and rulebooks in: checked as a whole, recorded with an event for each change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.channels import scheme
from services.escalation.directory import (
    LineError,
    Tenure,
    TenureRow,
    UnitRow,
    check_tenures,
    check_units,
    overlap,
    read_rows,
    remainders,
)
from services.escalation.handlers import Escalation
from services.escalation.routing import envelope
from services.escalation.rulebook import AdoptedRulebook, RulebookError, check_complete, read
from services.escalation.store import directory
from shared.events import (
    ContactRecorded,
    ContactRecordedData,
    Event,
    RulebookAdopted,
    RulebookAdoptedData,
    TenureRecorded,
    TenureRecordedData,
    UnitRecorded,
    UnitRecordedData,
    UnitRef,
)

RULEBOOKS = Path(__file__).parent / "rulebooks"


class ImportingError(Exception):
    """A file of which nothing was imported; the text gives each line that is wrong."""

    def __init__(self, name: str, errors: Sequence[LineError]) -> None:
        super().__init__("; ".join(f"{name} line {e.line}: {e.detail}" for e in errors))


@dataclass(frozen=True)
class Imported:
    """How many lines were read, how many changed something, and what was wrong with which line."""

    lines: int
    recorded: int
    errors: Sequence[LineError]


def packaged_rulebooks() -> list[AdoptedRulebook]:
    return [read(path.read_bytes()) for path in sorted(RULEBOOKS.glob("*.yaml"))]


async def adopt_rulebooks(escalation: Escalation, books: Sequence[AdoptedRulebook]) -> int:
    """Adopt versions that are new. Raises RulebookError when an adopted version has other content now."""
    async with escalation.engine.begin() as connection:
        await directory.lock(connection)
        adopted = {a.rulebook.version: a.sha256 for a in await directory.rulebooks(connection)}
        new: list[AdoptedRulebook] = []
        for book in books:
            version = book.rulebook.version
            if version not in adopted:
                check_complete(book.rulebook)
                new.append(book)
            elif adopted[version] != book.sha256:
                raise RulebookError(
                    f"rulebook {version} was adopted with SHA-256 {adopted[version][:12]}… and the file has "
                    f"{book.sha256[:12]}…: an adopted version never changes, give the new text a new version"
                )
        events: list[Event] = []
        for book in new:
            now = escalation.clock.now()
            await directory.add_rulebook(connection, book, now)
            data = RulebookAdoptedData(
                version=book.rulebook.version,
                sha256=book.sha256,
                valid_from=book.rulebook.valid_from,
                valid_to=book.rulebook.valid_to,
            )
            events.append(RulebookAdopted(**envelope(escalation.new_id(), book.rulebook.version, now), data=data))
        await escalation.emit(connection, events)
    escalation.wake()
    return len(new)


async def import_wards(escalation: Escalation, content: bytes, *, keep_going: bool = False) -> Imported:
    """Units from CSV. With an error in any line nothing is recorded, unless `keep_going`."""
    rows, unread = read_rows(content, UnitRow)
    errors = [*unread, *check_units(rows)]
    lines = len(rows) + len(unread)
    if errors and not keep_going:
        return Imported(lines, 0, errors)
    bad = {e.line for e in errors}
    async with escalation.engine.begin() as connection:
        await directory.lock(connection)
        now = escalation.clock.now()
        good = [row for line, row in rows if line not in bad]
        recorded = await directory.add_units(connection, good, now)
        await escalation.emit(connection, [_unit_event(escalation, row) for row in recorded])
    escalation.wake()
    return Imported(lines, len(recorded), errors)


def _unit_event(escalation: Escalation, row: UnitRow) -> UnitRecorded:
    ref = UnitRef(code=row.code, valid_from=row.valid_from, name=row.name)
    data = UnitRecordedData(unit=ref, kind=row.type, valid_to=row.valid_to)
    return UnitRecorded(**envelope(escalation.new_id(), row.code, escalation.clock.now()), data=data)


async def import_directory(escalation: Escalation, content: bytes, *, keep_going: bool = False) -> Imported:
    """Post-holders and their contact channels from CSV. A line that differs supersedes what it overlaps."""
    rows, unread = read_rows(content, TenureRow)
    lines = len(rows) + len(unread)
    async with escalation.engine.begin() as connection:
        await directory.lock(connection)
        units = {
            (u.code, u.valid_from): UnitRef(code=u.code, valid_from=u.valid_from, name=u.name)
            for u in await directory.current_units(connection)
        }
        posts = {p.key for a in await directory.rulebooks(connection) for p in a.rulebook.posts}
        errors = [*unread, *check_tenures(rows, units.values(), posts)]
        if errors and not keep_going:
            return Imported(lines, 0, errors)
        bad = {e.line for e in errors}
        good = [row for line, row in rows if line not in bad]
        recorded = 0
        for row in good:
            ref = units[row.unit_code, row.unit_valid_from]
            recorded += await _record_tenure(escalation, connection, row, ref)
        await _record_channels(escalation, connection, good)
    escalation.wake()
    return Imported(lines, recorded, errors)


async def _record_tenure(escalation: Escalation, connection: AsyncConnection, row: TenureRow, ref: UnitRef) -> bool:
    """Add a tenure unless it is recorded already. What it overlaps of the same post is superseded, never changed."""
    now = escalation.clock.now()
    new = directory.tenure_of(row, ref, escalation.new_id(), now)
    key = {(ref.code, ref.valid_from)}
    current = [t for t in await directory.tenures(connection, now, units=key) if t.post == row.post]
    ignored = {"tenure_id", "recorded_at", "superseded_at"}
    if any(t.model_dump(exclude=ignored) == new.model_dump(exclude=ignored) for t in current):
        return False
    for old in (t for t in current if overlap(t, new)):
        await directory.supersede_tenure(connection, old.tenure_id, now)
        for left in remainders(old, new):
            kept = left.model_copy(update={"tenure_id": escalation.new_id(), "recorded_at": now})
            await directory.add_tenure(connection, kept)
            await escalation.emit(connection, [_tenure_event(escalation, kept, old.tenure_id)])
    await directory.add_tenure(connection, new)
    await escalation.emit(connection, [_tenure_event(escalation, new, None)])
    return True


def _tenure_event(escalation: Escalation, new: Tenure, supersedes: str | None) -> TenureRecorded:
    shown = new.model_dump(exclude={"recorded_at", "superseded_at", "unit"})
    data = TenureRecordedData(unit=new.unit, officials=(new.holder_id,), supersedes=supersedes, **shown)
    return TenureRecorded(**envelope(escalation.new_id(), new.unit.code, escalation.clock.now()), data=data)


async def _record_channels(escalation: Escalation, connection: AsyncConnection, rows: Sequence[TenureRow]) -> None:
    """The channels of holders for whom the file gives any; one without a channel keeps those it has."""
    urls: dict[str, set[str]] = {}
    for row in rows:
        if row.channel:
            urls.setdefault(row.holder_id, set()).add(row.channel)
    now = escalation.clock.now()
    events: list[Event] = []
    for holder_id, wanted in urls.items():
        for url in sorted(await directory.replace_channels(connection, holder_id, wanted, now)):
            data = ContactRecordedData(officials=(holder_id,), holder_id=holder_id, channel=scheme(url))
            events.append(ContactRecorded(**envelope(escalation.new_id(), holder_id, now), data=data))
    await escalation.emit(connection, events)

"""`trucban import wards` and `import directory`: straight into the database, beside a running system or without one."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli.options import content_of
from services.cli.process import joined, migrate_all
from services.escalation.app import connect_escalation
from services.escalation.application import adopt_rulebooks, import_directory
from services.escalation.domain.directory.diff import Difference
from services.escalation.domain.directory.readers import MAX_BYTES
from shared.clock import Clock
from shared.settings import Settings


async def import_file(
    settings: Settings,
    what: Literal["wards", "directory"],
    file: Path,
    *,
    keep_going: bool,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> import_directory.Imported:
    """A dry run prepares the database if need be, and records nothing. Raises CommandError for a file out of reach."""
    content = await asyncio.to_thread(content_of, f"{what} file", file, MAX_BYTES + 1)  # enough to know it is too large
    async with joined(settings) as ready:
        await migrate_all(ready)
        escalation = connect_escalation(ready, Clock(ready.clock))
        try:
            if not dry_run:
                await adopt_rulebooks.adopt_rulebooks(escalation, adopt_rulebooks.packaged_rulebooks())
            run = import_directory.import_wards if what == "wards" else import_directory.import_directory
            return await run(escalation, content, keep_going=keep_going, dry_run=dry_run, progress=progress)
        finally:
            await escalation.database.dispose()


def print_import(console: Console, file: Path, done: import_directory.Imported) -> None:
    """What a file changes: a table for a person, errors and notes as `file:line: text`."""
    workbook = file.suffix.lower() == ".xlsx"
    for error in done.errors:
        sys.stderr.write(f"{_where(file, workbook, error.table, error.line)}: {error.detail}\n")
    for note in done.notes:
        sys.stderr.write(f"{_where(file, workbook, note.table, note.line)}: note: {note.detail}\n")
    if done.differences and console.is_terminal:
        console.print(_table(done.differences))
    else:
        for each in done.differences:
            where = _where(file, workbook, *each.place)
            text = " ".join(cell for cell in _cells(each)[1:] if cell)
            console.print(f"{where}: {text}", soft_wrap=True, highlight=False, markup=False)
    would = "would be recorded" if done.dry_run else "recorded"
    counts = f"{done.recorded} {would}, {done.unchanged} unchanged, {len(done.errors)} with errors"
    console.print(f"{file}: {done.lines} lines, {counts}", soft_wrap=True, highlight=False, markup=False)


def _where(file: Path, workbook: bool, table: str | None, line: int | None) -> str:
    sheet = table if workbook else None
    return ":".join(str(part) for part in (file, sheet, line) if part is not None)


def _table(differences: Sequence[Difference]) -> Table:
    table = Table("line", "change", "record", "old → new")
    for each in differences:
        table.add_row(*(escape(cell) for cell in _cells(each)))
    return table


def _cells(each: Difference) -> tuple[str, str, str, str]:
    """Line, what happens, to which record, and what becomes of it."""
    fields = [
        ", ".join(f"{name}: {_text(old)} → {_text(new)}" for name, (old, new) in became.items())
        for became in each.became
    ]
    change = "withdrawn" if each.change == "superseded" and not each.became else each.change
    told = {name: value for name, value in each.record.items() if value not in (None, False)}
    shown = " ".join(name if value is True else str(value) for name, value in told.items())
    return str(each.place[1]), f"{each.kind} {change}", shown, "; ".join(fields)


def _text(value: Any) -> str:
    return "—" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def import_as_json(done: import_directory.Imported) -> dict[str, Any]:
    def shown(change: str) -> list[dict[str, Any]]:
        return [
            {"kind": d.kind, "line": d.place[1], "record": d.record}
            | ({"became": d.became} if change == "superseded" else {})
            for d in done.differences
            if d.change == change
        ]

    return {
        "dry_run": done.dry_run,
        "lines": done.lines,
        "recorded": done.recorded,
        "unchanged": done.unchanged,
        "added": shown("added"),
        "superseded": shown("superseded"),
        "notes": [{"table": n.table, "line": n.line, "detail": n.detail} for n in done.notes],
        "errors": [{"table": e.table, "line": e.line, "detail": e.detail} for e in done.errors],
    }

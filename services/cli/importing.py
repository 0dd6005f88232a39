"""`trucban import`: wards and directory straight into the database, reports through intake's own door."""

import asyncio
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli.process import CommandError, joined, migrate_all
from services.escalation import adopting, importing
from services.escalation.app import wired
from services.escalation.changing import Difference
from services.escalation.rows import LineError
from services.escalation.sheets import MAX_BYTES
from shared.clock import Clock
from shared.ids import uuid7
from shared.settings import Settings

BATCH = 500
ATTEMPTS = 6


@dataclass
class Done:
    lines: int = 0
    recorded: int = 0
    errors: Sequence[LineError] = field(default_factory=list[LineError])


def new_report_id() -> str:
    return uuid7(datetime.now(UTC))


async def import_file(
    settings: Settings,
    what: Literal["wards", "directory"],
    file: Path,
    *,
    keep_going: bool,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> importing.Imported:
    """A dry run prepares the database if need be, and records nothing. Raises CommandError for a file out of reach."""
    try:
        content = await asyncio.to_thread(_start_of, file)
    except OSError as error:
        raise CommandError(f"{what} file {file} cannot be read: {error.strerror}") from error
    async with joined(settings) as ready:
        await migrate_all(ready)
        escalation = wired(ready, Clock(ready.clock))
        try:
            if not dry_run:
                await adopting.adopt_rulebooks(escalation, adopting.packaged_rulebooks())
            run = importing.import_wards if what == "wards" else importing.import_directory
            return await run(escalation, content, keep_going=keep_going, dry_run=dry_run, progress=progress)
        finally:
            await escalation.engine.dispose()


def _start_of(file: Path) -> bytes:
    """The file, or so much of it that it is known to be too large."""
    with file.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def print_import(console: Console, file: Path, done: importing.Imported) -> None:
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


def import_as_json(done: importing.Imported) -> dict[str, Any]:
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


def send_reports(
    file: str, url: str, token: str | None, progress: Callable[[int, int], None], *, keep_going: bool
) -> Done:
    """Send reports in batches. Repeating is safe: a report that is known is counted as recorded, not doubled.

    Raises CommandError when the file cannot be read or the system does not answer.
    """
    reports, errors = _read_reports(file)
    if errors and not keep_going:
        return Done(len(reports) + len(errors), 0, errors)
    done = Done(len(reports) + len(errors), 0, errors)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        for start in range(0, len(reports), BATCH):
            part = reports[start : start + BATCH]
            results = _send(client, [body for _, body in part])
            for (line, _), result in zip(part, results, strict=True):
                if "problem" in result:
                    done.errors = [*done.errors, LineError(line, str(result["problem"].get("detail")))]
                else:
                    done.recorded += 1
            progress(start + len(part), len(reports))
    return done


def _send(client: httpx.Client, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One batch, again while the system is busy or away: the report ids make that safe."""
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            answer = client.post("/intake/v1/reports:batch", json=bodies)
        except httpx.HTTPError as error:
            reason = f"cannot be reached ({error})"
        else:
            if answer.status_code == 200:
                results: list[dict[str, Any]] = answer.json()["results"]
                put_off = [r["problem"]["detail"] for r in results if r["status"] == 503]
                if not put_off:
                    return results
                reason = f"did not take {len(put_off)} reports: {put_off[0]}"
            else:
                reason = f"answered {answer.status_code}: {answer.text[:200]}"
                if answer.status_code < 500:
                    break
        time.sleep(min(0.2 * 2**attempt, 5))
    raise CommandError(f"{client.base_url} {reason}; what was sent is safe, run the import again")


def _read_reports(file: str) -> tuple[list[tuple[int, dict[str, Any]]], list[LineError]]:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"reports file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"reports file {file}: byte {error.start} is not UTF-8") from error
    if file.endswith(".csv"):
        rows = csv.DictReader(io.StringIO(text))
        return [(rows.line_num, {k: v for k, v in row.items() if v}) for row in rows], []
    good: list[tuple[int, dict[str, Any]]] = []
    bad: list[LineError] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            good.append((number, json.loads(line)))
        except ValueError as error:
            bad.append(LineError(number, f"not JSON: {error}"))
    return good, bad

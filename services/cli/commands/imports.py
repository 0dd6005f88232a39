"""`trucban import`: wards and the directory into the database, reports to a running system."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.cli.commands.common import LOCAL, AsJson, Data, Token, Url, console, run, show_progress
from services.cli.options import read_settings

if TYPE_CHECKING:
    from services.cli.send_reports import SendTotals
    from services.escalation.application.import_directory import ImportSummary
    from services.escalation.domain.directory.differences import Difference

KeepGoing = Annotated[bool, typer.Option(help="record the good lines when some are bad")]
DryRun = Annotated[bool, typer.Option(help="change nothing; show what the import would change")]
app = typer.Typer(help="Bring data in from files.", no_args_is_help=True)


@app.command("wards")
def import_wards(
    file: Path, data: Data = None, keep_going: KeepGoing = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Wards from CSV or XLSX: code,valid_from,name,type[,valid_to,successors,legal_act].

    Example: trucban import wards samples/wards.csv --dry-run
    """
    _import_file("wards", file, data, keep_going=keep_going, dry_run=dry_run, as_json=as_json)


@app.command("directory")
def import_directory(
    file: Path, data: Data = None, keep_going: KeepGoing = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Post-holders, rosters, postings or contacts from CSV, told apart by the header; or XLSX with a sheet for each.

    Example: trucban import directory samples/directory.csv --dry-run
    """
    _import_file("directory", file, data, keep_going=keep_going, dry_run=dry_run, as_json=as_json)


def _import_file(
    what: Literal["wards", "directory"],
    file: Path,
    data: Path | None,
    *,
    keep_going: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from services.cli.import_file import import_file

    settings = read_settings(data)
    with show_progress(what, as_json=as_json, transient=True) as progress:
        done = run(import_file(settings, what, file, keep_going=keep_going, dry_run=dry_run, progress=progress))
    if as_json:
        typer.echo(json.dumps(import_as_json(done), ensure_ascii=False))
    else:
        print_import(console, file, done)
    raise SystemExit(1 if done.errors else 0)


def print_import(console: Console, file: Path, done: "ImportSummary") -> None:
    """What a file changes: a table on a terminal, else lines. Errors and notes as `file:line: text`."""
    from services.escalation.domain.directory.causes import ranges

    is_workbook = file.suffix.lower() == ".xlsx"
    for error in done.errors:
        also = f" (lines {ranges([error.line, *error.also])})" if error.also else ""
        sys.stderr.write(f"{_place(file, is_workbook, error.table, error.line)}: {error.detail}{also}\n")
    if done.causes > len(done.errors):
        sys.stderr.write(f"{file}: {done.causes - len(done.errors)} more errors: correct these first\n")
    for note in done.notes:
        sys.stderr.write(f"{_place(file, is_workbook, note.table, note.line)}: note: {note.detail}\n")
    if done.differences and console.is_terminal:
        console.print(_table(done.differences))
    else:
        for each in done.differences:
            place = _place(file, is_workbook, *each.place)
            text = " ".join(cell for cell in _cells(each)[1:] if cell)
            console.print(f"{place}: {text}", soft_wrap=True, highlight=False, markup=False)
    would = "would be recorded" if done.dry_run else "recorded"
    counts = f"{done.recorded} {would}, {done.unchanged} unchanged, {done.wrong} with errors"
    console.print(f"{file}: {done.lines} lines, {counts}", soft_wrap=True, highlight=False, markup=False)
    if (lacks := done.coverage) is not None:
        wards, people = lacks.wards_without_holder, len(lacks.unreachable)
        text = f"directory: {wards} wards without holder, {people} persons without channel"
        console.print(text, soft_wrap=True, highlight=False, markup=False)


def _place(file: Path, is_workbook: bool, table: str | None, line: int | None) -> str:
    sheet = table if is_workbook else None
    return ":".join(str(part) for part in (file, sheet, line) if part is not None)


def _table(differences: "Sequence[Difference]") -> Table:
    table = Table("line", "change", "record", "old → new")
    for each in differences:
        table.add_row(*(escape(cell) for cell in _cells(each)))
    return table


def _cells(each: "Difference") -> tuple[str, str, str, str]:
    """Line, what happens, to which record, and which fields become what."""
    fields = [
        ", ".join(f"{name}: {_text(old)} → {_text(new)}" for name, (old, new) in became.items())
        for became in each.became
    ]
    change = "withdrawn" if each.change == "superseded" and not each.became else each.change
    known = {name: value for name, value in each.record.items() if value not in (None, False)}
    record = " ".join(name if value is True else str(value) for name, value in known.items())
    return str(each.place[1]), f"{each.kind} {change}", record, "; ".join(fields)


def _text(value: Any) -> str:
    return "—" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def import_as_json(done: "ImportSummary") -> dict[str, Any]:
    def changes(change: str) -> list[dict[str, Any]]:
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
        "added": changes("added"),
        "superseded": changes("superseded"),
        "notes": [{"table": n.table, "line": n.line, "detail": n.detail} for n in done.notes],
        "errors": [{"table": e.table, "line": e.line, "detail": e.detail, "also": e.also} for e in done.errors],
        "causes": done.causes,
        "wrong": done.wrong,
        "wards_without_holder": done.coverage.wards_without_holder if done.coverage is not None else None,
        "persons_without_channel": len(done.coverage.unreachable) if done.coverage is not None else None,
    }


@app.command("reports")
def import_reports(
    file: Annotated[str, typer.Argument(help="NDJSON or CSV; - for standard input")],
    url: Url = LOCAL,
    token: Token = None,
    keep_going: Annotated[bool, typer.Option(help="take the good lines when some are bad")] = False,
    as_json: AsJson = False,
) -> None:
    """Reports from a file, sent in batches; safe to repeat. Example: trucban import reports tonight.ndjson"""
    from services.cli.send_reports import send_reports

    with show_progress("reports", as_json=as_json) as progress:
        done = send_reports(file, url, token, progress, keep_going=keep_going)
    _print_reports(Path(file), done, as_json)
    raise SystemExit(1 if done.errors else 0)


def _print_reports(file: Path, done: "SendTotals", as_json: bool) -> None:
    if as_json:
        errors = [{"line": e.line, "detail": e.detail} for e in done.errors]
        counts = {"lines": done.lines, "recorded": done.recorded, "known": done.known}
        typer.echo(json.dumps(counts | {"errors": errors}, ensure_ascii=False))
        return
    for error in done.errors:
        sys.stderr.write(f"{file}:{error.line}: {error.detail}\n")
    known = f"{done.known} known already, " if done.known else ""
    typer.echo(f"{file}: {done.lines} lines, {done.recorded} recorded, {known}{len(done.errors)} with errors")

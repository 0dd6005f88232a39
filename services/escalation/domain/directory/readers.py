"""Reading tables from CSV or XLSX: bytes in, rows and errors out, each with its line."""

import csv
import io
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from services.escalation.domain.directory.schemas import (
    ContactRow,
    LineError,
    Note,
    PostingRow,
    Read,
    RequestedChanges,
    RosterRow,
    Row,
    Table,
    Tables,
    TenureRow,
    UnitRow,
)
from shared.text import normalize

R = TypeVar("R", bound=Row)
MAX_BYTES = 20 * 2**20
"""Limit for a file, and for an unpacked workbook: a zip of a few kilobytes can hold gigabytes."""
MAX_ROWS = 20_000
MAX_COLUMNS = 64
XLSX_LAST_ROW = 2**20
MODELS: Mapping[Table, type[Row]] = {
    "units": UnitRow,
    "tenures": TenureRow,
    "rosters": RosterRow,
    "postings": PostingRow,
    "contacts": ContactRow,
}
DIRECTORY: tuple[Table, ...] = ("tenures", "rosters", "postings", "contacts")
"""Names of the sheets of a directory workbook."""
DELIMITERS = ",;\t"
"""A spreadsheet with Vietnamese settings saves CSV with semicolons."""


@dataclass(frozen=True)
class Sheet:
    """A table as it stands in a file. `lines`: the number and the cells of each line that is not empty."""

    name: str = ""
    header_line: int = 1
    header: Sequence[str] = ()
    lines: Sequence[tuple[int, Sequence[Any]]] = ()
    errors: Sequence[LineError] = ()


def read_wards(content: bytes) -> RequestedChanges:
    """Read units from a CSV file, or from a workbook's first sheet."""
    return _gather([("units", _sheets(content)[0])], [])


def read_directory(content: bytes) -> RequestedChanges:
    """Read tenures, rosters, postings or contacts from a table, or from a workbook with a sheet for each.

    A single table is recognised by its header.
    """
    sheets = _sheets(content)
    named: list[tuple[Table, Sheet]] = [
        (table, sheet) for table in DIRECTORY for sheet in sheets if sheet.name.strip().lower() == table
    ]
    if not named:
        return _gather([(_table_of(sheets[0]), sheets[0])], sheets[1:])
    if len({table for table, _ in named}) < len(named):
        return RequestedChanges(lines=1, errors=[LineError(1, "two sheets have the same name: keep one of them")])
    return _gather(named, [s for s in sheets if all(s is not sheet for _, sheet in named)])


def is_workbook(content: bytes) -> bool:
    return content.startswith(b"PK\x03\x04")


def _table_of(sheet: Sheet) -> Table:
    if "level" in sheet.header:
        return "rosters"
    if "subject" in sheet.header:
        return "postings"
    return "contacts" if "channel" in sheet.header and not {"post", "unit_code"} & {*sheet.header} else "tenures"


def _gather(tables: Sequence[tuple[Table, Sheet]], unread: Sequence[Sheet]) -> RequestedChanges:
    found: dict[str, Sequence[Any]] = {}
    errors: list[LineError] = []
    for table, sheet in tables:
        read = _rows(sheet, MODELS[table])
        found[table] = read.rows
        errors += [replace(e, table=table) for e in read.errors]
    rows = Tables(**found)
    lines = len(rows) + len({(e.table, e.line) for e in errors})
    notes = [Note(f"sheet {s.name} is not read: sheets are called {', '.join(DIRECTORY)}") for s in unread if s.header]
    return RequestedChanges(rows, lines, errors, notes)


def _sheets(content: bytes) -> list[Sheet]:
    """Return at least one sheet. If the file cannot be read at all, the sheet has an error on line 1."""
    if len(content) > MAX_BYTES:
        return [_unread(f"larger than {MAX_BYTES // 2**20} MB: divide it")]
    if is_workbook(content):
        return _workbook(content)
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        return [_unread("an old .xls, or a workbook with a password: save it as .xlsx without one")]
    return [_csv(content)]


def _unread(detail: str) -> Sheet:
    return Sheet(errors=[LineError(1, detail)])


def _csv(content: bytes) -> Sheet:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _unread(f"byte {error.start} is not UTF-8: save the file as CSV UTF-8")
    first = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    found: list[tuple[int, Sequence[Any]]] = []
    errors: list[LineError] = []
    try:
        for cells in reader:
            filled = [cell.strip() for cell in cells]
            found += [(reader.line_num, filled)] if any(filled) else []
    except csv.Error as error:
        errors.append(LineError(max(1, reader.line_num), f"not CSV, and not read from here on: {error}"))
    return _sheet("", found, errors)


def _sheet(name: str, found: Sequence[tuple[int, Sequence[Any]]], errors: Sequence[LineError]) -> Sheet:
    if not found:
        return Sheet(name, errors=errors or [LineError(1, "empty: the first line names the columns")])
    line, header = found[0]
    if len(found) > MAX_ROWS:
        errors = [LineError(found[MAX_ROWS][0], f"more than {MAX_ROWS} lines: divide the file")]
        found = ()
    names = [normalize(str(cell or "")).lower() for cell in header]
    return Sheet(name, line, names, found[1:], errors)


def _workbook(content: bytes) -> list[Sheet]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > MAX_BYTES:
            return [_unread(f"unpacks to {unpacked // 2**20} MB, more than {MAX_BYTES // 2**20}: divide it")]
        return _open(content)
    except Exception as error:  # a broken file makes openpyxl raise almost anything
        return [_unread(f"not a workbook that can be read ({type(error).__name__}): save it anew as .xlsx")]


def _open(content: bytes) -> list[Sheet]:
    """Read a workbook. openpyxl uses defusedxml, which is a dependency and refuses any entity declaration."""
    from openpyxl import load_workbook  # imported here because importing it is slow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about styles and extensions, which are not read
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=False, keep_links=False)
        sheets = [_worksheet(sheet) for sheet in book.worksheets]
        book.close()
    return sheets or [_unread("a workbook without a sheet")]


def _worksheet(sheet: Any) -> Sheet:
    """Return the lines that hold something. Formatting alone, down to a sheet's last row, does not count."""
    found: list[tuple[int, Sequence[Any]]] = []
    sheet.reset_dimensions()  # the size that the file states may be wrong
    rows = sheet.iter_rows(max_row=XLSX_LAST_ROW, max_col=MAX_COLUMNS)
    empty: Any = None
    for number, cells in enumerate(rows, 1):
        if cells is empty:  # openpyxl yields one and the same object for all missing lines
            continue
        values = [_cell(cell) for cell in cells]
        if any(value not in (None, "") for value in values):
            found.append((number, values))
        else:
            empty = cells
        if len(found) > MAX_ROWS + 1:
            break
    return _sheet(sheet.title, found, [])


@dataclass(frozen=True)
class Unusable:
    """A cell whose value cannot be used. `why`: the reason and the way out."""

    why: str


def _cell(cell: Any) -> Any:
    """Return text as a person sees it.

    Days and times keep their type, so that text which the spreadsheet turned into one of them is noticed.
    """
    value = cell.value
    if cell.data_type == "f":
        return Unusable("holds a formula: put its value there")
    if cell.data_type == "e":
        return Unusable("holds an error of the spreadsheet: correct it")
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _rows(sheet: Sheet, model: type[R]) -> Read[R]:
    errors = [*sheet.errors]
    if sheet.header and (wrong := _wrong_header(sheet.header, model)):
        return Read((), [*errors, *(LineError(sheet.header_line, detail) for detail in wrong)])
    good: list[tuple[int, R]] = []
    for line, cells in sheet.lines:
        read = _row(sheet.header, cells, model)
        if isinstance(read, BaseModel):
            good.append((line, read))
        else:
            errors.append(replace(read, line=line))
    return Read(good, sorted(errors, key=lambda e: e.line))


def _wrong_header(header: Sequence[str], model: type[Row]) -> list[str]:
    columns = model.model_fields
    wrong = [f"column {name} is there twice: keep one" for name, n in Counter(header).items() if name and n > 1]
    for name in dict.fromkeys(header):
        if name and name not in columns:
            near = get_close_matches(name, columns, n=1)
            hint = f"is it {near[0]}?" if near else f"columns are {', '.join(columns)}"
            wrong.append(f"column {name[:50]} is not known: {hint}")
    missing = [name for name, f in columns.items() if f.is_required() and name not in header]
    if missing:
        wrong.append(f"column {', '.join(missing)} is missing: the first line names the columns")
    return wrong


def _row(header: Sequence[str], cells: Sequence[Any], model: type[R]) -> R | LineError:
    """Return the row, or its error without the number of the line."""
    extra = [n for n, cell in enumerate(cells, 1) if (n > len(header) or not header[n - 1]) and cell not in (None, "")]
    if extra:
        detail = f"column {extra[0]} has no name, and a cell: more cells than the header has columns"
        return LineError(0, f"{detail}; text that holds a comma goes in quotation marks")
    given: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        if isinstance(cell, Unusable):
            return LineError(0, f"{name}: {cell.why}", name)
        if cell not in (None, ""):
            given[name] = cell
        elif name and not (of := model.model_fields[name]).is_required() and of.default is None:
            given[name] = None  # an empty cell means "none"; a missing column means "as it is"
    try:
        return model.model_validate(given)
    except ValidationError as error:
        return _wrong(error)


def _wrong(error: ValidationError) -> LineError:
    """Return the first error. It does not quote the value, which may be personal."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or None
    detail = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "string_type" and isinstance(first["input"], date | timedelta | datetime):
        detail = "the spreadsheet made a day of it: make the column text"
    return LineError(0, f"{name}: {detail}" if name else detail, name)

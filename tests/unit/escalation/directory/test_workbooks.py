"""Workbooks of the directory as spreadsheets save them: read cell by cell, and refused when damaged."""

import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from services.escalation.domain.directory.readers import MAX_BYTES, read_directory, read_wards
from services.escalation.domain.directory.schemas import RequestedChanges
from tests.support import at

SECRET = "mailto://ten:mat-khau@example.vn"


def workbook(**sheets: Sequence[Sequence[Any]]) -> bytes:
    book = Workbook()
    assert book.active is not None
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


TENURES = (
    (
        "unit_code",
        "unit_valid_from",
        "post",
        "holder_id",
        "holder_name",
        "acting",
        "valid_from",
        "valid_to",
        "document",
    ),
    (14776, date(2021, 2, 1), "chair", "mau-1", "Chủ tịch (mẫu)", True, datetime(2023, 1, 20), None, "QĐ mẫu số 1"),  # noqa: DTZ001 - as a spreadsheet has it
)


def changed(column: str, value: Any) -> bytes:
    """The workbook with another value in its only line."""
    row = [value if name == column else cell for name, cell in zip(*TENURES, strict=True)]
    return workbook(tenures=[TENURES[0], row])


def lines_of(asked: RequestedChanges) -> list[tuple[str | None, int, str]]:
    return [(e.table, e.line, e.detail) for e in asked.errors]


def test_cells_of_a_workbook_are_read_as_what_they_are() -> None:
    asked = read_directory(workbook(tenures=TENURES))
    assert not asked.errors
    ((line, row),) = asked.tables.tenures
    assert (line, row.unit_code, row.unit_valid_from) == (2, "14776", date(2021, 2, 1))
    assert (row.acting, row.valid_from, row.valid_to) == (True, date(2023, 1, 20), None)


def test_a_workbook_has_a_sheet_for_each_table_and_tells_which_it_does_not_read() -> None:
    turn = ("desk", "mau-2", "(mẫu)", datetime(2023, 1, 21, 18), datetime(2023, 1, 22, 6), "Lịch")  # noqa: DTZ001 - as above
    asked = read_directory(
        workbook(
            Rosters=[("level", "holder_id", "holder_name", "valid_from", "valid_to", "document"), turn],
            tenures=TENURES,
            contacts=[("holder_id", "channel", "quiet_from", "quiet_to"), ("mau-2", SECRET, time(22), "06:00")],
            notes=[("nothing",)],
        )
    )
    assert not asked.errors
    assert asked.lines == len(asked.tables) == 3
    assert [row.valid_from for _, row in asked.tables.rosters] == [at("2023-01-21 18:00")]
    assert [row.quiet_from for _, row in asked.tables.contacts] == [time(22)]
    assert [n.detail for n in asked.notes] == [
        "sheet notes is not read: sheets are called tenures, rosters, postings, contacts"
    ]


def test_a_line_of_a_workbook_that_is_wrong_is_named_with_its_sheet() -> None:
    asked = read_directory(workbook(tenures=TENURES, contacts=[("holder_id", "channel"), ("mau-1", "0912 000 000")]))
    ((table, line, detail),) = lines_of(asked)
    assert (table, line) == ("contacts", 2)
    assert detail.startswith("channel: not a channel")


@pytest.mark.parametrize(
    ("column", "value", "detail"),
    [
        ("unit_code", 1477, "unit_code: not a code of five digits: a spreadsheet drops leading zeros"),
        ("unit_code", 14776.5, "unit_code: not a code of five digits"),
        ("unit_code", "=14775+1", "unit_code: holds a formula: put its value there"),
        ("valid_from", datetime(2023, 1, 20, 8), "valid_from: a day, not a time of day"),  # noqa: DTZ001 - as above
        ("valid_from", 44927, "valid_from: write the day as YYYY-MM-DD"),
        ("document", date(2023, 1, 2), "document: the spreadsheet made a day of it: make the column text"),
        ("holder_name", "#N/A", "holder_name: holds an error of the spreadsheet"),
        ("holder_name", True, "holder_name: Input should be a valid string"),
    ],
)
def test_what_a_spreadsheet_made_of_a_cell_is_no_guess_of_ours(column: str, value: Any, detail: str) -> None:
    asked = read_directory(changed(column, value))
    ((table, line, found),) = lines_of(asked)
    assert (table, line) == ("tenures", 2)
    assert found.startswith(detail)


def test_a_time_of_day_may_be_a_length_of_time_to_a_spreadsheet() -> None:
    cells = [("holder_id", "channel", "quiet_from", "quiet_to"), ("mau-1", SECRET, timedelta(hours=22), time(6))]
    ((_, row),) = read_directory(workbook(contacts=cells)).tables.contacts
    assert (row.quiet_from, row.quiet_to) == (time(22), time(6))


def test_one_sheet_of_any_name_is_told_by_its_header() -> None:
    assert len(read_directory(workbook(Sheet1=TENURES)).tables.tenures) == 1
    units = [("code", "valid_from", "name", "type"), (14776, date(2021, 2, 1), "Ba Đình", "phường")]
    assert len(read_wards(workbook(Sheet1=units)).tables.units) == 1


def test_what_a_workbook_says_of_its_own_size_is_not_believed() -> None:
    content = repacked(
        workbook(tenures=TENURES), {"worksheets/sheet1.xml": lambda x: x.replace(b'ref="A1:I2"', b'ref="A1:A1"')}
    )
    assert len(read_directory(content).tables.tenures) == 1


def repacked(content: bytes, parts: dict[str, Callable[[bytes], bytes]]) -> bytes:
    """The workbook with some of its parts written anew."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            change = next((c for name, c in parts.items() if info.filename.endswith(name)), None)
            new.writestr(info.filename, change(old.read(info)) if change else old.read(info))
    return out.getvalue()


def unread(content: bytes) -> str:
    asked = read_directory(content)
    assert not len(asked.tables)
    ((_, line, detail),) = lines_of(asked)
    assert line == 1
    return detail


def test_a_workbook_that_unpacks_to_more_than_the_limit_is_not_unpacked() -> None:
    bomb = repacked(workbook(tenures=TENURES), {"sheet1.xml": lambda x: x + b" " * (MAX_BYTES + 1)})
    assert len(bomb) < 100_000
    assert "unpacks to 20 MB, more than 20" in unread(bomb)


def test_a_workbook_may_not_declare_entities() -> None:
    def declare(xml: bytes) -> bytes:
        start = xml.index(b"<worksheet")
        return xml[:start] + b'<!DOCTYPE x [<!ENTITY a "14776">]>' + xml[start:].replace(b"14776", b"&a;")

    assert "not a workbook that can be read" in unread(repacked(SMALL, {"worksheets/sheet1.xml": declare}))


def test_a_sheet_that_is_formatted_to_its_last_row_has_the_lines_that_are_filled() -> None:
    last = b'<row r="1048576"><c r="A1048576" t="inlineStr"><is><t> </t></is></c></row></sheetData>'
    content = repacked(workbook(tenures=TENURES), {"sheet1.xml": lambda x: x.replace(b"</sheetData>", last)})
    asked = read_directory(content)
    assert (asked.lines, len(asked.errors)) == (1, 0)


@given(st.data())
def test_no_damage_to_a_workbook_breaks_the_reading_of_it(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from((SMALL, STORED))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    asked = read_directory(bytes(content))
    assert len(asked.tables) or asked.errors


def stored(content: bytes) -> bytes:
    """Without compression, so that damage reaches the XML."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return out.getvalue()


SMALL = workbook(tenures=TENURES)
STORED = stored(SMALL)

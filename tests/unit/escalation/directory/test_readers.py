"""Files of the directory as people save them: CSV and XLSX, read line by line."""

import io
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
from apprise import NotificationManager
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl import Workbook

from services.escalation.domain.directory import channel_schemes
from services.escalation.domain.directory.readers import MAX_BYTES, MAX_ROWS, read_directory, read_wards
from services.escalation.domain.directory.schemas import ContactRow, RequestedChanges, RosterRow, TenureRow, UnitRow
from tests.support import CHAIR, at, read_rows

COLUMNS = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,channel,sample"
HEAD = COLUMNS + "\n"
LINE = "14776,2021-02-01,chair,mau-1,Chủ tịch (mẫu),2021-02-01,,QĐ mẫu số 1,outbox://mau-1,true\n"
TURN = "level,unit_code,unit_valid_from,holder_id,holder_name,valid_from,valid_to,document,channel\n"
SECRET = "mailto://ten:mat-khau@example.vn"


def errors_of(text: str | bytes) -> list[tuple[int, str]]:
    _, errors = read_rows(text if isinstance(text, bytes) else text.encode(), TenureRow)
    return [(e.line, e.detail) for e in errors]


def turns(*lines: str) -> tuple[list[RosterRow], list[str]]:
    rows, errors = read_rows((TURN + "".join(lines)).encode(), RosterRow)
    return [row for _, row in rows], [e.detail for e in errors]


def contacts(*lines: str) -> tuple[list[ContactRow], list[str]]:
    rows, errors = read_rows(("holder_id,channel,quiet_from,quiet_to\n" + "".join(lines)).encode(), ContactRow)
    return [row for _, row in rows], [e.detail for e in errors]


# --- CSV ---


def test_a_line_of_the_directory_is_read_with_its_line_number() -> None:
    rows, errors = read_rows((HEAD + LINE).encode("utf-8-sig"), TenureRow)
    assert not errors
    ((line, row),) = rows
    assert line == 2
    assert (row.post, row.holder_name, row.valid_to, row.sample) == (CHAIR, "Chủ tịch (mẫu)", None, True)


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (LINE.replace("14776", "1477"), "unit_code: not a code of five digits"),
        (LINE.replace("14776", "１４７７６"), "unit_code: not a code of five digits"),
        (LINE.replace("chair", "Chủ tịch"), "post"),
        (LINE.replace("mau-1,Chủ", ",Chủ"), "holder_id"),
        (LINE.replace("mau-1,Chủ", "desk,Chủ"), "holder_id: desk is an office, not a person"),
        (LINE.replace("2021-02-01,,QĐ", "01/02/2021,,QĐ"), "valid_from: write the day as YYYY-MM-DD"),
        (LINE.replace("2021-02-01,,QĐ", "1612112400,,QĐ"), "valid_from: write the day as YYYY-MM-DD"),
        (LINE.replace("2021-02-01,,QĐ", "0001-01-01,,QĐ"), "valid_from: the year is 1"),
        (LINE.replace("2021-02-01,,QĐ", "2021-02-30,,QĐ"), "valid_from"),
        (LINE.replace("QĐ mẫu số 1", ""), "document"),
        (LINE.replace("outbox://mau-1", "0912000000"), "channel: not a channel"),
        (LINE.replace("outbox://", "zalu://"), "channel: the scheme before :// is none that Apprise knows"),
        (LINE.replace("true", "maybe"), "sample"),
        (LINE.replace("true", "true,more"), "more cells than the header"),
        (LINE.replace("mẫu", "m\0u"), "holder_name: holds U+0000, which cannot be seen"),
        (LINE.replace("mau-1,Chủ", "mau-1\u200b,Chủ"), "holder_id: holds U+200B, which cannot be seen"),
    ],
)
def test_each_bad_line_is_named_with_its_field_and_the_others_are_read(broken: str, place: str) -> None:
    rows, errors = read_rows((HEAD + LINE + broken + LINE).encode(), TenureRow)
    assert [line for line, _ in rows] == [2, 4]
    ((line, detail),) = ((e.line, e.detail) for e in errors)
    assert line == 3
    assert place in detail


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (COLUMNS.replace("sample", "phone"), "column phone is not known: columns are unit_code"),
        (COLUMNS.replace("document", "documents"), "column documents is not known: is it document?"),
        (COLUMNS.replace("channel", "sample"), "column sample is there twice: keep one"),
        (COLUMNS.replace("channel", " Sample"), "column sample is there twice: keep one"),
        (COLUMNS.replace("post", ""), "column post is missing: the first line names the columns"),
    ],
)
def test_a_wrong_header_is_said_once_and_nothing_is_read(header: str, detail: str) -> None:
    rows, errors = read_rows((header + "\n" + LINE * 3).encode(), TenureRow)
    assert not rows
    assert {e.line for e in errors} == {1}
    assert any(e.detail.startswith(detail) for e in errors)


def test_a_header_in_capitals_means_the_same_columns() -> None:
    rows, errors = read_rows((COLUMNS.title().replace(",", " , ") + "\n" + LINE).encode(), TenureRow)
    assert (len(rows), errors) == (1, [])


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_as_a_vietnamese_spreadsheet_saves_them_are_understood(delimiter: str) -> None:
    rows, errors = read_rows((HEAD + LINE).replace(",", delimiter).encode(), TenureRow)
    assert (len(rows), errors) == (1, [])


def test_a_file_that_is_not_utf_8_says_how_to_save_it() -> None:
    assert errors_of((HEAD + LINE).encode("utf-16")) == [(1, "byte 0 is not UTF-8: save the file as CSV UTF-8")]


def test_an_old_workbook_says_how_to_save_it() -> None:
    ((line, detail),) = errors_of(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
    assert line == 1
    assert "save it as .xlsx" in detail


def test_an_empty_file_is_an_error_and_a_header_alone_is_none() -> None:
    assert errors_of("") == [(1, "empty: the first line names the columns")]
    assert errors_of(HEAD) == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_spreadsheet_ends_them(line_end: str) -> None:
    rows, errors = read_rows((HEAD + LINE).replace("\n", line_end).encode(), TenureRow)
    assert (len(rows), errors) == (1, [])


def test_lines_are_counted_from_the_first_of_the_file() -> None:
    rows, _ = read_rows(("\n\n" + HEAD + LINE).encode(), TenureRow)
    assert [line for line, _ in rows] == [4]


def test_outer_space_of_a_cell_is_none_of_it() -> None:
    rows, errors = read_rows((HEAD + LINE.replace(",", " , ")).encode(), TenureRow)
    assert (len(rows), errors) == (1, [])


def test_lines_without_a_filled_cell_are_no_lines() -> None:
    rows, errors = read_rows((HEAD + LINE + ",,,,,,,,,\n\n" + LINE).encode(), TenureRow)
    assert ([line for line, _ in rows], errors) == ([2, 5], [])


def test_what_is_no_csv_any_more_is_an_error_that_keeps_the_lines_before_it() -> None:
    rows, errors = read_rows((HEAD + LINE + "x" * 200_000 + "\n" + LINE).encode(), TenureRow)
    assert [line for line, _ in rows] == [2]
    assert [e.line for e in errors] == [3]
    assert errors[0].detail.startswith("not CSV, and not read from here on")


def test_a_file_of_too_many_lines_is_not_read() -> None:
    rows, errors = read_rows((HEAD + LINE * (MAX_ROWS + 1)).encode(), TenureRow)
    assert not rows
    assert [(e.line, e.detail) for e in errors] == [(MAX_ROWS + 1, f"more than {MAX_ROWS} lines: divide the file")]


NOTHING = ' \t\x1c\xa0\u3000\n,"'
"""Space of every kind, and what divides and encloses cells: with nothing between, they are none."""


@given(st.binary(max_size=300) | (st.text(max_size=300) | st.text(NOTHING)).map(str.encode))
@example(b"\x1c")
@example(b',"",')
def test_no_content_of_a_file_breaks_the_reading_of_it(content: bytes) -> None:
    read_directory(content)
    read_wards(content)
    for head in (HEAD + LINE, TURN, "holder_id,channel,quiet_from,quiet_to\n"):
        asked = read_directory(head.encode() + content)
        assert len(asked.tables) or asked.errors or not is_written(content)


def is_written(content: bytes) -> bool:
    return any(not c.isspace() and c not in ',"' for c in content.decode(errors="replace"))


def test_names_are_read_in_one_normal_form() -> None:
    decomposed = (HEAD + LINE).replace("Chủ", "Chu\u0309")
    ((_, row),) = read_rows(decomposed.encode(), TenureRow)[0]
    assert row.holder_name == "Chủ tịch (mẫu)"


# --- what a row may say ---


def test_a_turn_of_duty_without_an_offset_is_in_the_citys_time() -> None:
    (one, two), errors = turns(
        "desk,,,mau-1,(mẫu),2023-01-21 18:00,2023-01-22T06:00,Lịch,\n",
        "ward,14776,2021-02-01,mau-2,(mẫu),2023-01-21T11:00:00Z,2023-01-22T06:00:00+07:00,Lịch,\n",
    )
    assert not errors
    assert one.valid_from == two.valid_from == at("2023-01-21 18:00")
    assert one.valid_to == two.valid_to == at("2023-01-22 06:00")


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("ward,,,mau-1,(mẫu),2023-01-21 18:00,2023-01-22 06:00,Lịch,\n", "a turn of a ward needs unit_code"),
        ("desk,14776,2021-02-01,mau-1,(mẫu),2023-01-21 18:00,2023-01-22 06:00,Lịch,\n", "has no unit"),
        ("desk,,,mau-1,(mẫu),2023-01-21,2023-01-22 06:00,Lịch,\n", "valid_from: write the time as"),
        ("desk,,,mau-1,(mẫu),2023-01-21 25:00,2023-01-22 06:00,Lịch,\n", "valid_from: no such time"),
        ("desk,,,mau-1,(mẫu),0001-01-01 00:00,2023-01-22 06:00,Lịch,\n", "valid_from: the year is 1"),
        ("desk,,,mau-1,(mẫu),2023-01-21 18:00,,Lịch,\n", "valid_to: Field required"),
        ("city,,,mau-1,(mẫu),2023-01-21 18:00,2023-01-22 06:00,Lịch,\n", "level"),
    ],
)
def test_a_turn_of_duty_that_cannot_be_is_an_error(line: str, detail: str) -> None:
    rows, (error,) = turns(line)
    assert not rows
    assert detail in error


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (f"mau-1,{SECRET},22:00,\n", "quiet hours need quiet_from and quiet_to"),
        (f"mau-1,{SECRET},22:00,22:00\n", "quiet hours of no length"),
        (f"mau-1,{SECRET},24:00,06:00\n", "write the time of day as HH:MM"),
        (f"mau-1,{SECRET},22h,06:00\n", "write the time of day as HH:MM"),
        ("mau-1,,22:00,06:00\n", "quiet hours are of a channel"),
        (f"mau-1,x{SECRET},22:00,06:00\n", "none that Apprise knows"),
        (f"mau-1,{SECRET} a,22:00,06:00\n", "without spaces"),
        (f"mau-1,{SECRET}{'x' * 500},,\n", "at most 500"),
    ],
)
def test_an_error_of_a_contact_never_quotes_its_channel(line: str, detail: str) -> None:
    rows, (error,) = contacts(line)
    assert not rows
    assert detail in error
    assert not any(part in error for part in ("mat-khau", "example.vn"))


def test_quiet_hours_may_pass_midnight_and_a_person_may_have_no_channel() -> None:
    (quiet, none), errors = contacts(f"mau-1,{SECRET},22:00,6:00\n", "mau-2,,,\n")
    assert not errors
    assert (quiet.quiet_from, quiet.quiet_to) == (time(22), time(6))
    assert none.contact is None


def test_successors_are_read_as_codes_with_their_first_days() -> None:
    content = (
        "code,valid_from,name,type,valid_to,successors,legal_act\n"
        "14758,2021-02-01,Đông Thọ,phường,2025-07-01,14758/2025-07-01 14797/2025-07-01,Nghị quyết mẫu\n"
        "14761,2021-02-01,Nam Ngạn,phường,2025-07-01,14797,Nghị quyết mẫu\n"
    )
    ((_, row),), (error,) = read_rows(content.encode(), UnitRow)
    assert row.successors == (("14758", date(2025, 7, 1)), ("14797", date(2025, 7, 1)))
    assert error.detail.startswith("successors: write successors as CODE/VALID_FROM")


def test_an_empty_cell_says_none_and_a_column_that_is_not_there_says_nothing() -> None:
    def given(head: str, line: str) -> set[str]:
        ((_, row),) = read_rows(
            f"code,valid_from,name,type{head}\n14758,2021-02-01,Đông Thọ,phường{line}".encode(), UnitRow
        )[0]
        return row.model_fields_set & {"valid_to", "successors"}

    assert given("", "") == set()
    assert given(",valid_to,successors", ",,") == {"valid_to", "successors"}


def test_the_schemes_that_a_contact_may_have_are_those_of_the_apprise_that_is_installed() -> None:
    assert set(NotificationManager().schemas()) - channel_schemes.OWN == channel_schemes.APPRISE


# --- workbooks ---


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


@pytest.mark.parametrize(
    ("written", "kind"), [("Phường", "phường"), ("XÃ", "xã"), ("TT.", "thị trấn"), ("Đặc khu", "đặc khu")]
)
def test_a_kind_of_unit_may_be_written_as_a_report_writes_it(written: str, kind: str) -> None:
    rows, errors = read_rows(f"code,valid_from,name,type\n14776,2021-02-01,Ba Đình,{written}\n".encode(), UnitRow)
    assert not errors
    assert [row.type for _, row in rows] == [kind]


def test_what_is_no_kind_of_unit_is_named_with_those_that_there_are() -> None:
    _, errors = read_rows(b"code,valid_from,name,type\n14776,2021-02-01,Ba,quan\n", UnitRow)
    assert [e.detail for e in errors] == ["type: 'quan' is no kind of unit: use one of phường, xã, thị trấn, đặc khu"]

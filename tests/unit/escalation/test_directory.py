"""Who held which post, when, as it was known when; and a directory file read line by line."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.directory import (
    Tenure,
    TenureRow,
    UnitRow,
    check_tenures,
    check_units,
    day_start,
    holder_at,
    overlap,
    read_rows,
    remainders,
)
from shared.events import UnitRef
from tests.support import BA_DINH, CHAIR, SAMPLES, SECRETARY, at, tenure
from tests.unit.escalation.drawn import instants, tenures

HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,channel,sample\n"
LINE = "14776,2021-02-01,chair,mau-1,Chủ tịch (mẫu),2021-02-01,,QĐ mẫu số 1,outbox://mau-1,true\n"
POSTS = (SECRETARY, CHAIR)
MICROSECOND = timedelta(microseconds=1)


# --- valid time ---


@pytest.mark.parametrize(
    ("instant", "held"),
    [
        (at("2023-01-16 00:00") - MICROSECOND, False),
        (at("2023-01-16 00:00"), True),
        (at("2023-01-25 00:00") - MICROSECOND, True),
        (at("2023-01-25 00:00"), False),
    ],
)
def test_a_tenure_holds_from_its_first_midnight_in_the_city_to_before_its_last(instant: datetime, held: bool) -> None:
    one = tenure(CHAIR, "mau-1", "2023-01-16 00:00", "2023-01-25 00:00")
    found = holder_at([one], CHAIR, instant, at("2023-02-01 00:00"))
    assert (found == one) is held


def test_the_first_day_of_the_year_of_the_cat_begins_at_seventeen_hundred_utc_the_day_before() -> None:
    assert day_start(date(2023, 1, 22)) == datetime.fromisoformat("2023-01-21T17:00:00Z")


def test_a_post_without_a_tenure_is_vacant_and_other_posts_do_not_fill_it() -> None:
    assert holder_at([tenure(SECRETARY)], CHAIR, at("2023-01-21 23:50"), at("2023-01-22 00:00")) is None


# --- recorded time ---


def test_an_entry_made_late_is_not_known_before_it_was_made() -> None:
    late = tenure(CHAIR, "mau-1", "2023-01-01 00:00", recorded="2023-01-20 09:00")
    when = at("2023-01-10 12:00")
    assert holder_at([late], CHAIR, when, at("2023-01-20 08:59")) is None
    assert holder_at([late], CHAIR, when, at("2023-01-20 09:00")) == late


def test_a_superseded_entry_is_what_was_known_until_then() -> None:
    old = tenure(CHAIR, "mau-1", superseded="2023-01-20 09:00")
    new = tenure(CHAIR, "mau-2", recorded="2023-01-20 09:00")
    when = at("2023-01-10 12:00")
    assert holder_at([old, new], CHAIR, when, at("2023-01-20 08:59")) == old
    assert holder_at([old, new], CHAIR, when, at("2023-01-20 09:00")) == new


# --- what stays of an entry beside a new one ---


def covered(found: list[Tenure], instant: datetime) -> int:
    return sum(t.valid_from <= instant and (t.valid_to is None or instant < t.valid_to) for t in found)


@given(tenures(CHAIR), tenures(CHAIR), instants)
def test_what_stays_of_a_superseded_tenure_and_the_new_one_cover_its_time_once(
    old: Tenure, new: Tenure, instant: datetime
) -> None:
    left = remainders(old, new) if overlap(old, new) else [old]
    before, after = covered([old, new], instant), covered([*left, new], instant)
    assert after == min(before, 1), "covered as before, and never twice"


@given(tenures(CHAIR), tenures(CHAIR))
def test_what_stays_of_a_tenure_is_the_same_persons_and_lies_within_it(old: Tenure, new: Tenure) -> None:
    for left in remainders(old, new):
        changed = {"valid_from", "valid_to"}
        assert left.model_dump(exclude=changed) == old.model_dump(exclude=changed)
        if overlap(old, new):
            assert old.valid_from <= left.valid_from
            assert old.valid_to is None or (left.valid_to is not None and left.valid_to <= old.valid_to)


@pytest.mark.parametrize("end", ["2023-01-25 00:00", None])
def test_a_tenure_that_is_replaced_from_its_first_day_leaves_no_empty_one_behind(end: str | None) -> None:
    old = tenure(CHAIR, "mau-cu", "2023-01-16 00:00", end)
    assert remainders(old, tenure(CHAIR, "mau-moi", "2023-01-16 00:00", end)) == []
    assert remainders(old, tenure(CHAIR, "mau-moi", "2023-01-10 00:00")) == []


@given(tenures(CHAIR), tenures(CHAIR))
def test_overlap_is_the_same_seen_from_either_side(one: Tenure, other: Tenure) -> None:
    assert overlap(one, other) == overlap(other, one)


# --- directory files ---


def errors_of(text: str) -> list[tuple[int, str]]:
    _, errors = read_rows(text.encode(), TenureRow)
    return [(e.line, e.detail) for e in errors]


def test_a_line_of_the_directory_is_read_with_its_line_number() -> None:
    rows, errors = read_rows((HEAD + LINE).encode("utf-8-sig"), TenureRow)
    assert not errors
    ((line, row),) = rows
    assert line == 2
    assert (row.post, row.holder_name, row.valid_to, row.sample) == (CHAIR, "Chủ tịch (mẫu)", None, True)


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (LINE.replace("14776", "1477"), "unit_code"),
        (LINE.replace("chair", "Chủ tịch"), "post"),
        (LINE.replace("mau-1,Chủ", ",Chủ"), "holder_id"),
        (LINE.replace("2021-02-01,,QĐ", "01/02/2021,,QĐ"), "valid_from"),
        (LINE.replace("QĐ mẫu số 1", ""), "document"),
        (LINE.replace("outbox://mau-1", "0912000000"), "channel"),
        (LINE.replace("true", "maybe"), "sample"),
        (LINE.replace("true", "true,more"), "more cells than the header"),
        (LINE.replace("mẫu", "m\0u"), "holder_name: Value error, holds a control character"),
    ],
)
def test_each_bad_line_is_named_with_its_field_and_the_others_are_read(broken: str, place: str) -> None:
    rows, errors = read_rows((HEAD + LINE + broken + LINE).encode(), TenureRow)
    assert [line for line, _ in rows] == [2, 4]
    ((line, detail),) = ((e.line, e.detail) for e in errors)
    assert line == 3
    assert place in detail


def test_a_column_that_is_not_known_is_an_error_on_every_line() -> None:
    text = HEAD.replace("sample", "phone") + LINE
    assert errors_of(text) == [(2, "phone: Extra inputs are not permitted")]


def test_a_file_that_is_not_utf_8_says_how_to_save_it() -> None:
    _, errors = read_rows((HEAD + LINE).encode("utf-16"), TenureRow)
    assert [(e.line, e.detail) for e in errors] == [(1, "byte 0 is not UTF-8: save the file as CSV UTF-8")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_spreadsheet_ends_them(line_end: str) -> None:
    rows, errors = read_rows((HEAD + LINE).replace("\n", line_end).encode(), TenureRow)
    assert (len(rows), errors) == (1, [])


def test_what_is_no_csv_any_more_is_an_error_that_keeps_the_lines_before_it() -> None:
    rows, errors = read_rows((HEAD + LINE + "x" * 200_000 + "\n" + LINE).encode(), TenureRow)
    assert [line for line, _ in rows] == [2]
    assert [e.line for e in errors] == [3]
    assert errors[0].detail.startswith("not CSV, and not read from here on")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_content_of_a_file_breaks_the_reading_of_it(content: bytes) -> None:
    for model in (TenureRow, UnitRow):
        read_rows(content, model)
        rows, errors = read_rows((HEAD + LINE).encode() + content, model)
        assert rows or errors


def test_names_are_read_in_one_normal_form() -> None:
    decomposed = (HEAD + LINE).replace("Chủ", "Chu\u0309")
    ((_, row),) = read_rows(decomposed.encode(), TenureRow)[0]
    assert row.holder_name == "Chủ tịch (mẫu)"


# --- what a directory file must not say ---


def checked(*lines: str) -> list[tuple[int, str]]:
    rows, errors = read_rows((HEAD + "".join(lines)).encode(), TenureRow)
    assert not errors
    return [(e.line, e.detail) for e in check_tenures(rows, [BA_DINH], POSTS)]


def test_a_unit_that_is_not_known_is_named_with_its_first_day() -> None:
    ((line, detail),) = checked(LINE, LINE.replace("14776,2021-02-01", "14776,2025-07-01"))
    assert line == 3
    assert "unit 14776 of 2025-07-01 is unknown" in detail


def test_a_post_that_the_rulebook_does_not_have_is_named_with_those_it_has() -> None:
    assert checked(LINE.replace("chair", "deputy")) == [
        (2, "post deputy is unknown: use chair or party_secretary"),
    ]


def test_a_tenure_ends_after_it_began() -> None:
    assert checked(LINE.replace("2021-02-01,,", "2021-02-01,2021-02-01,")) == [
        (2, "valid_to 2021-02-01 is not after valid_from 2021-02-01"),
    ]


def test_two_holders_of_one_post_at_once_are_named_by_both_lines() -> None:
    second = LINE.replace("mau-1", "mau-2").replace("2021-02-01,,", "2022-01-01,2022-02-01,")
    assert checked(LINE, second) == [(3, "overlaps line 2 for chair of 14776: one holder at a time")]


def test_a_holder_may_follow_another_on_the_day_that_they_leave() -> None:
    first = LINE.replace("2021-02-01,,", "2021-02-01,2023-01-25,")
    assert not checked(first, LINE.replace("2021-02-01,,", "2023-01-25,,").replace("mau-1", "mau-2"))


def test_one_person_may_hold_both_posts() -> None:
    assert not checked(LINE, LINE.replace("chair", SECRETARY))


def test_a_ward_stands_in_a_file_once_and_ends_after_it_began() -> None:
    content = (
        "code,valid_from,name,type,valid_to\n"
        "14776,2021-02-01,Ba Đình,phường,\n"
        "14776,2021-02-01,Ba Đình,phường,2025-07-01\n"
        "14776,2025-07-01,Hạc Thành,phường,2025-07-01\n"
    )
    rows, _ = read_rows(content.encode(), UnitRow)
    assert [(e.line, e.detail) for e in check_units(rows)] == [
        (3, "unit 14776 of 2021-02-01 is on line 2 already: name it once"),
        (4, "valid_to 2025-07-01 is not after valid_from 2025-07-01"),
    ]


def test_the_sample_wards_and_directory_are_without_error() -> None:
    units, unit_errors = read_rows((SAMPLES / "wards.csv").read_bytes(), UnitRow)
    held, errors = read_rows((SAMPLES / "directory.csv").read_bytes(), TenureRow)
    refs = [UnitRef(code=u.code, valid_from=u.valid_from, name=u.name) for _, u in units]
    assert not [*unit_errors, *errors, *check_units(units), *check_tenures(held, refs, POSTS)]

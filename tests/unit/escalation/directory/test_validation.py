"""What a directory file must not say, and what is worth a second look."""

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from services.escalation.domain.directory import validation
from services.escalation.domain.directory.causes import causes_of, lines_of, ranges
from services.escalation.domain.directory.model import Duty, Unit, UnitKey, key_of
from services.escalation.domain.directory.notes import gaps, note_contacts, note_rosters, note_tenures, note_units
from services.escalation.domain.directory.schemas import ContactRow, RosterRow, TenureRow, UnitRow
from services.escalation.domain.directory.validation import (
    check_contacts,
    check_rosters,
    check_tenures,
    check_units,
    consequences,
    with_recorded,
)
from tests.support import BA_DINH, CHAIR, DONG_THO, SAMPLES, SECRETARY, SINCE, at, read_rows, tenure

HEAD = "unit_code,unit_valid_from,post,holder_id,holder_name,valid_from,valid_to,document,capacity,withdrawn\n"
LINE = "14776,2021-02-01,chair,mau-1,Chủ tịch (mẫu),2021-02-01,,QĐ mẫu số 1,,\n"
POSTS = (SECRETARY, CHAIR)
UNITS = "code,valid_from,name,type,valid_to,successors\n"
REFORM = date(2025, 7, 1)
ENDED = "14758,2021-02-01,Đông Thọ,phường,2025-07-01,14758/2025-07-01\n"
HAM_RONG = "14758,2025-07-01,Hàm Rồng,phường,,\n"
RECORDED: dict[UnitKey, Unit] = {key_of(ref): Unit(ref, "phường") for ref in (BA_DINH, DONG_THO)}


def tenure_rows(*lines: str) -> Sequence[tuple[int, TenureRow]]:
    rows, errors = read_rows((HEAD + "".join(lines)).encode(), TenureRow)
    assert not errors
    return rows


def unit_rows(*lines: str, head: str = UNITS) -> Sequence[tuple[int, UnitRow]]:
    rows, errors = read_rows((head + "".join(lines)).encode(), UnitRow)
    assert not errors
    return rows


# --- tenures ---


def checked(*lines: str) -> list[tuple[int, str]]:
    return [(e.line, e.detail) for e in check_tenures(tenure_rows(*lines), RECORDED, POSTS)]


def test_a_unit_that_is_not_known_is_named_with_its_first_day() -> None:
    ((line, detail),) = checked(LINE, LINE.replace("14776,2021-02-01", "14776,2025-07-01"))
    assert line == 3
    assert "unit 14776 of 2025-07-01 is unknown" in detail


def test_a_post_that_the_rulebook_does_not_have_is_named_with_those_it_has() -> None:
    assert checked(LINE.replace("chair", "mayor")) == [(2, "post mayor is unknown: use chair or party_secretary")]


def test_a_tenure_ends_after_it_began() -> None:
    assert checked(LINE.replace("2021-02-01,,", "2021-02-01,2021-02-01,")) == [
        (2, "valid_to 2021-02-01 is not after valid_from 2021-02-01"),
    ]


def test_two_holders_of_one_post_at_once_are_named_by_both_lines() -> None:
    second = LINE.replace("mau-1", "mau-2").replace("2021-02-01,,", "2022-01-01,2022-02-01,")
    assert checked(LINE, second) == [(3, "overlaps line 2 for chair of 14776: one holder at a time")]


def test_a_deputy_stands_beside_the_holder_and_not_beside_another_deputy() -> None:
    deputy = LINE.replace("mau-1", "mau-2").replace(",QĐ mẫu số 1,,", ",QĐ mẫu số 2,deputy,")
    assert not checked(LINE, deputy)
    assert checked(LINE, deputy, deputy.replace("mau-2", "mau-3")) == [
        (4, "overlaps line 3 for chair of 14776: one deputy at a time"),
    ]


def test_a_holder_may_follow_another_on_the_day_that_they_leave() -> None:
    first = LINE.replace("2021-02-01,,", "2021-02-01,2023-01-25,")
    assert not checked(first, LINE.replace("2021-02-01,,", "2023-01-25,,").replace("mau-1", "mau-2"))


def test_one_person_may_hold_both_posts() -> None:
    assert not checked(LINE, LINE.replace("chair", SECRETARY))


def test_a_tenure_is_said_once_even_if_it_is_taken_back() -> None:
    assert checked(LINE, LINE.replace(",,\n", ",,true\n")) == [(3, "the tenure of line 2 again: say it once")]


def test_who_is_taken_back_makes_room_for_who_it_was() -> None:
    assert not checked(LINE.replace(",,\n", ",,true\n"), LINE.replace("mau-1", "mau-2"))


def test_many_tenures_of_one_post_are_each_compared_with_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 rows of one post would be 12 million pairs."""
    compared: list[object] = []

    def counting(a: TenureRow, b: TenureRow) -> bool:
        compared.append(a)
        return overlap(a, b)

    overlap = getattr(validation, "_overlap")  # noqa: B009 - private
    monkeypatch.setattr(validation, "_overlap", counting)
    plain = tenure_rows(LINE)[0][1]
    days = [date(2021, 2, 1) + timedelta(days=n) for n in range(5_000)]
    endless = [(n, plain.model_copy(update={"holder_id": f"mau-{n}", "valid_from": d})) for n, d in enumerate(days)]
    assert len(check_tenures(endless, RECORDED, POSTS)) == 4_999
    one_day = [(n, row.model_copy(update={"valid_to": days[n] + timedelta(days=1)})) for n, row in endless]
    assert not check_tenures(one_day, RECORDED, POSTS)
    assert len(compared) < 5 * 5_000


def test_a_deputy_may_begin_before_another_that_was_named_first() -> None:
    late = LINE.replace("2021-02-01,,", "2023-01-25,,")
    early = LINE.replace("2021-02-01,,", "2021-02-01,2023-01-25,").replace("mau-1", "mau-2")
    assert not checked(late, early)
    assert checked(late, early.replace("2023-01-25", "2023-01-26")) == [
        (3, "overlaps line 2 for chair of 14776: one holder at a time")
    ]


# --- one line a cause ---


def test_one_cause_is_one_line_that_names_all_its_lines() -> None:
    unknown = LINE.replace("14776,", "99999,")
    rows = tenure_rows(LINE, *(unknown.replace("mau-1", f"mau-{n}") for n in range(86)))
    unknown_units = [e for e in check_tenures(rows, RECORDED, POSTS) if e.field == "unit_code"]
    (cause,) = causes_of(unknown_units)
    assert cause.detail == "unit 99999 of 2021-02-01 is unknown: import its ward first"
    assert ranges([cause.line, *cause.also]) == "3-88"
    assert lines_of([cause]) == 86


# --- units ---


def wrong_units(*lines: str) -> list[tuple[int, str]]:
    return [(e.line, e.detail) for e in check_units(unit_rows(*lines), RECORDED)]


def test_a_ward_stands_in_a_file_once_and_ends_after_it_began() -> None:
    lines = (
        "14776,2021-02-01,Ba Đình,phường,2025-07-01,\n",
        "14776,2021-02-01,Ba Đình,phường,2025-07-01,\n",
        "14776,2025-07-01,Hạc Thành,phường,2025-07-01,\n",
    )
    assert wrong_units(*lines) == [
        (3, "unit 14776 of 2021-02-01 is on line 2 already: name it once"),
        (4, "valid_to 2025-07-01 is not after valid_from 2025-07-01"),
    ]


def test_a_unit_that_ends_whole_or_in_parts_is_without_error() -> None:
    assert not wrong_units(ENDED, HAM_RONG)
    parts = ENDED.replace("14758/2025-07-01\n", "14758/2025-07-01 14797/2025-07-01\n")
    assert not wrong_units(parts, HAM_RONG, "14797,2025-07-01,Hạc Thành,phường,,\n")


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (ENDED.replace("14758/", "14700/"), "successor 14700 of 2025-07-01 is unknown"),
        (ENDED.replace("phường,2025-07-01", "phường,2025-06-30"), "begins after the unit ends"),
        (ENDED.replace("phường,2025-07-01", "phường,"), "successors of a unit without valid_to"),
        (ENDED.replace("\n", " 14758/2025-07-01\n"), "a successor is named twice"),
    ],
)
def test_a_successor_that_cannot_be_is_named(line: str, detail: str) -> None:
    found = wrong_units(line, HAM_RONG)
    assert any(number == 2 and detail in text for number, text in found)


TAN_SON = "14788,2021-02-01,Tân Sơn,phường,2025-01-01,14770/2021-02-01\n"
PHU_SON = "14770,2021-02-01,Phú Sơn,phường,2025-07-01,14797/2025-07-01\n"
HAC_THANH = "14797,2025-07-01,Hạc Thành,phường,,\n"


def test_a_unit_may_be_merged_into_one_that_was_there_before_and_goes_on() -> None:
    assert not wrong_units(TAN_SON, PHU_SON, HAC_THANH)


def test_a_successor_goes_on_after_the_unit_has_ended() -> None:
    ended = PHU_SON.replace("2025-07-01,14797/2025-07-01", "2025-01-01,")
    ((line, detail),) = wrong_units(TAN_SON, ended)
    assert line == 2
    assert "successor 14770 of 2021-02-01 ends on 2025-01-01, and the unit on 2025-01-01" in detail


def test_a_unit_does_not_end_before_one_that_is_recorded_as_merged_into_it() -> None:
    recorded = with_recorded(unit_rows(TAN_SON, PHU_SON, HAC_THANH), {})
    earlier = "14770,2021-02-01,Phú Sơn,phường,2024-07-01,\n"
    ((error),) = check_units(unit_rows(earlier), recorded)
    assert error.line == 2
    assert error.detail.startswith("Tân Sơn (14788 of 2021-02-01), which is recorded, names it as a successor")


def test_what_ended_is_named_with_its_day_and_what_followed_it() -> None:
    units = with_recorded(unit_rows(TAN_SON, PHU_SON, HAC_THANH), {})
    line = LINE.replace("14776,2021-02-01,chair", "14788,2021-02-01,chair")
    late = line.replace("(mẫu),2021-02-01", "(mẫu),2025-02-01")
    (merged,) = check_tenures(tenure_rows(late), units, POSTS)
    assert merged.detail == "Tân Sơn (14788 of 2021-02-01) ended on 2025-01-01: name Phú Sơn (14770 of 2021-02-01)"
    later = line.replace("14788,2021-02-01", "14788,2025-07-01").replace("(mẫu),2021-02-01", "(mẫu),2025-07-01")
    (unknown,) = check_tenures(tenure_rows(later), units, POSTS)
    assert unknown.detail == (
        "unit 14788 of 2025-07-01 is unknown: Tân Sơn ended on 2025-01-01: name Hạc Thành (14797 of 2025-07-01)"
    )
    assert not check_tenures(tenure_rows(line), units, POSTS)


def test_a_line_that_needs_a_wrong_one_is_left_out_with_it_at_any_remove() -> None:
    rows = unit_rows(TAN_SON, PHU_SON, HAC_THANH.replace("Thành,phường,,", "Thành,phường,2025-01-01,"))
    errors = check_units(rows)
    assert [e.line for e in errors] == [3, 4]
    assert [(e.line, e.detail) for e in consequences(rows, {}, errors)] == [
        (2, "successor 14770 of 2021-02-01 has an error on line 3: correct that one")
    ]


def test_a_code_means_one_unit_at_a_time() -> None:
    ((line, detail),) = wrong_units(HAM_RONG)
    assert line == 2
    assert detail == (
        "unit 14758 of 2025-07-01 overlaps Đông Thọ, which has the code from 2021-02-01 without an end: "
        "give that one its valid_to"
    )


def test_a_file_without_a_column_leaves_what_is_recorded_of_it() -> None:
    ended = with_recorded(unit_rows(ENDED, HAM_RONG), RECORDED)
    plain = unit_rows("14758,2021-02-01,Đông Thọ,phường\n", head="code,valid_from,name,type\n")
    assert with_recorded(plain, ended)[key_of(DONG_THO)] == ended[key_of(DONG_THO)]
    emptied = unit_rows("14758,2021-02-01,Đông Thọ,phường,,\n")
    assert with_recorded(emptied, ended)[key_of(DONG_THO)].valid_to is None


def test_a_code_that_is_used_again_is_noted_on_the_line_of_the_unit_that_had_it() -> None:
    assert [(n.line, n.detail) for n in note_units(unit_rows(ENDED, HAM_RONG), RECORDED)] == [
        (2, "code 14758 is used again from 2025-07-01 by Hàm Rồng"),
    ]
    recorded = with_recorded(unit_rows(ENDED, HAM_RONG), RECORDED)
    assert [(n.line, n.detail) for n in note_units(unit_rows(HAM_RONG), recorded)] == [
        (2, "code 14758 was Đông Thọ until 2025-07-01"),
    ]


def test_a_unit_that_ends_with_nothing_in_its_place_is_noted() -> None:
    line = ENDED.replace("14758/2025-07-01", "")
    assert [(n.line, n.detail) for n in note_units(unit_rows(line), RECORDED)] == [
        (2, "unit 14758 of 2021-02-01 ends without a successor: nobody acts for what is open there"),
    ]


# --- posts without a holder ---


def test_a_post_is_without_a_holder_before_between_and_after_its_tenures() -> None:
    unit = Unit(BA_DINH, "phường", REFORM)
    first = tenure(CHAIR, "mau-1", "2021-03-01 00:00", "2023-01-16 00:00")
    second = tenure(CHAIR, "mau-2", "2023-01-24 00:00", "2025-01-01 00:00")
    assert gaps([second, first], unit) == [
        (at("2021-02-01 00:00"), at("2021-03-01 00:00"), None),
        (at("2023-01-16 00:00"), at("2023-01-24 00:00"), first),
        (at("2025-01-01 00:00"), at("2025-07-01 00:00"), second),
    ]


def test_a_gap_after_the_end_of_a_unit_is_none() -> None:
    unit = Unit(BA_DINH, "phường", REFORM)
    assert gaps([tenure(CHAIR, end="2025-07-01 00:00")], unit) == []
    assert gaps([tenure(CHAIR), tenure(CHAIR, start="2026-01-01 00:00")], unit) == []


def test_a_gap_is_noted_on_the_line_of_the_tenure_before_it() -> None:
    rows = tenure_rows(LINE.replace("2021-02-01,,", "2021-02-01,2023-01-16,"))
    held = [tenure(CHAIR, "mau-1", end="2023-01-16 00:00"), tenure(SECRETARY)]
    assert [(n.line, n.detail) for n in note_tenures(rows, RECORDED, POSTS, held)] == [
        (2, "post chair of 14776 Ba Đình has no holder from 2023-01-16 on"),
    ]


def test_a_deputy_does_not_fill_a_vacant_post() -> None:
    rows = tenure_rows(LINE.replace("QĐ mẫu số 1,,", "QĐ mẫu số 1,deputy,"))
    held = [tenure(CHAIR, "mau-1").model_copy(update={"capacity": "deputy"}), tenure(SECRETARY)]
    (note,) = note_tenures(rows, RECORDED, POSTS, held)
    assert note.detail == "post chair of 14776 Ba Đình has no holder from 2021-02-01 on"


def test_a_tenure_that_begins_before_its_unit_is_noted() -> None:
    rows = tenure_rows(LINE.replace("(mẫu),2021-02-01", "(mẫu),2020-01-01"))
    held = [tenure(CHAIR, "mau-1", "2020-01-01 00:00"), tenure(SECRETARY)]
    assert [n.detail for n in note_tenures(rows, RECORDED, POSTS, held)] == [
        "begins on 2020-01-01, before its unit does"
    ]


# --- rosters and contacts ---

TURN = "level,unit_code,unit_valid_from,holder_id,holder_name,valid_from,valid_to,document,withdrawn\n"
NIGHT_TURN = "desk,,,mau-1,(mẫu),2023-01-21 18:00,2023-01-22 06:00,Lịch,\n"


def turn_rows(*lines: str) -> Sequence[tuple[int, RosterRow]]:
    rows, errors = read_rows((TURN + "".join(lines)).encode(), RosterRow)
    assert not errors
    return rows


def test_several_people_may_be_on_duty_at_once_and_each_turn_is_said_once() -> None:
    found = check_rosters(turn_rows(NIGHT_TURN, NIGHT_TURN.replace("mau-1", "mau-2"), NIGHT_TURN), RECORDED)
    assert [(e.line, e.detail) for e in found] == [(4, "the turn of line 2 again: say it once")]


def test_a_turn_is_of_a_known_ward_and_ends_after_it_began() -> None:
    ward = NIGHT_TURN.replace("desk,,", "ward,14776,2025-07-01")
    backwards = NIGHT_TURN.replace("2023-01-22", "2023-01-21")
    found = check_rosters(turn_rows(ward, backwards), RECORDED)
    assert [(e.line, e.field) for e in found] == [(2, "unit_code"), (3, "valid_to")]


def test_a_turn_beside_another_of_the_same_person_is_noted() -> None:
    held = Duty(
        roster_id="1",
        level="desk",
        holder_id="mau-1",
        holder_name="(mẫu)",
        document="Lịch",
        valid_from=at("2023-01-21 20:00"),
        valid_to=at("2023-01-22 08:00"),
        sample=True,
        recorded_at=at("2023-01-01 00:00"),
    )
    (note,) = note_rosters(turn_rows(NIGHT_TURN, NIGHT_TURN.replace("mau-1", "mau-2")), [held])
    assert (note.line, note.detail) == (2, "mau-1 has another turn at this time: withdraw it if this one is instead")


def contact_rows(*lines: str) -> Sequence[tuple[int, ContactRow]]:
    rows, errors = read_rows(("holder_id,channel\n" + "".join(lines)).encode(), ContactRow)
    assert not errors
    return rows


def test_a_channel_is_given_once_and_none_is_not_said_beside_one() -> None:
    found = check_contacts(contact_rows("mau-1,json://a\n", "mau-1,json://a\n", "mau-1,\n"))
    assert [(e.line, e.detail) for e in found] == [
        (3, "the channel of line 2 again: give it once"),
        (4, "mau-1 has channels on other lines: leave this one out"),
    ]


def test_a_contact_of_nobody_known_is_noted() -> None:
    (note,) = note_contacts(contact_rows("mau-1,json://a\n", "mau-l,json://b\n", "mau-l,json://c\n"), {"mau-1"})
    assert (note.line, note.detail) == (3, "mau-l holds no post and is on no roster")


def test_the_sample_wards_and_directory_are_without_error() -> None:
    units, unit_errors = read_rows((SAMPLES / "wards.csv").read_bytes(), UnitRow)
    held, errors = read_rows((SAMPLES / "directory.csv").read_bytes(), TenureRow)
    assert not [*unit_errors, *errors, *check_units(units), *check_tenures(held, with_recorded(units, {}), POSTS)]
    assert {row.valid_from for _, row in units} == {SINCE}

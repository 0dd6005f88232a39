"""One place under several names and codes, by the real succession of the 34 wards to 1 July 2025."""

from datetime import date

import pytest

from services.escalation.domain.directory.model import Unit, UnitKey
from services.escalation.domain.directory.schemas import UnitRow
from services.escalation.domain.directory.succession import has_place, kin_of, line
from services.escalation.domain.directory.validation import with_recorded
from shared.events import UnitRef
from tests.support import SAMPLES, SINCE, at, read_rows

UNITS = with_recorded(read_rows((SAMPLES / "wards-2025.csv").read_bytes(), UnitRow)[0], {})
JANUARY, JULY = date(2025, 1, 1), date(2025, 7, 1)
HOANG_DAI, HOANG_DAI_WARD, NGUYET_VIEN = ("15970", SINCE), ("15970", JANUARY), ("15925", JULY)
TAN_SON, PHU_SON, HAC_THANH = ("14788", SINCE), ("14770", SINCE), ("14797", JULY)
DONG_THO, HAM_RONG = ("14758", SINCE), ("14758", JULY)


def is_in(unit: UnitKey, first: UnitKey, when: str, acting: UnitKey | None = None) -> bool:
    return has_place(line(UNITS, first, acting), unit, at(when))


def test_a_place_is_followed_through_another_kind_and_another_code() -> None:
    assert list(line(UNITS, HOANG_DAI)) == [HOANG_DAI, HOANG_DAI_WARD, NGUYET_VIEN]


def test_a_ward_that_goes_on_has_the_place_of_what_was_merged_into_it_only_from_that_day() -> None:
    assert not is_in(PHU_SON, TAN_SON, "2024-12-31 23:59")
    assert is_in(PHU_SON, TAN_SON, "2025-01-01 00:00")
    assert is_in(HAC_THANH, TAN_SON, "2025-07-01 00:03")
    assert not is_in(TAN_SON, PHU_SON, "2025-01-01 00:00"), "the line goes forward"


def test_wards_that_became_one_were_not_one_before() -> None:
    assert not is_in(("14776", SINCE), ("14779", SINCE), "2025-06-30 23:59")


def test_a_divided_ward_goes_on_where_somebody_said_and_nowhere_else() -> None:
    assert list(line(UNITS, DONG_THO)) == [DONG_THO]
    assert list(line(UNITS, DONG_THO, HAM_RONG)) == [DONG_THO, HAM_RONG]
    assert list(line(UNITS, DONG_THO, ("16417", JULY))) == [DONG_THO], "no part of it"


def test_what_acts_after_a_part_was_renamed_says_which_part_it_was() -> None:
    later = UnitRef(code="14758", valid_from=date(2026, 1, 1), name="Mẫu")
    renamed = Unit(UNITS[HAM_RONG].ref, "phường", later.valid_from, (later,))
    units = {**UNITS, HAM_RONG: renamed, (later.code, later.valid_from): Unit(later, "phường")}
    assert list(line(units, DONG_THO, (later.code, later.valid_from))) == [
        DONG_THO,
        HAM_RONG,
        (later.code, later.valid_from),
    ]


def test_a_circle_in_the_directory_ends() -> None:
    one, two = UNITS[TAN_SON].ref, UNITS[PHU_SON].ref
    circle = {
        TAN_SON: Unit(one, "phường", JANUARY, (two,)),
        PHU_SON: Unit(two, "phường", JULY, (one,)),
    }
    assert list(line(circle, TAN_SON)) == [TAN_SON, PHU_SON]
    assert kin_of(circle, [TAN_SON]) == {TAN_SON: {TAN_SON, PHU_SON}}


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (HOANG_DAI, {HOANG_DAI, HOANG_DAI_WARD, NGUYET_VIEN}),
        (TAN_SON, {TAN_SON, PHU_SON, HAC_THANH}),
        (DONG_THO, {DONG_THO}),
        (("16378", JULY), {("16378", JULY), ("16432", SINCE)}),
    ],
)
def test_kin_are_what_a_unit_followed_and_what_took_its_whole_place(unit: UnitKey, expected: set[UnitKey]) -> None:
    assert kin_of(UNITS, [unit])[unit] == expected


def test_kin_of_a_part_are_all_that_gave_a_part_for_somebody_may_have_said_that_it_acts() -> None:
    assert DONG_THO in kin_of(UNITS, [HAM_RONG])[HAM_RONG]
    assert DONG_THO in kin_of(UNITS, [HAC_THANH])[HAC_THANH]

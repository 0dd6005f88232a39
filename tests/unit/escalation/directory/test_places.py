"""Which units a question about a ward means: exactly one code, or candidates, never a guess."""

from datetime import date

import pytest

from services.escalation.domain.directory.places import Place, find_place
from services.escalation.domain.directory.schemas import UnitRow
from services.escalation.domain.directory.validation import with_recorded
from tests.support import SAMPLES, SINCE, read_rows

UNITS = with_recorded(read_rows((SAMPLES / "wards-2025.csv").read_bytes(), UnitRow)[0], {})
REFORM = date(2025, 7, 1)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Tân Sơn", Place("14788", frozenset({SINCE}))),
        ("phuong tan son", Place("14788", frozenset({SINCE}))),
        ("Hoằng Quang", Place("15925", frozenset({SINCE, date(2025, 1, 1)}))),
        ("14758", Place("14758")),
        ("14758@2025-07-01", Place("14758", frozenset({REFORM}))),
    ],
)
def test_a_code_means_all_its_units_and_a_name_those_that_had_it(text: str, place: Place) -> None:
    assert find_place(text, UNITS) == place


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Hàm Rồng", ["Hàm Rồng", "Hàm Rồng"]),
        ("14758@2024-01-01", ["Đông Thọ", "Hàm Rồng"]),
        ("Quang Th", ["Quảng Thắng", "Quảng Thành", "Quảng Thịnh"]),
        ("Tan Sown", ["Tân Sơn"]),
        ("Hải Châu", []),
        ("99999", []),
        ("9999", []),
        ("", []),
    ],
)
def test_whatever_is_not_one_gives_candidates(text: str, names: list[str]) -> None:
    found = find_place(text, UNITS)
    assert isinstance(found, list)
    assert [unit.ref.name for unit in found] == names


def test_a_place_holds_the_units_of_its_code_and_days() -> None:
    assert Place("14758").holds("14758", SINCE)
    assert Place("14758", frozenset({REFORM})).holds("14758", REFORM)
    assert not Place("14758", frozenset({REFORM})).holds("14758", SINCE)
    assert not Place("14758").holds("14797", SINCE)
    assert not Place("14758").holds(None, None)

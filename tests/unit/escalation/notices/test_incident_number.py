"""The short number of an incident: said over the telephone, written down, and found again."""

from datetime import date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.notices.incident_number import (
    FORM,
    LETTERS,
    PER_DAY,
    day_of,
    ids_of_day,
    number_of,
    read_number,
)
from shared.clock import HO_CHI_MINH, local
from shared.ids import uuid7

instants = st.datetimes(datetime(2022, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001
    lambda t: t.replace(tzinfo=HO_CHI_MINH)
)
MIDNIGHT = datetime(2023, 1, 22, tzinfo=HO_CHI_MINH)


def opened(at: datetime, last: int = 0) -> str:
    """An id of this instant that ends in these bits."""
    return str(UUID(int=(UUID(uuid7(at)).int >> 32 << 32) | last))


def test_it_is_the_day_in_the_city_and_five_characters() -> None:
    assert number_of(opened(MIDNIGHT)) == "2201-A0A0A"
    assert number_of(opened(MIDNIGHT - timedelta(milliseconds=1), 1)) == "2101-A0A0B"
    assert number_of(opened(MIDNIGHT, PER_DAY - 1)) == "2201-X9X9X"


@given(instants, st.integers(0, 2**32 - 1))
def test_whoever_writes_it_down_finds_the_day_and_the_incident(at: datetime, last: int) -> None:
    incident = opened(at, last)
    number = number_of(incident)
    day, month, tail = number[:2], number[2:4], number[5:]
    for written in (number, number.lower(), f"{day}/{month} {tail}", f"#{day}{month}{tail}", number.replace("D", "đ")):
        assert read_number(written) == number
    found = day_of(number, local(at).date())
    assert found == local(at).date()
    lowest, following = ids_of_day(found)
    assert lowest <= incident < following


def test_all_numbers_of_a_day_differ() -> None:
    assert len({number_of(opened(MIDNIGHT, last)) for last in range(0, PER_DAY, 7)}) == len(range(0, PER_DAY, 7))


@pytest.mark.parametrize(
    "text", ["", "2201", "2201-K4T7", "2201-K4T7MM", "3201-K4T7M", "3002-K4T7M", "2201-O4T7M", "x"]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_number(text) is None


def test_its_letters_are_not_taken_for_each_other() -> None:
    for pair in ("CG", "IL", "OQ", "UV", "BP", "LN", "MN", "SX"):
        assert len(set(pair) & set(LETTERS)) <= 1
    assert FORM.fullmatch("2201K4T7M")


@pytest.mark.parametrize(
    ("number", "today", "day"),
    [
        ("2201-K4T7M", date(2023, 1, 22), date(2023, 1, 22)),
        ("2301-K4T7M", date(2023, 1, 22), date(2023, 1, 23)),
        ("2401-K4T7M", date(2023, 1, 22), date(2022, 1, 24)),
        ("0101-K4T7M", date(2022, 12, 31), date(2023, 1, 1)),
        ("2902-K4T7M", date(2027, 3, 1), date(2024, 2, 29)),
        ("2902-K4T7M", date(2103, 3, 1), date(2096, 2, 29)),
    ],
)
def test_without_a_year_it_is_the_last_such_day(number: str, today: date, day: date) -> None:
    assert day_of(number, today) == day

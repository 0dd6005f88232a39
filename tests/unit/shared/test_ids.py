"""Identifiers that sort by the clock, instants of the city, and a clock that can be moved."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import Clock, local
from shared.ids import uuid7
from tests.support import NIGHT, at

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC))  # noqa: DTZ001


@given(moments)
def test_an_id_is_a_uuid_of_version_7_that_tells_its_millisecond(moment: datetime) -> None:
    found = UUID(uuid7(moment))
    assert (found.version, found.variant) == (7, RFC_4122)
    assert found.int >> 80 == (moment - EPOCH) // timedelta(milliseconds=1)


@given(moments, st.integers(1, 10_000_000))
def test_ids_sort_by_time_down_to_the_microsecond(moment: datetime, later: int) -> None:
    assert uuid7(moment) < uuid7(moment + timedelta(microseconds=later))


def test_ids_of_one_instant_differ() -> None:
    assert len({uuid7(NIGHT) for _ in range(1_000)}) == 1_000


@given(moments)
def test_the_offset_in_which_a_time_is_written_does_not_change_its_id(moment: datetime) -> None:
    assert uuid7(moment)[:18] == uuid7(local(moment))[:18]


def test_a_moved_clock_runs_on_from_where_it_was_set() -> None:
    clock = Clock(NIGHT)
    first = clock.now()
    assert timedelta(0) <= first - NIGHT < timedelta(seconds=5)
    assert first.utcoffset() == timedelta(0)
    assert clock.now() >= first
    assert clock.is_moved
    clock.set(at("2023-01-29 08:00"))
    assert clock.now() >= at("2023-01-29 08:00")


def test_a_clock_is_real_unless_it_is_told_otherwise() -> None:
    clock = Clock()
    assert not clock.is_moved
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)


@pytest.mark.parametrize("utc", ["2023-01-21T16:59:59Z", "2023-01-21T17:00:00Z"])
def test_a_day_of_the_city_begins_at_seventeen_hundred_utc(utc: str) -> None:
    day = local(datetime.fromisoformat(utc)).date().isoformat()
    assert day == ("2023-01-22" if utc.endswith("17:00:00Z") else "2023-01-21")

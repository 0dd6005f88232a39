"""How much one credential may ask: at once, on average, and what it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http import rate
from shared.http.problem import Problem
from shared.http.rate import Rate


class Time:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_what_may_come_at_once_is_taken_and_one_more_is_refused(time: Time) -> None:
    limit = Rate(60, 10, time)
    for _ in range(10):
        limit.take("cam-bien-1")
    with pytest.raises(Problem) as refused:
        limit.take("cam-bien-1")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    assert "60 requests and reports a minute, 10 at once" in refused.value.detail
    limit.take("cam-bien-2")


def test_whoever_waits_as_long_as_was_said_is_taken(time: Time) -> None:
    limit = Rate(60, 10, time)
    limit.take("cam-bien-1", 10)
    with pytest.raises(Problem) as refused:
        limit.take("cam-bien-1", 7)
    assert refused.value.headers is not None
    time.now += int(refused.value.headers["Retry-After"])
    limit.take("cam-bien-1", 7)


def test_what_is_refused_takes_nothing(time: Time) -> None:
    limit = Rate(60, 10, time)
    for _ in range(3):
        with pytest.raises(Problem):
            limit.take("cam-bien-1", 11)
    limit.take("cam-bien-1", 10)


def test_a_rest_fills_the_bucket_and_no_more(time: Time) -> None:
    limit = Rate(60, 10, time)
    time.now += 1_000_000
    limit.take("cam-bien-1", 10)
    with pytest.raises(Problem):
        limit.take("cam-bien-1")


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 6)), max_size=60))
def test_in_no_span_of_time_is_more_taken_than_the_bucket_and_what_filled_it(steps: list[tuple[float, int]]) -> None:
    time = Time()
    limit, taken = Rate(60, 10, time), list[tuple[float, int]]()
    for pause, count in steps:
        time.now += pause
        try:
            limit.take("cam-bien-1", count)
        except Problem:
            continue
        taken.append((time.now, count))
    for first, (begin, _) in enumerate(taken):
        total = 0
        for at, count in taken[first:]:
            total += count
            assert total <= 10 + (at - begin) + 1e-6


def test_whoever_rested_is_forgotten_and_nobody_else(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MOST_KEPT", 3)
    limit = Rate(60, 10, time)
    limit.take("resting")
    time.now += 5
    limit.take("busy", 10)
    for n in range(20):
        limit.take(f"other-{n}")
    with pytest.raises(Problem):
        limit.take("busy")

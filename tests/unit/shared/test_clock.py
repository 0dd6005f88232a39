"""A clock that is set back is noticed, by how much, and nothing else is."""

from datetime import timedelta

import pytest

from shared import clock
from shared.clock import AGAIN_SECONDS, CLOCK_SLACK, SetBack
from tests.support import NIGHT

HOUR = timedelta(hours=1)


class Real:
    """Time that passes as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.elapsed = 0.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.elapsed)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Real:
    return Real(monkeypatch)


def test_a_clock_that_runs_is_not_set_back(real: Real) -> None:
    watching = SetBack()
    for second in range(100):
        real.elapsed = float(second)
        assert watching.look(NIGHT + timedelta(seconds=second)) is None


def test_how_far_a_clock_was_set_back_is_told_at_once_and_once_more_some_seconds_later(real: Real) -> None:
    watching = SetBack()
    assert watching.look(NIGHT) is None
    real.elapsed = 60.0
    now = NIGHT - HOUR
    assert watching.look(now) == HOUR + timedelta(seconds=60)
    watching.acted()
    assert watching.look(now) is None
    real.elapsed += AGAIN_SECONDS
    assert watching.look(now + timedelta(seconds=AGAIN_SECONDS)) == HOUR + timedelta(seconds=60)
    watching.acted()
    real.elapsed += AGAIN_SECONDS
    assert watching.look(now + 2 * timedelta(seconds=AGAIN_SECONDS)) is None


def test_of_two_jumps_only_what_was_not_acted_on_is_told_again(real: Real) -> None:
    watching = SetBack()
    watching.look(NIGHT)
    assert watching.look(NIGHT - HOUR) == HOUR
    assert watching.look(NIGHT - 3 * HOUR) == 3 * HOUR
    watching.acted()
    assert watching.look(NIGHT - 4 * HOUR) == HOUR
    assert real.elapsed == 0.0


def test_until_it_is_acted_on_it_is_told_each_time(real: Real) -> None:
    watching = SetBack()
    watching.look(NIGHT)
    assert [watching.look(NIGHT - HOUR) for _ in range(3)] == [HOUR] * 3
    assert real.elapsed == 0.0


def test_a_clock_that_is_set_forward_or_corrected_by_a_moment_was_not_set_back(real: Real) -> None:
    watching = SetBack()
    watching.look(NIGHT)
    assert watching.look(NIGHT + HOUR) is None
    assert watching.look(NIGHT + HOUR - CLOCK_SLACK) is None
    assert watching.look(NIGHT) == HOUR - CLOCK_SLACK, "and back again it was"
    assert real.elapsed == 0.0

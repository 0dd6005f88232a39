"""The clock. Every part is given the one clock and asks the time nowhere else.

So a test or the sample night can move it.
"""

import time
from datetime import UTC, datetime, timedelta, timezone

HO_CHI_MINH = timezone(timedelta(hours=7), "Asia/Ho_Chi_Minh")
"""Vietnam's civil time: UTC+7, without daylight saving. A day in the domain is a day here, never a UTC day."""


CLOCK_SLACK = timedelta(seconds=2)
"""The clocks of several machines may differ by so much, and a clock may be corrected by so much."""
AGAIN_SECONDS = 10.0


class Clock:
    """Gives aware UTC instants: real time, or time that runs on from `start`, or is `shift` ahead of real time."""

    def __init__(self, start: datetime | None = None, *, shift: timedelta = timedelta(0)) -> None:
        self._shift = shift
        if start is not None:
            self.set(start)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift

    def set(self, instant: datetime) -> None:
        """Move the clock to `instant`, which must have an offset. It runs on from there."""
        self._shift = instant.astimezone(UTC) - datetime.now(UTC)

    @property
    def shift(self) -> timedelta:
        """What it is ahead of real time. A clock of another process with the same shift shows the same."""
        return self._shift

    @property
    def is_moved(self) -> bool:
        """Whether the clock differs from real time."""
        return self._shift != timedelta(0)


class SetBack:
    """Notices that a clock was set back, against time that nobody can set.

    Call `look` often. What it returns is to be acted on, and then `acted` called. It asks for that once more some
    seconds later: a transaction that had asked the time before may commit after the first time.
    """

    def __init__(self) -> None:
        self._last: tuple[datetime, float] | None = None
        self._back = timedelta(0)
        self._is_acted_on = True
        self._act_at: list[float] = []

    def look(self, now: datetime) -> timedelta | None:
        """Return by how much the clock was set back, or None if nothing is to be done. `now`: what it shows."""
        elapsed = monotonic()
        if self._last is not None:
            shown, before = self._last
            step = shown + timedelta(seconds=elapsed - before) - now
            if step > CLOCK_SLACK:
                self._back = step if self._is_acted_on else self._back + step
                self._is_acted_on = False
                self._act_at = [elapsed, elapsed + AGAIN_SECONDS]
        self._last = now, elapsed
        return self._back if self._act_at and self._act_at[0] <= elapsed else None

    def acted(self) -> None:
        self._is_acted_on = True
        self._act_at = self._act_at[1:]


def local(instant: datetime) -> datetime:
    """Return the same instant in the city's time."""
    return instant.astimezone(HO_CHI_MINH)


def monotonic() -> float:
    """Return seconds for measuring how long something took. They are not a time of day."""
    return time.monotonic()

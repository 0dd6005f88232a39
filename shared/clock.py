"""The clock. Every part is given the one clock and asks the time nowhere else.

So a test or the sample night can move it.
"""

import time
from datetime import UTC, datetime, timedelta, timezone

HO_CHI_MINH = timezone(timedelta(hours=7), "Asia/Ho_Chi_Minh")
"""Vietnam's civil time: UTC+7, without daylight saving. A day in the domain is a day here, never a UTC day."""


class Clock:
    """Gives aware UTC instants: real time, or time that runs on from `start`."""

    def __init__(self, start: datetime | None = None) -> None:
        self._shift = timedelta(0)
        if start is not None:
            self.set(start)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift

    def set(self, instant: datetime) -> None:
        """Move the clock to `instant`, which must have an offset. It runs on from there."""
        self._shift = instant.astimezone(UTC) - datetime.now(UTC)

    @property
    def is_moved(self) -> bool:
        """Whether the clock differs from real time."""
        return self._shift != timedelta(0)


def local(instant: datetime) -> datetime:
    """Return the same instant in the city's time."""
    return instant.astimezone(HO_CHI_MINH)


def monotonic() -> float:
    """Return seconds for measuring how long something took. They are not a time of day."""
    return time.monotonic()

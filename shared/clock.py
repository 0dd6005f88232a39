"""The one clock. Every part is given it and asks nothing else for the time, so a test or the sample can move it."""

import time
from datetime import UTC, datetime, timedelta, timezone

HO_CHI_MINH = timezone(timedelta(hours=7), "Asia/Ho_Chi_Minh")
"""Vietnam's civil time: UTC+7 without daylight saving. A day in the domain is a day here, never a UTC day."""


class Clock:
    """Aware UTC instants, real by default, or running on from `start`."""

    def __init__(self, start: datetime | None = None) -> None:
        self._shift = timedelta(0)
        if start is not None:
            self.set(start)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift

    def set(self, instant: datetime) -> None:
        """Move to `instant` (with an offset) and run on from there."""
        self._shift = instant.astimezone(UTC) - datetime.now(UTC)

    @property
    def is_moved(self) -> bool:
        return self._shift != timedelta(0)


def local(instant: datetime) -> datetime:
    """The same instant as people in the city write it."""
    return instant.astimezone(HO_CHI_MINH)


def monotonic() -> float:
    """Seconds for measuring how long something took; not a time of day."""
    return time.monotonic()

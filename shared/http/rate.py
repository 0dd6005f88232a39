"""How much one credential may ask of a process: a token bucket each."""

import math
from collections.abc import Callable

from shared.clock import monotonic
from shared.http.problem import Problem

MOST_KEPT = 10_000
"""Credentials that are remembered before those whose bucket is full are forgotten."""


class Rate:
    """A request takes one token, and so does each further report of a batch.

    Kept as the moment at which the bucket is full again (GCRA), so that a credential at rest needs no row.
    """

    def __init__(self, per_minute: int, at_once: int, now: Callable[[], float] = monotonic) -> None:
        """`at_once`: what a bucket holds. It fills again by `per_minute`."""
        self._per_minute, self._at_once, self._now = per_minute, at_once, now
        self._seconds_each = 60.0 / per_minute
        self._full_at: dict[str, float] = {}

    def take(self, subject: str, count: int = 1) -> None:
        """Raises Problem 429, and takes nothing, where the bucket holds less than `count`."""
        now = self._now()
        full_at = max(self._full_at.get(subject, now), now) + count * self._seconds_each
        wait = full_at - now - self._at_once * self._seconds_each
        if wait > 0:
            limit = f"{self._per_minute} requests and reports a minute, {self._at_once} at once"
            seconds = math.ceil(wait)
            detail = f"more than this credential's {limit}: send the same again in {seconds} s"
            raise Problem(429, detail, headers={"Retry-After": str(seconds)})
        if len(self._full_at) >= MOST_KEPT and subject not in self._full_at:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        self._full_at[subject] = full_at

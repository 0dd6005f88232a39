"""Entries that no service has signed: they are counted and told of, and never handled."""

from collections.abc import Sequence
from time import monotonic

import structlog
from prometheus_client import Counter

log = structlog.get_logger()
TELL_SECONDS = 60.0
"""From one line of the log to the next, however many were refused."""
entries = Counter(
    "trucban_refused_entries", "Entries of streams that were refused: no service has signed them", ("stream", "reader")
)


class Refusals:
    """What one reader of one stream has refused. Each is counted at once; the log is told once a minute at most."""

    def __init__(self, stream: str, reader: str) -> None:
        self._stream = stream
        self._reader = reader
        self._count = entries.labels(stream, reader)  # at 0 from the start, so that an alarm sees the first one
        self._untold = 0
        self._last = ""
        self._told_at = float("-inf")

    def note(self, ids: Sequence[str]) -> None:
        self._count.inc(len(ids))
        self._untold += len(ids)
        self._last = ids[-1]

    def tell(self) -> str | None:
        """Call it often. Returns the id of the newest entry if the log was told now, else None."""
        if not self._untold or monotonic() - self._told_at < TELL_SECONDS:
            return None
        log.error(
            "entries were refused: no service has signed them; somebody else can write to the broker",
            stream=self._stream,
            reader=self._reader,
            count=self._untold,
            last=self._last,
        )
        self._untold, self._told_at = 0, monotonic()
        return self._last

"""Identifiers: UUIDv7 (RFC 9562), sortable by the time of the clock that was passed in."""

from datetime import datetime

import uuid_utils


def uuid7(at: datetime) -> str:
    seconds, nanoseconds = divmod(round(at.timestamp() * 1_000_000) * 1_000, 1_000_000_000)
    return str(uuid_utils.uuid7(timestamp=seconds, nanos=nanoseconds))

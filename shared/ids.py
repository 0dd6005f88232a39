"""Identifiers: UUIDv7 (RFC 9562). They sort by the time that was passed in."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def uuid7(at: datetime) -> str:
    """Return a UUIDv7 for the instant `at`, which must be aware.

    It has milliseconds, then twelve bits of the millisecond (RFC 9562, section 6.2, method 3), then 62 random bits.
    """
    milliseconds, microseconds = divmod((at - _EPOCH) // _MICROSECOND, 1_000)
    fraction = microseconds * 4_096 // 1_000
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def id_generator(at: datetime) -> Callable[[], str]:
    """Return a function that makes the ids of one transaction.

    They are a microsecond apart, and so sort in the order in which they were made.
    """
    made = 0

    def new_id() -> str:
        nonlocal made
        made += 1
        return uuid7(at + made * _MICROSECOND)

    return new_id

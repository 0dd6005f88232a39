"""The short number of an incident (số vụ việc), which people can say over the telephone. Pure.

Such as `2201-K4T7M`: the day and month of its opening in the city's time, then letters and digits in turn. It is made
of the incident's id alone, a UUIDv7: the day of its time, the rest of its last 32 random bits. So it needs no column
and never changes.

A day has 219,700 numbers (PER_DAY). Two incidents of one day share theirs with a probability of 1 in 219,700: that any
two do is 0.02 % among 10, 0.6 % among 50, and 2 % among 100. Whoever looks a number up then finds both, each with its
ward and time. The id stays what programs use.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from shared.clock import HO_CHI_MINH, local

LETTERS = "ABDEGHKMQRTVX"
"""Without one of each pair that looks alike (C G, I L, O Q, U V) or sounds alike in Vietnamese (B P, L N, M N, S X)."""
DIGITS = "0123456789"
TAIL = (LETTERS, DIGITS, LETTERS, DIGITS, LETTERS)
"""Where a letter stands and where a digit: so neither is taken for the other, and no word can arise."""
PER_DAY = len(LETTERS) ** 3 * len(DIGITS) ** 2
FORM = re.compile(rf"(\d\d)(\d\d)([{LETTERS}]\d[{LETTERS}]\d[{LETTERS}])")
_BETWEEN = re.compile(r"[\s#./·-]")
_LEAP_YEAR = 2024


def number_of(incident_id: str) -> str:
    """Return the number of an incident. Its id must be a UUID of version 7."""
    bits = UUID(incident_id).int
    rest, tail = (bits & 0xFFFF_FFFF) % PER_DAY, ""
    for characters in reversed(TAIL):
        rest, place = divmod(rest, len(characters))
        tail = characters[place] + tail
    opened = local(datetime.fromtimestamp((bits >> 80) / 1_000, UTC))
    return f"{opened:%d%m}-{tail}"


def read_number(text: str) -> str | None:
    """Return the number that a person typed, in its one form. None if it is no number.

    Case and what stands between its parts do not matter.
    """
    found = FORM.fullmatch(_BETWEEN.sub("", text).upper().replace("Đ", "D"))
    if found is None:
        return None
    day, month, tail = found.groups()
    return f"{day}{month}-{tail}" if _date(_LEAP_YEAR, month, day) else None


def day_of(number: str, today: date) -> date:
    """Return the day that a number speaks of: the last such day up to `today`.

    A day ahead is taken too, since the clock may have been set back.
    """
    days = (_date(today.year + 1 - ago, number[2:4], number[:2]) for ago in range(10))
    return next(day for day in days if day and day <= today + timedelta(days=1))


def ids_of_day(day: date) -> tuple[str, str]:
    """Return the lowest id that can be of this day, and the lowest of the next: ids sort by their time."""
    start = datetime.combine(day, time(), HO_CHI_MINH)
    lowest, following = (UUID(int=int(at.timestamp() * 1_000) << 80) for at in (start, start + timedelta(days=1)))
    return str(lowest), str(following)


def _date(year: int, month: str, day: str) -> date | None:
    try:
        return date(year, int(month), int(day))
    except ValueError:
        return None

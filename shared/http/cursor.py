"""What every list's query shares: limit, instants, and opaque keyset cursors.

A cursor is the sort key of the last row seen, so that page 1000 costs what page 1 does.
"""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Query
from pydantic import AfterValidator, AwareDatetime

from shared.http.problem import FieldError, Problem, invalid

T = TypeVar("T")


def _to_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time has no date in UTC") from error


Instant = Annotated[AwareDatetime, AfterValidator(_to_utc)]
Limit = Annotated[int, Query(ge=1, le=500, description="rows a page")]


def encode(key: Sequence[str | int]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(key))).decode().rstrip("=")


def decode(cursor: str, length: int) -> list[Any]:
    """The key's parts. Raises Problem 422 for a cursor that we did not make."""
    try:
        key = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError as error:
        raise _unknown() from error
    if not isinstance(key, list) or len(key) != length:
        raise _unknown()
    return key


def decode_instant(cursor: str) -> tuple[datetime, str]:
    """The key of a list that is sorted by an instant, in UTC here, and an id. Raises Problem 422."""
    instant, id_ = decode(cursor, 2)
    try:
        return datetime.fromisoformat(instant).astimezone(UTC), str(id_).replace("\0", "")
    except (TypeError, ValueError, OverflowError) as error:
        raise _unknown() from error


def page(
    items: Sequence[T], key: Callable[[T], Sequence[str | int]], limit: int, cursor: str | None
) -> tuple[Sequence[T], str | None]:
    """One page of a short list that is in memory, sorted by `key`, with the cursor of the next. Raises Problem 422."""
    if cursor is not None:
        items = _after(items, key, cursor)
    following = encode(key(items[limit - 1])) if len(items) > limit else None
    return items[:limit], following


def _after(items: Sequence[T], key: Callable[[T], Sequence[str | int]], cursor: str) -> Sequence[T]:
    seen = decode(cursor, len(key(items[0])) if items else 1)
    try:
        return [item for item in items if list(key(item)) > seen]
    except TypeError as error:
        raise _unknown() from error


def _unknown() -> Problem:
    return invalid([FieldError("#/cursor", "not a cursor of this list: start again without one")])

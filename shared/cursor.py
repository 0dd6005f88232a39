"""Opaque keyset cursors: the sort key of the last row seen, so that page 1000 costs what page 1 does."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import Query

from shared.problem import FieldError, Problem, invalid

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


def _unknown() -> Problem:
    return invalid([FieldError("#/cursor", "not a cursor of this list: start again without one")])

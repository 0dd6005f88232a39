"""What of an entry's body is also kept in columns, to be searched. The body is the truth, the columns follow.

Standard library only: the offline verifier uses it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

BODY_VERSION = 1
TYPE_PREFIX = "vn.trucban."


class ProjectionError(Exception):
    """A body lacks what every entry must have; the text names the member."""


@dataclass(frozen=True, slots=True)
class Projection:
    """The searchable columns of one entry; `kind` is the event type without prefix and version."""

    event_id: str
    kind: str
    incident: str | None
    ward: str | None
    category: str | None
    officials: tuple[str, ...]
    occurred_at: datetime
    recorded_at: datetime


def project(body: Mapping[str, object], origin: str) -> Projection:
    """The columns of a parsed body of the log `origin`. Raises ProjectionError."""
    if body.get("v") != BODY_VERSION:
        raise ProjectionError(f"v: expected {BODY_VERSION}, found {body.get('v')!r}")
    if body.get("log") != origin:
        raise ProjectionError(f"log: expected {origin!r}, found {body.get('log')!r}")
    return Projection(
        event_id=_text(body, "event_id"),
        kind=short_kind(_text(body, "kind")),
        incident=_optional(body, "incident"),
        ward=_optional(body, "ward"),
        category=_optional(body, "category"),
        officials=_officials(body),
        occurred_at=_instant(body, "occurred_at"),
        recorded_at=_instant(body, "recorded_at"),
    )


def short_kind(event_type: str) -> str:
    """`vn.trucban.report.received.v1`, or either part of it left out, is the kind `report.received`."""
    kind = event_type.removeprefix(TYPE_PREFIX)
    name, _, version = kind.rpartition(".")
    return name if name and version[0:1] == "v" and version[1:].isdigit() else kind


def _optional(body: Mapping[str, object], name: str) -> str | None:
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise ProjectionError(f"{name}: expected text")


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if isinstance(value, str) and value:
        return value
    raise ProjectionError(f"{name}: missing or not text")


def _instant(body: Mapping[str, object], name: str) -> datetime:
    text = _text(body, name)
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise ProjectionError(f"{name}: {text[:40]!r} is not an RFC 3339 time") from error
    if text[-1] != "Z":
        raise ProjectionError(f"{name}: {text[:40]!r} is not in UTC, with Z")
    return value


def _officials(body: Mapping[str, object]) -> tuple[str, ...]:
    value = body.get("officials")
    if not value:
        return ()
    if not isinstance(value, list):
        raise ProjectionError("officials: expected a list of holder ids")
    found = cast("list[object]", value)
    names = tuple(name for name in found if isinstance(name, str))
    if len(set(names)) != len(found):
        raise ProjectionError("officials: expected a list of holder ids, each once")
    return names

"""An event as the bytes that the ledger hashes and keeps: canonical JSON of RFC 8785.

Keys are ASCII, numbers are integers below 2^53 and there are no floats; under that rule orjson's sorted
output is what RFC 8785 asks for, several times faster than a general implementation. Personal values
(`Committed`) leave the body: it keeps a commitment under their dotted path, and value and salt are returned
aside, to be stored where they can be deleted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, cast

import orjson

from services.ledger.domain.projection import BODY_VERSION, Projection, project
from shared.commitment import Committed, commitment
from shared.events import Event

Json: TypeAlias = "str | int | bool | list[Json] | dict[str, Json] | None"

MAX_INTEGER = 2**53
_COMMITTED = {"salt", "value"}


class CanonicalError(Exception):
    """An event holds what cannot be written canonically; the text names the place."""


@dataclass(frozen=True, slots=True)
class Private:
    """A personal value outside the body; `field` is its dotted path in the event's data."""

    field: str
    committed: Committed


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, ready to be appended: `body` is what is hashed."""

    body: bytes
    columns: Projection
    private: tuple[Private, ...]


def make_entry(event: Event, origin: str, recorded_at: datetime) -> Entry:
    """`event` as an entry of the log `origin`. Raises CanonicalError."""
    found: list[Private] = []
    data = separate(event.data.model_dump(mode="json", exclude_none=True), "", found)
    members: dict[str, Json] = {
        "v": BODY_VERSION,
        "log": origin,
        "event_id": event.id,
        "kind": event.type,
        "source": event.source,
        "subject": event.subject,
        "time": format_utc(event.time),
        "occurred_at": format_utc(event.data.occurred_at or event.time),
        "recorded_at": format_utc(recorded_at),
        "cause": event.data.cause,
        "incident": event.data.incident,
        "ward": event.data.unit.code if event.data.unit else None,
        "category": event.data.category,
        "officials": list(dict.fromkeys(event.data.officials)),
        "data": data,
        "commit": {item.field: commitment(event.id, item.field, item.committed) for item in found},
    }
    body = {name: value for name, value in members.items() if value is not None}
    return Entry(encode_canonical(body), project(body, origin), tuple(found))


def encode_canonical(value: Mapping[str, Json]) -> bytes:
    """RFC 8785 of a value that `separate` has returned. Raises CanonicalError for text that is no Unicode."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise CanonicalError(f"not canonical: {error}") from error


def separate(value: Json, path: str, found: list[Private]) -> Json:
    """`value` without its `Committed` parts, which go into `found`; in a list, null stands in for one.

    Raises CanonicalError for what is outside the rule above.
    """
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind is dict:
        return _separate_members(cast("dict[str, Json]", value), path, found)
    if kind is list:
        items = enumerate(cast("list[Json]", value))
        return [separate(item, f"{path}.{place}", found) for place, item in items]
    if kind is not int:
        raise CanonicalError(f"{path}: {kind.__name__} is not allowed; send an integer or text")
    if abs(cast("int", value)) >= MAX_INTEGER:
        raise CanonicalError(f"{path}: {value} is not below 2^53 in size; send it as text")
    return value


def format_utc(instant: datetime) -> str:
    """RFC 3339 in UTC. Raises CanonicalError for an instant that has no UTC date (years 1 and 9999)."""
    try:
        return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError as error:
        raise CanonicalError(f"time {instant.isoformat()} has no date in UTC") from error


def _separate_members(value: dict[str, Json], path: str, found: list[Private]) -> Json:
    if value.keys() == _COMMITTED and (committed := _read_committed(value)) is not None:
        found.append(Private(path, committed))
        return None
    kept: dict[str, Json] = {}
    for name, member in value.items():
        if not name.isascii():
            raise CanonicalError(f"{path}: key {name!r} is not ASCII text")
        rest = separate(member, f"{path}.{name}" if path else name, found)
        if rest is not None or member is None:
            kept[name] = rest
    return kept


def _read_committed(value: dict[str, Json]) -> Committed | None:
    salt, text = value["salt"], value["value"]
    if isinstance(salt, str) and isinstance(text, str) and len(salt) == 64 and not salt.strip("0123456789abcdef"):
        return Committed(salt=salt, value=text)
    return None

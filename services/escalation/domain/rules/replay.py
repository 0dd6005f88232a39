"""Replay: a decision is computed again from its stored inputs, and must be the same, byte for byte. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from services.escalation.domain.rules.accountability import Inputs, decide
from services.escalation.domain.rules.record import record_bytes
from services.escalation.domain.rules.rulebook import AdoptedRulebook


@dataclass(frozen=True)
class Replayed:
    """The result of `replay`."""

    decision_id: str
    computed: dict[str, Any] | None
    """None if it could not be computed."""
    differences: tuple[str, ...]
    """One line for each difference: the place, what was recorded, what was computed. Empty if there is none."""

    @property
    def equal(self) -> bool:
        return not self.differences


def replay(decision_id: str, inputs: Any, record: bytes, books: Mapping[str, AdoptedRulebook]) -> Replayed:
    """Compute a decision again. `inputs` and `record` are as stored. `books`: adopted rulebooks by version."""
    try:
        found = Inputs.model_validate(inputs)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return Replayed(decision_id, None, (f"the stored inputs cannot be read: {place}: {first['msg']}",))
    version = found.rulebook_version
    if version is not None and version not in books:
        return Replayed(decision_id, None, (f"rulebook {version}, which it was made by, is not among the adopted",))
    computed = record_bytes(decide(found, books[version] if version is not None else None))
    differences = () if computed == record else tuple(_differences(record, computed))
    return Replayed(decision_id, orjson.loads(computed), differences)


def _differences(record: bytes, computed: bytes) -> Iterator[str]:
    try:
        recorded = orjson.loads(record)
    except orjson.JSONDecodeError:
        yield "the record is not JSON"
        return
    found = list(_between("", recorded, orjson.loads(computed)))
    yield from found or ["the record says the same in other bytes"]


def _between(place: str, recorded: Any, computed: Any) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(computed, dict):
        for name in sorted(recorded.keys() | computed.keys()):
            inner = f"{place}.{name}" if place else name
            yield from _between(inner, recorded.get(name, _ABSENT), computed.get(name, _ABSENT))
    elif isinstance(recorded, list) and isinstance(computed, list) and len(recorded) == len(computed):
        for number, (one, other) in enumerate(zip(recorded, computed, strict=True)):
            yield from _between(f"{place}[{number}]", one, other)
    elif recorded != computed or type(recorded) is not type(computed):
        yield f"{place}: recorded {_text(recorded)}, computed {_text(computed)}"


_ABSENT = object()


def _text(value: Any) -> str:
    return "nothing" if value is _ABSENT else orjson.dumps(value).decode()

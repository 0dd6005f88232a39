"""What a plan would change, field by field, for whoever asks before it is done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from services.escalation.domain.directory.diff import Plan
from services.escalation.domain.directory.schemas import Place

T = TypeVar("T")
RecordKind = Literal["unit", "tenure", "roster", "posting", "contact"]


@dataclass(frozen=True)
class Difference:
    """A record that a line adds or supersedes, for people to read.

    A record that takes the place of an old one is shown with the old one, not as added.
    """

    kind: RecordKind
    place: Place
    change: Literal["added", "superseded"]
    record: dict[str, Any]
    became: tuple[dict[str, tuple[Any, Any]], ...] = ()
    """Only if superseded: for each record in its place, the fields that differ as (old, new). Empty: it is
    withdrawn."""


def differences(kind: RecordKind, plan: Plan[T], shown: Callable[[T], dict[str, Any]]) -> list[Difference]:
    replacing = {e.place for e in plan.ended if e.by is not None}
    found = [Difference(kind, place, "added", shown(new)) for place, new in plan.added if place not in replacing]
    for e in plan.ended:
        old = shown(e.old)
        instead = e.left or ((e.by,) if e.by is not None else ())
        became = tuple(_fields(old, shown(new)) for new in instead)
        found.append(Difference(kind, e.place, "superseded", old, became))
    return sorted(found, key=lambda d: (d.place, d.change))


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}

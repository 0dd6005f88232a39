"""A promise that was broken, and of which kind it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Sort = Literal["lost", "doubled", "stuck", "untruthful", "wrong"]
"""lost: answered with success and gone, or dead; doubled: done or recorded twice; stuck: not done in time after the
cause was gone; untruthful: ready by its own word and unable; wrong: anything else."""
SORTS: tuple[Sort, ...] = get_args(Sort)
SHOWN = 5
"""Examples of a broken promise that are named; the rest are counted."""


@dataclass(frozen=True)
class Broken:
    sort: Sort
    text: str
    count: int = 1
    """How many things this line is about."""

    def __str__(self) -> str:
        return f"{self.sort}: {self.text}"


def named(sort: Sort, promise: str, items: Iterable[Any]) -> list[Broken]:
    """A line each for the first of them. `promise`: what is broken, with {} for the thing."""
    found = sorted(map(str, items))
    lines = [Broken(sort, promise.format(item)) for item in found[:SHOWN]]
    more = len(found) - SHOWN
    return [*lines, Broken(sort, f"… and {more} more: {promise}", more)] if more > 0 else lines


def counted(broken: Sequence[Broken]) -> Mapping[Sort, int]:
    return {sort: sum(b.count for b in broken if b.sort == sort) for sort in SORTS}

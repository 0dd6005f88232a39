"""Errors as people read them: one line a cause, and not more of them than somebody will read. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from services.escalation.domain.directory.schemas import LineError

MOST_SHOWN = 100
"""How many causes are shown. The others are counted."""


def causes_of(errors: Iterable[LineError]) -> list[LineError]:
    """Return each cause once, on its first line, with its further lines; by table and line."""
    lines: dict[tuple[str, str, str], list[LineError]] = {}
    for error in sorted(errors, key=lambda e: (e.table or "", e.line)):
        lines.setdefault((error.table or "", error.field or "", error.detail), []).append(error)
    found = (replace(same[0], also=tuple(sorted({e.line for e in same} - {same[0].line}))) for same in lines.values())
    return sorted(found, key=lambda e: (e.table or "", e.line))


def lines_of(errors: Iterable[LineError]) -> int:
    """Return how many lines have an error."""
    return len({(e.table, line) for e in errors for line in (e.line, *e.also)})


def ranges(lines: Sequence[int]) -> str:
    """Return line numbers, which are in order, as people write them: `3-87, 90`."""
    starts = [lines[0], *(b for a, b in pairwise(lines) if b > a + 1)]
    ends = [*(a for a, b in pairwise(lines) if b > a + 1), lines[-1]]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))

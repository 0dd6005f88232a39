"""Patterns: many independent reports, or many incidents of one ward. Pure.

A pattern is a sign that an incident may be "nổi cộm" (prominent). It raises a suggestion to the desk and nothing else.
Related incidents are linked, never merged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.rules.rulebook import Patterns

Pattern = Literal["independent_reports", "ward_incidents"]
MOST_LINKS = 10
"""How many incidents a new one is linked to at most."""


@dataclass(frozen=True)
class Neighbour:
    """Another incident of the ward. Exercises and dismissed or merged incidents are left out."""

    incident_id: str
    at: datetime
    suggested: bool = False

    def with_suggestion(self) -> "Neighbour":
        return replace(self, suggested=True)


def related(at: datetime, near: Iterable[Neighbour], window: timedelta) -> list[str]:
    """Return the ids of the incidents within `window` of `at`, the nearest first, at most MOST_LINKS."""
    found = sorted((abs(n.at - at), n.incident_id) for n in near if abs(n.at - at) <= window)
    return [incident_id for _, incident_id in found[:MOST_LINKS]]


def suggestion(
    incident_id: str, at: datetime, sources: int, near: Sequence[Neighbour], policy: Patterns
) -> tuple[Pattern, int] | None:
    """Return the pattern that the incident shows and its count, or None.

    `sources`: number of distinct senders of its reports. `near`: incidents of its ward. Among a ward's incidents in one
    window only one is suggested for their number.
    """
    if sources >= policy.independent_reports:
        return "independent_reports", sources
    window = timedelta(minutes=policy.ward_window_minutes)
    inside = [n for n in near if abs(n.at - at) <= window and n.incident_id != incident_id]
    if len(inside) + 1 >= policy.ward_incidents and not any(n.suggested for n in inside):
        return "ward_incidents", len(inside) + 1
    return None

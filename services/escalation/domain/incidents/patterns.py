"""Signs that an incident may be "nổi cộm": many independent reports, or many incidents of one ward. Pure.

They raise a suggestion for the desk and nothing else. What is related is linked, never merged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.rules.rulebook import Patterns

Pattern = Literal["independent_reports", "ward_incidents"]
MOST_LINKS = 10


@dataclass(frozen=True)
class Neighbour:
    """Another incident of the ward, no exercise, neither dismissed nor merged."""

    incident_id: str
    at: datetime
    suggested: bool = False

    def with_suggestion(self) -> "Neighbour":
        return replace(self, suggested=True)


def related(at: datetime, near: Iterable[Neighbour], window: timedelta) -> list[str]:
    """Ids of the nearest in time within `window`."""
    found = sorted((abs(n.at - at), n.incident_id) for n in near if abs(n.at - at) <= window)
    return [incident_id for _, incident_id in found[:MOST_LINKS]]


def suggestion(
    incident_id: str, at: datetime, sources: int, near: Sequence[Neighbour], policy: Patterns
) -> tuple[Pattern, int] | None:
    """Which pattern the incident shows, and how many; of a ward's incidents only one is suggested a window.

    `sources`: distinct senders of its reports.
    """
    if sources >= policy.independent_reports:
        return "independent_reports", sources
    window = timedelta(minutes=policy.ward_window_minutes)
    inside = [n for n in near if abs(n.at - at) <= window and n.incident_id != incident_id]
    if len(inside) + 1 >= policy.ward_incidents and not any(n.suggested for n in inside):
        return "ward_incidents", len(inside) + 1
    return None

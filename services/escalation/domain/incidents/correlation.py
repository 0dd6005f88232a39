"""Correlation: does a report belong to a known incident, or to a new one? Pure.

The window is bounded in time, so that an incident that was left open never takes in what happens later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from math import asin, cos, radians, sin, sqrt

from services.escalation.domain.rules.rulebook import Correlation

EARTH_RADIUS_M = 6_371_008.8
"""IUGG mean radius, in metres."""


Key = tuple[tuple[str, date], str, bool]
"""Unit (code, valid_from), family of the category, and whether it is an exercise."""


@dataclass(frozen=True)
class Point:
    """A point in degrees, WGS 84."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class Occurrence:
    """What correlation looks at: in a report, or in an incident's first report (its anchor)."""

    unit: tuple[str, date]
    family: str
    exercise: bool
    at: datetime
    point: Point | None = None

    @cached_property
    def instant(self) -> datetime:
        """`at` in UTC: times of one zone compare far faster."""
        return self.at.astimezone(UTC)

    @property
    def key(self) -> "Key":
        """What must be equal before time and place are compared. An exercise (diễn tập) never matches a real one."""
        return (self.unit, self.family, self.exercise)


def distance_m(a: Point, b: Point) -> float:
    """Return the great-circle distance in metres (haversine)."""
    dlat, dlon = radians(b.latitude - a.latitude), radians(b.longitude - a.longitude)
    h = sin(dlat / 2) ** 2 + cos(radians(a.latitude)) * cos(radians(b.latitude)) * sin(dlon / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(h)))


def same_incident(report: Occurrence, anchor: Occurrence, policy: Correlation) -> bool:
    """Return whether `report` belongs to the incident with this anchor.

    The window is fixed at the anchor. It does not grow with later reports.
    """
    apart = abs(report.instant - anchor.instant)
    if apart > timedelta(minutes=policy.window_minutes) or report.key != anchor.key:
        return False
    if report.point is None or anchor.point is None:
        return True
    return distance_m(report.point, anchor.point) <= policy.radius_m


def find(report: Occurrence, anchors: Iterable[tuple[str, Occurrence]], policy: Correlation) -> str | None:
    """Return the id of the incident that `report` belongs to, or None. `anchors`: (incident id, anchor).

    Among several incidents the nearest in time is chosen, then the earliest, then the smallest id.
    """
    matches = [(id_, anchor) for id_, anchor in anchors if same_incident(report, anchor, policy)]
    best = min(matches, key=lambda m: (abs(report.instant - m[1].instant), m[1].instant, m[0]), default=None)
    return best[0] if best else None

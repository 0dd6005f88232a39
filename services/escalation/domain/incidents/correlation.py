"""The same incident, or another? Bounded in time, so that a forgotten open incident never swallows a new one. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import asin, cos, radians, sin, sqrt

from services.escalation.domain.rules.rulebook import Correlation

EARTH_RADIUS_M = 6_371_008.8
"""IUGG mean radius."""


Key = tuple[tuple[str, date], str, bool]


@dataclass(frozen=True)
class Point:
    """Degrees, WGS 84."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class Occurrence:
    """What correlation looks at: of a report, or of an incident's first report (its anchor)."""

    unit: tuple[str, date]
    family: str
    exercise: bool
    at: datetime
    point: Point | None = None

    @property
    def key(self) -> "Key":
        """What has to be equal before time and place are looked at. Exercises never join real incidents."""
        return (self.unit, self.family, self.exercise)


def distance_m(a: Point, b: Point) -> float:
    """Great-circle distance in metres (haversine)."""
    dlat, dlon = radians(b.latitude - a.latitude), radians(b.longitude - a.longitude)
    h = sin(dlat / 2) ** 2 + cos(radians(a.latitude)) * cos(radians(b.latitude)) * sin(dlon / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(h)))


def same_incident(report: Occurrence, anchor: Occurrence, policy: Correlation) -> bool:
    """Measured from the incident's first report: a fixed window does not grow with each report that joins."""
    if abs(report.at - anchor.at) > timedelta(minutes=policy.window_minutes) or report.key != anchor.key:
        return False
    if report.point is None or anchor.point is None:
        return True
    return distance_m(report.point, anchor.point) <= policy.radius_m


def find(report: Occurrence, anchors: Iterable[tuple[str, Occurrence]], policy: Correlation) -> str | None:
    """Id of the incident that `report` belongs to: of several the nearest in time, then the earliest, then by id."""
    matches = [(id_, anchor) for id_, anchor in anchors if same_incident(report, anchor, policy)]
    best = min(matches, key=lambda m: (abs(report.at - m[1].at), m[1].at, m[0]), default=None)
    return best[0] if best else None

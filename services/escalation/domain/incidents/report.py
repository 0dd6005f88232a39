"""Conversion of a report event into what correlation and the rule look at. Pure."""

import orjson

from services.escalation.domain.incidents.correlation import Occurrence, Point
from services.escalation.domain.rules.accountability import ReportFacts, time_of_occurrence
from shared.events import ReportReceived
from shared.taxonomy import categories


def occurrence_of(event: ReportReceived) -> Occurrence:
    """Return what correlation looks at. The report must have a unit and a time of occurrence."""
    data = event.data
    assert data.unit is not None
    assert data.occurred_at is not None
    point = None
    if data.location is not None:
        place = orjson.loads(data.location.value)
        point = Point(float(place["latitude"]), float(place["longitude"]))
    return Occurrence(
        unit=(data.unit.code, data.unit.valid_from),
        family=categories()[str(data.category)].family,
        exercise=data.exercise,
        at=time_of_occurrence(data.occurred_at, data.received_at),
        point=point,
    )


def facts_of(event: ReportReceived) -> ReportFacts:
    """Return what the rule looks at. The report must have a time of occurrence."""
    data = event.data
    assert data.occurred_at is not None
    return ReportFacts(
        report_id=data.report_id,
        category=str(data.category),
        source=data.from_source,
        occurred_at=data.occurred_at,
        received_at=data.received_at,
        harm=data.harm,
        firecracker=data.firecracker,
        clock_ahead=data.clock_ahead,
    )

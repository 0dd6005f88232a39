"""Conversion of a report event into what correlation and the rule look at. Pure."""

from collections.abc import Callable

import orjson

from services.escalation.domain.incidents.correlation import Occurrence, Point
from services.escalation.domain.rules.accountability import ReportFacts, time_of_occurrence
from shared.events import AnyReport, Source
from shared.taxonomy import categories


def occurrence_of(event: AnyReport) -> Occurrence:
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


def facts_of(event: AnyReport, pseudonym: Callable[[str], str]) -> ReportFacts:
    """Return what the rule looks at. The report must have a time of occurrence.

    `pseudonym`: gives the pseudonym of a sender whom the event names in the clear, as `.v1` does.
    """
    data, sender = event.data, event.data.from_source
    assert data.occurred_at is not None
    named = pseudonym(sender.subject)
    return ReportFacts(
        report_id=data.report_id,
        category=str(data.category),
        source=sender if named == sender.subject else Source(kind=sender.kind, subject=named),
        occurred_at=data.occurred_at,
        received_at=data.received_at,
        harm=data.harm,
        firecracker=data.firecracker,
        clock_ahead=data.clock_ahead,
    )

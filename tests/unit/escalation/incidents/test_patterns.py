"""Signs of "nổi cộm" are suggestions for the desk, and what is near in time is linked, never merged."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.patterns import MOST_LINKS, Neighbour, related, suggestion
from services.escalation.domain.rules.rulebook import Patterns
from shared.events import ReportReceived, SuggestionRaised
from tests.support import NGOC_TRAO, NIGHT, engine, received, route

MINUTE = timedelta(minutes=1)
POLICY = Patterns()


def near(*minutes: int, suggested: int | None = None) -> list[Neighbour]:
    return [Neighbour(f"vu-{n}", NIGHT + n * MINUTE, n == suggested) for n in minutes]


def routed(*events: ReportReceived) -> IncidentEngine:
    found = engine()
    for event in events:
        route(found, event)
    return found


def suggested(found: IncidentEngine) -> list[tuple[str, int]]:
    return [(e.data.pattern, e.data.count) for e in found.changes.events if isinstance(e, SuggestionRaised)]


def night(*minutes: int, category: str = "FIRE", exercise: bool = False) -> list[ReportReceived]:
    """Incidents of one ward, each of its own: their families differ or they are too far apart."""
    return [
        received(category, occurred_at=NIGHT + n * MINUTE, received_at=NIGHT + n * MINUTE, exercise=exercise)
        for n in minutes
    ]


# --- what is related ---


@given(st.lists(st.integers(-200, 200), max_size=30, unique=True), st.integers(1, 120))
def test_related_are_the_nearest_within_the_window(minutes: list[int], window: int) -> None:
    found = related(NIGHT, near(*minutes), window * MINUTE)
    inside = sorted((abs(n), f"vu-{n}") for n in minutes if abs(n) <= window)
    assert found == [id_ for _, id_ in inside[:MOST_LINKS]]


def test_incidents_of_a_ward_near_in_time_are_linked_each_pair_once() -> None:
    found = routed(*night(0), *night(40, category="EXPLOSION"), *night(120, category="THEFT_ROBBERY"))
    first, second, _ = found.changes.incidents
    assert [(a, b) for a, b, _ in found.changes.related] == [(second, first)]
    assert len(found.changes.incidents) == 3


def test_neither_an_exercise_nor_another_ward_is_related() -> None:
    found = routed(*night(0), *night(1, exercise=True), received("FIRE", unit=NGOC_TRAO))
    assert len(found.changes.incidents) == 3
    assert not found.changes.related


# --- what is suggested ---


@given(st.integers(1, 9))
def test_so_many_independent_sources_are_a_sign(sources: int) -> None:
    found = suggestion("vu", NIGHT, sources, [], POLICY)
    assert found == (("independent_reports", sources) if sources >= POLICY.independent_reports else None)


@given(st.lists(st.integers(-100, 100), max_size=6, unique=True), st.data())
def test_so_many_incidents_of_a_ward_are_a_sign_once_a_window(minutes: list[int], data: st.DataObject) -> None:
    marked = data.draw(st.none() | st.sampled_from(minutes)) if minutes else None
    neighbours = near(*minutes, suggested=marked)
    inside = [n for n in minutes if abs(n) <= POLICY.ward_window_minutes]
    found = suggestion("vu", NIGHT, 1, [*neighbours, Neighbour("vu", NIGHT)], POLICY)
    wanted = len(inside) + 1 >= POLICY.ward_incidents and marked not in inside
    assert found == (("ward_incidents", len(inside) + 1) if wanted else None)


def test_five_sources_are_suggested_once_however_many_more_report() -> None:
    found = routed(*(received(subject=f"nguon-{n}") for n in range(8)))
    assert suggested(found) == [("independent_reports", 5)]
    assert [n.notice.purpose for n in found.changes.notices if n.notice.recipient == DESK] == ["prominence"]


@pytest.mark.parametrize(
    "events",
    [
        [received() for _ in range(8)],
        [received(subject=f"nguon-{n}", clock_ahead=n > 3) for n in range(8)],
        [received(subject=f"nguon-{n}", exercise=True) for n in range(8)],
    ],
    ids=["one source", "clocks ahead", "exercise"],
)
def test_what_is_no_sign(events: list[ReportReceived]) -> None:
    assert not suggested(routed(*events))


def test_a_night_of_incidents_is_suggested_at_the_third_and_not_again_within_the_hour() -> None:
    categories = ("FIRE", "EXPLOSION", "THEFT_ROBBERY", "VIOLENT_CRIME")
    events = [night(5 * n, category=c)[0] for n, c in enumerate(categories)]
    found = routed(*events)
    assert suggested(found) == [("ward_incidents", 3)]
    assert [n.incident.category for n in found.changes.notices if n.notice.purpose == "prominence"] == ["THEFT_ROBBERY"]


def test_a_suggestion_changes_no_decision() -> None:
    found = routed(*(received(subject=f"nguon-{n}") for n in range(8)))
    assert [m.decision.standing for m in found.changes.decisions] == ["provisional", "confirmed"]
    assert all("designated" not in reason for m in found.changes.decisions for reason in m.decision.reasons)

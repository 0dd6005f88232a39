"""The same incident, or another: bounded in time and place, whatever the order of the reports."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.incidents.correlation import Occurrence, Point, distance_m, find, same_incident
from services.escalation.domain.incidents.report import facts_of, occurrence_of
from shared.taxonomy import categories
from tests.support import BA_DINH, NIGHT, RULEBOOK, at, received
from tests.unit.escalation.drawn import instants

POLICY = RULEBOOK.rulebook.correlation
WINDOW = timedelta(minutes=30)
UNIT = (BA_DINH.code, BA_DINH.valid_from)
HERE = Point(19.8075, 105.7764)
METRE = 1 / 111_195
"""Of latitude, in degrees."""


def explosion(when: datetime = NIGHT, point: Point | None = None) -> Occurrence:
    return Occurrence(UNIT, "explosive", exercise=False, at=when, point=point)


def north(metres: float) -> Point:
    return Point(HERE.latitude + metres * METRE, HERE.longitude)


# --- time ---


@given(instants, instants)
def test_the_window_is_the_same_before_and_after_the_first_report(one: datetime, other: datetime) -> None:
    first, second = explosion(one), explosion(other)
    assert same_incident(first, second, POLICY) == same_incident(second, first, POLICY) == (abs(one - other) <= WINDOW)


@pytest.mark.parametrize(("minutes", "same"), [(-31, False), (-30, True), (0, True), (30, True), (31, False)])
def test_the_window_is_thirty_minutes_either_way_its_edge_included(minutes: int, same: bool) -> None:
    assert same_incident(explosion(NIGHT + timedelta(minutes=minutes)), explosion(), POLICY) is same


def test_the_window_is_fixed_to_the_first_report_and_does_not_grow_with_those_that_join() -> None:
    anchors = [("vu-1", explosion())]
    assert find(explosion(NIGHT + timedelta(minutes=25)), anchors, POLICY) == "vu-1"
    assert find(explosion(NIGHT + timedelta(minutes=50)), anchors, POLICY) is None


def test_either_side_of_midnight_is_one_night() -> None:
    assert same_incident(explosion(at("2023-01-21 23:58")), explosion(at("2023-01-22 00:03")), POLICY)


def test_midnight_utc_means_nothing_to_the_city() -> None:
    before, after = datetime(2023, 1, 21, 23, 55, tzinfo=UTC), datetime(2023, 1, 22, 0, 5, tzinfo=UTC)
    assert same_incident(explosion(before), explosion(after), POLICY)


@given(instants)
def test_the_offset_in_which_a_time_is_written_does_not_matter(when: datetime) -> None:
    assert same_incident(explosion(when), explosion(when.astimezone(UTC)), POLICY)


# --- place ---


@pytest.mark.parametrize(("metres", "same"), [(0, True), (299, True), (301, False), (1_000, False)])
def test_two_points_belong_together_within_three_hundred_metres(metres: float, same: bool) -> None:
    assert same_incident(explosion(point=north(metres)), explosion(point=HERE), POLICY) is same


@given(st.booleans())
def test_without_a_point_on_either_side_place_does_not_separate(reported: bool) -> None:
    with_point, without = explosion(point=HERE), explosion()
    pair = (with_point, without) if reported else (without, with_point)
    assert same_incident(*pair, POLICY)


latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)
points = st.builds(Point, latitudes, longitudes)


@given(points, points)
def test_distance_is_never_more_than_half_way_round_and_the_same_both_ways(a: Point, b: Point) -> None:
    there, back = distance_m(a, b), distance_m(b, a)
    assert there == pytest.approx(back, abs=1e-3)
    assert 0 <= there <= 20_015_200
    assert distance_m(a, a) == 0


def test_distance_across_the_city_is_right_to_a_metre() -> None:
    lam_son_square, ham_rong_bridge = Point(19.8067, 105.7761), Point(19.8408, 105.7947)
    assert distance_m(lam_son_square, ham_rong_bridge) == pytest.approx(4_262, abs=10)


# --- what never belongs together ---


@pytest.mark.parametrize(
    "other",
    [
        replace(explosion(), exercise=True),
        replace(explosion(), family="fire"),
        replace(explosion(), unit=("14779", BA_DINH.valid_from)),
        replace(explosion(), unit=(BA_DINH.code, date(2025, 7, 1))),
    ],
    ids=["exercise", "family", "ward", "ward of the same code"],
)
def test_exercises_other_families_and_other_wards_stay_apart(other: Occurrence) -> None:
    assert not same_incident(other, explosion(), POLICY)
    assert other.key != explosion().key


def test_setting_off_and_an_explosion_of_unknown_cause_can_be_one_incident() -> None:
    families = {code: category.family for code, category in categories().items()}
    assert families["FIRECRACKER_SET_OFF"] == families["EXPLOSION"]
    assert families["FIRECRACKER_SET_OFF"] != families["FIRECRACKER_POSSESSION"]


# --- which of several ---


def test_of_several_incidents_the_nearest_in_time_takes_the_report() -> None:
    anchors = [("vu-1", explosion()), ("vu-2", explosion(NIGHT + timedelta(minutes=40)))]
    assert find(explosion(NIGHT + timedelta(minutes=15)), anchors, POLICY) == "vu-1"
    assert find(explosion(NIGHT + timedelta(minutes=25)), anchors, POLICY) == "vu-2"
    assert find(explosion(NIGHT + timedelta(minutes=20)), anchors, POLICY) == "vu-1", "the earlier, at equal distance"


@given(st.lists(st.integers(-60, 60), max_size=6), st.permutations(range(6)))
def test_the_order_in_which_incidents_are_known_does_not_matter(minutes: list[int], order: list[int]) -> None:
    anchors = [(f"vu-{n}", explosion(NIGHT + timedelta(minutes=m))) for n, m in enumerate(minutes)]
    shuffled = [anchors[i] for i in order if i < len(anchors)]
    assert find(explosion(), anchors, POLICY) == find(explosion(), shuffled, POLICY)


# --- from the event ---


def test_a_report_happened_when_its_sender_says_but_not_after_we_had_it() -> None:
    ahead = received(occurred_at=NIGHT + timedelta(days=2), received_at=NIGHT)
    late = received(occurred_at=NIGHT - timedelta(days=2), received_at=NIGHT)
    assert occurrence_of(ahead).at == NIGHT
    assert occurrence_of(late).at == NIGHT - timedelta(days=2)


def test_a_report_carries_its_point_and_its_family_into_correlation() -> None:
    occurrence = occurrence_of(received("EXPLOSION", point=(19.8075, 105.7764), exercise=True))
    assert occurrence == Occurrence(UNIT, "explosive", exercise=True, at=NIGHT.astimezone(UTC), point=HERE)


def test_what_the_rule_looks_at_holds_nothing_that_a_person_wrote() -> None:
    facts = facts_of(received(point=(19.8, 105.7)), str)
    assert set(facts.model_dump(exclude_none=True)) == {
        "report_id",
        "category",
        "source",
        "occurred_at",
        "received_at",
        "clock_ahead",
    }

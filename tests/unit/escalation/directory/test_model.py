"""Who held which post, when, as it was known when."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given

from services.escalation.domain.directory.model import (
    Tenure,
    changed_spans,
    day_start,
    holder_at,
    overlap,
    remainders,
)
from tests.support import CHAIR, SECRETARY, at, tenure
from tests.unit.escalation.drawn import instants, tenures

MICROSECOND = timedelta(microseconds=1)


# --- valid time ---


@pytest.mark.parametrize(
    ("instant", "held"),
    [
        (at("2023-01-16 00:00") - MICROSECOND, False),
        (at("2023-01-16 00:00"), True),
        (at("2023-01-25 00:00") - MICROSECOND, True),
        (at("2023-01-25 00:00"), False),
    ],
)
def test_a_tenure_holds_from_its_first_midnight_in_the_city_to_before_its_last(instant: datetime, held: bool) -> None:
    one = tenure(CHAIR, "mau-1", "2023-01-16 00:00", "2023-01-25 00:00")
    found = holder_at([one], CHAIR, instant, at("2023-02-01 00:00"))
    assert (found == one) is held


def test_the_first_day_of_the_year_of_the_cat_begins_at_seventeen_hundred_utc_the_day_before() -> None:
    assert day_start(date(2023, 1, 22)) == datetime.fromisoformat("2023-01-21T17:00:00Z")


def test_a_post_without_a_tenure_is_vacant_and_other_posts_do_not_fill_it() -> None:
    assert holder_at([tenure(SECRETARY)], CHAIR, at("2023-01-21 23:50"), at("2023-01-22 00:00")) is None


# --- recorded time ---


def test_an_entry_made_late_is_not_known_before_it_was_made() -> None:
    late = tenure(CHAIR, "mau-1", "2023-01-01 00:00", recorded="2023-01-20 09:00")
    when = at("2023-01-10 12:00")
    assert holder_at([late], CHAIR, when, at("2023-01-20 08:59")) is None
    assert holder_at([late], CHAIR, when, at("2023-01-20 09:00")) == late


def test_a_superseded_entry_is_what_was_known_until_then() -> None:
    old = tenure(CHAIR, "mau-1", superseded="2023-01-20 09:00")
    new = tenure(CHAIR, "mau-2", recorded="2023-01-20 09:00")
    when = at("2023-01-10 12:00")
    assert holder_at([old, new], CHAIR, when, at("2023-01-20 08:59")) == old
    assert holder_at([old, new], CHAIR, when, at("2023-01-20 09:00")) == new


# --- what stays of an entry beside a new one ---


def covered(found: list[Tenure], instant: datetime) -> int:
    return sum(t.valid_from <= instant and (t.valid_to is None or instant < t.valid_to) for t in found)


@given(tenures(CHAIR), tenures(CHAIR), instants)
def test_what_stays_of_a_superseded_tenure_and_the_new_one_cover_its_time_once(
    old: Tenure, new: Tenure, instant: datetime
) -> None:
    left = remainders(old, new) if overlap(old, new) else [old]
    before, after = covered([old, new], instant), covered([*left, new], instant)
    assert after == min(before, 1), "covered as before, and never twice"


@given(tenures(CHAIR), tenures(CHAIR))
def test_what_stays_of_a_tenure_is_the_same_persons_and_lies_within_it(old: Tenure, new: Tenure) -> None:
    for left in remainders(old, new):
        changed = {"valid_from", "valid_to"}
        assert left.model_dump(exclude=changed) == old.model_dump(exclude=changed)
        if overlap(old, new):
            assert old.valid_from <= left.valid_from
            assert old.valid_to is None or (left.valid_to is not None and left.valid_to <= old.valid_to)


@pytest.mark.parametrize("end", ["2023-01-25 00:00", None])
def test_a_tenure_that_is_replaced_from_its_first_day_leaves_no_empty_one_behind(end: str | None) -> None:
    old = tenure(CHAIR, "mau-cu", "2023-01-16 00:00", end)
    assert remainders(old, tenure(CHAIR, "mau-moi", "2023-01-16 00:00", end)) == []
    assert remainders(old, tenure(CHAIR, "mau-moi", "2023-01-10 00:00")) == []


@given(tenures(CHAIR), tenures(CHAIR))
def test_overlap_is_the_same_seen_from_either_side(one: Tenure, other: Tenure) -> None:
    assert overlap(one, other) == overlap(other, one)


# --- when another person answers than was recorded before ---


def test_a_late_handover_changes_who_answers_from_its_first_day_on() -> None:
    old = tenure(CHAIR, "mau-cu")
    cut = tenure(CHAIR, "mau-cu", end="2023-01-20 00:00")
    new = tenure(CHAIR, "mau-moi", "2023-01-20 00:00")
    assert changed_spans([old], [cut, new]) == [(at("2023-01-20 00:00"), None)]


def test_a_record_that_is_only_divided_changes_nobody() -> None:
    halves = [tenure(CHAIR, end="2023-01-20 00:00"), tenure(CHAIR, start="2023-01-20 00:00")]
    assert changed_spans([tenure(CHAIR)], halves) == []


def test_another_document_for_the_same_person_is_a_change() -> None:
    old = tenure(CHAIR, "mau-1", "2023-01-01 00:00", "2023-02-01 00:00")
    new = old.model_copy(update={"document": "QĐ mẫu số 2", "tenure_id": "khac"})
    assert changed_spans([old], [new]) == [(at("2023-01-01 00:00"), at("2023-02-01 00:00"))]


@given(tenures(CHAIR), tenures(CHAIR), instants)
def test_an_instant_lies_in_a_changed_span_exactly_if_another_answers_then(
    old: Tenure, new: Tenure, instant: datetime
) -> None:
    after = [*remainders(old, new), new] if overlap(old, new) else [old, new]
    shown = [
        [(t.holder_id, t.acting) for t in found if t.covers(instant, instant.max.replace(tzinfo=instant.tzinfo))]
        for found in ([old], after)
    ]
    spans = changed_spans([old], after)
    within = any(start <= instant and (end is None or instant < end) for start, end in spans)
    assert within is (shown[0] != shown[1])

"""What a batch may hold: bounded before it is judged, each item by itself."""

from typing import Any

import orjson
import pytest

from services.intake.api.body import MAX_BATCH_ITEMS, MAX_REPORT_BYTES, items_of, submission_of
from shared.http.problem import Problem
from tests.unit.intake.sample import body

LARGE = body(description="x" * MAX_REPORT_BYTES)
NDJSON = "application/x-ndjson"


def refused(value: Any) -> Problem:
    assert isinstance(value, Problem)
    return value


def test_an_item_that_is_too_large_fails_alone_in_both_forms() -> None:
    good = body()
    for content, kind in (
        (orjson.dumps([good, LARGE, good]), "application/json"),
        (b"\n".join(map(orjson.dumps, (good, LARGE, good))), NDJSON),
    ):
        first, large, last = items_of(content, kind)
        assert first == last == good
        assert refused(large).status == 413


def test_an_item_that_is_nested_too_deeply_fails_alone() -> None:
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    padding = orjson.dumps(body(description="x" * 4_000))
    first, found = items_of(b"[" + b",".join([padding] * 20 + [deep]) + b"]", "")[-2:]
    assert first == orjson.loads(padding)
    assert refused(found).status == 422


@pytest.mark.parametrize("content", [b"{}\n" * (MAX_BATCH_ITEMS + 1), b"{}\n" * 1_600_000])
def test_lines_are_counted_while_they_are_split(content: bytes) -> None:
    with pytest.raises(Problem, match="more than 1000 items"):
        items_of(content, NDJSON)


def test_blank_lines_are_no_items_and_count_as_lines() -> None:
    _, second = items_of(b"\n \n" + orjson.dumps(body()) + b"\r\n\n\t\n{", NDJSON)
    assert refused(second).detail.startswith("line 6 ")


def test_a_report_of_more_values_than_any_has_is_refused_by_one_error() -> None:
    for wrong in (
        {f"k{n}": 1 for n in range(8_000)},
        {"harm": {f"k{n}": 1 for n in range(8_000)}},
        {"evidence": [{f"k{n}": 1 for n in range(400)} for _ in range(20)]},
    ):
        with pytest.raises(Problem) as raised:
            submission_of(body() | wrong)
        assert len(raised.value.errors) == 1


def test_a_report_that_says_all_that_it_can_is_taken() -> None:
    full = body(
        harm={"deaths": 1, "injured": 1, "injury_percent": 10, "life_threatening": 1, "property_vnd": 1},
        evidence=[{"sha256": "ab" * 32, "bytes": n, "media_type": "image/jpeg"} for n in range(1, 21)],
        received_at="2023-01-21T23:57:00+07:00",
        on_behalf_of={"role": "device", "subject": "cam-bien-1", "ward": "14776"},
    )
    assert len(submission_of(full).evidence) == 20

"""The demo's comparison: it must find every difference, or "0 differences" would say nothing."""

from typing import Any

import pytest

from services.cli.demo.comparison import Comparison, describe_notice

ROW: dict[str, Any] = {"at": "2023-01-21T23:50:00+07:00", "case": "one-explosion", "why": "A reason.", "expected": {}}


def row(**expected: Any) -> dict[str, Any]:
    return ROW | {"expected": expected}


def notice(notice_id: str, recipient: str = "mau-bi-thu", purpose: str = "accountable", **more: Any) -> dict[str, Any]:
    plain = {"notice_id": notice_id, "recipient": recipient, "purpose": purpose, "posts": ["chair"], "exercise": False}
    return plain | more


def incident(*notices: dict[str, Any], incident_id: str = "i1", deputy: str | None = None) -> dict[str, Any]:
    party = {"post": "chair", "accountable": {"holder_id": "mau-bi-thu"}, "present": {"holder_id": "mau-bi-thu"}}
    record = {
        "outcome": "applies",
        "standing": "provisional",
        "parties": [party | ({"deputy": {"holder_id": deputy}} if deputy else {})],
    }
    return {
        "id": incident_id,
        "state": "notified",
        "decision": {"record": record},
        "decisions": [{"record": record}],
        "notices": list(notices),
        "deliveries": [{"notice_id": n["notice_id"]} for n in notices],
        "related": [],
    }


def differences(comparison: Comparison, expected: dict[str, Any], found: dict[str, Any]) -> int:
    before = len(comparison.differences)
    comparison.compare(row(**expected), found)
    return len(comparison.differences) - before


@pytest.mark.parametrize(
    ("expected", "found", "count"),
    [
        ({"status": 201}, {"status": 201}, 0),
        ({"status": 201}, {"status": 409}, 1),
        ({"status": 201}, {}, 1),
        ({"status": 201, "state": "open"}, {"status": 200, "state": "closed"}, 2),
        ({"told": ["chair", "desk:review"]}, {"told": ["desk:review", "chair"]}, 0),
        ({"told": ["chair"]}, {"told": ["chair", "chair"]}, 1),
        ({"told": []}, {"told": ["chair"]}, 1),
        ({"candidates": ["Ba Đình"]}, {}, 1),
        ({"channels": {"chair": 2}}, {"channels": {"chair": 2, "desk:review": 1}}, 0),
        ({"channels": {"chair": 2}}, {"channels": {"chair": 1}}, 1),
    ],
)
def test_each_expected_field_that_is_otherwise_is_a_difference(
    expected: dict[str, Any], found: dict[str, Any], count: int
) -> None:
    assert differences(Comparison(), expected, found) == count


def test_an_incident_goes_by_the_label_of_its_first_row() -> None:
    comparison = Comparison()
    for incident_id in ("i1", "i2"):
        comparison.meet(incident_id)
    assert differences(comparison, {"incident": "A"}, {"incident": "i1"}) == 0
    assert differences(comparison, {"incident": "A"}, {"incident": "i1"}) == 0
    assert differences(comparison, {"incident": "B"}, {"incident": "i1"}) == 1, "the same incident by another label"
    assert differences(comparison, {"incident": "A"}, {"incident": "i2"}) == 1, "another incident by the same label"
    assert differences(comparison, {"incident": "B"}, {"incident": "i2"}) == 0
    assert comparison.incidents == ["i1", "i2"]


def test_a_notice_is_expected_once_and_one_that_nobody_expected_is_found_in_the_end() -> None:
    comparison = Comparison()
    comparison.meet("i1")
    first, second, third = notice("n1"), notice("n2", "desk", "review"), notice("n3", "leadership", "not_reviewed")
    assert comparison.observe(incident(first), row(told=["chair"]))["told"] == ["chair"]
    assert comparison.observe(incident(first, second), row(state="notified"))["told"] == [], "the row expects none"
    assert comparison.observe(incident(first, second), row(told=["desk:review"]))["told"] == ["desk:review"]
    comparison.compare_rest(incident(first, second))
    assert comparison.differences == []
    comparison.compare_rest(incident(first, second, third))
    assert len(comparison.differences) == 1
    assert "leadership:not_reviewed" in comparison.differences[0]


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (notice("n"), "chair"),
        (notice("n", posts=["party_secretary", "chair"]), "chair+party_secretary"),
        (notice("n", purpose="reminder"), "chair:reminder"),
        (notice("n", recipient="mau-pho"), "deputy of chair"),
        (notice("n", recipient="mau-pho", purpose="reminder"), "deputy of chair:reminder"),
        (notice("n", recipient="desk", purpose="review"), "desk:review"),
        (notice("n", purpose="duty"), "duty"),
        (notice("n", exercise=True), "log:chair"),
    ],
)
def test_a_notice_is_described_as_the_sample_writes_it(told: dict[str, Any], text: str) -> None:
    assert describe_notice(told, incident(deputy="mau-pho")) == text


def test_an_incident_is_observed_in_the_words_of_the_sample() -> None:
    comparison = Comparison()
    comparison.meet("i1")
    comparison.compare(row(incident="A"), {"incident": "i1"})
    whole = incident(notice("n1"), incident_id="i2", deputy="mau-pho") | {"related": [{"id": "i1"}]}
    assert comparison.observe(whole, row(told=[])) == {
        "state": "notified",
        "decision": "applies",
        "standing": "provisional",
        "limb": None,
        "severity": None,
        "accountable": {"chair": "mau-bi-thu"},
        "present": {"chair": "mau-pho"},
        "decisions": 1,
        "related": ["A"],
        "told": ["chair"],
        "channels": {"chair": 1},
    }

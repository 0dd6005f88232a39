"""The sample files hold what they promise: places, made-up holders, and every hard case of the Tết night."""

import csv
import json
import re
import unicodedata
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from services.escalation.directory import TenureRow, UnitRow, check_tenures, read_rows
from services.intake.submission import Submission
from services.intake.wards import Unit, resolve
from shared.clock import HO_CHI_MINH
from shared.events import UnitRef
from shared.taxonomy import categories

SAMPLES = Path(__file__).parents[2] / "samples"
NIGHT: list[dict[str, Any]] = [
    json.loads(line) for line in (SAMPLES / "tet-night.ndjson").read_text(encoding="utf-8").splitlines()
]
REPORTS = [row for row in NIGHT if row["kind"] == "report"]
ACCEPTED = [row for row in REPORTS if row["expected"]["status"] == 201]
WARDS = [
    Unit(row["code"], date.fromisoformat(row["valid_from"]), None, row["name"], row["type"])
    for row in csv.DictReader((SAMPLES / "wards.csv").read_text(encoding="utf-8").splitlines())
]
HOLDERS = list(csv.DictReader((SAMPLES / "directory.csv").read_text(encoding="utf-8").splitlines()))
FIRST, LAST = (
    datetime(2023, 1, 14, tzinfo=HO_CHI_MINH),
    datetime(2023, 1, 30, tzinfo=HO_CHI_MINH),
)
HARD_CASES_OF = {
    "firecrackers": "possession trade manufacture possession-then-manufacture setting-off setting-off-sound-unknown"
    " lawful-fireworks fireworks-unlicensed strongest-limb",
    "severity": "severity-1 severity-2 severity-3 severity-4 severity-unknown harm-grows harm-becomes-known"
    " property-threshold",
    "office": "late-handover handover-midnight vacancy vacancy-filled-later vacancy-since one-person-both-posts"
    " acting-holder",
    "sameness": "one-explosion-six-reports two-hours-later window-edge window-fixed far-apart near-by nearest-anchor"
    " late-report-joins same-message-thrice same-id-other-content exercise",
    "time": "midnight-local midnight-utc clock-ahead clock-skew late-offline before-the-rule first-day-of-the-rule",
    "verification": "one-credential second-source unverified-serious device-life-at-stake device-fire-unknown",
    "ward": "nfd ward-abbreviated ward-ascii ward-lower-case ward-eth ward-ambiguous ward-one-letter-apart"
    " ward-unknown",
    "category": "congestion congestion-then-accident traffic-accident theft racing violence public-order other-serious"
    " explosion-cause-unknown",
    "acknowledgement": "both-acknowledge one-acknowledges acknowledge-repeated not-acknowledged",
}
HARD_CASES = [case for cases in HARD_CASES_OF.values() for case in cases.split()]


def of_case(case: str) -> list[dict[str, Any]]:
    return [row for row in REPORTS if row["case"] == case]


def holder_notices(rows: list[dict[str, Any]]) -> int:
    told = [name for row in rows for name in row["expected"]["told"]]
    return sum(not name.startswith(("desk:", "log:")) for name in told)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]  # type: ignore[reportUnknownVariableType]
    return [value] if isinstance(value, str) else []


def test_the_34_wards_are_all_there() -> None:
    units, errors = read_rows((SAMPLES / "wards.csv").read_bytes(), UnitRow)
    assert not errors
    assert Counter(unit.type for _, unit in units) == {"phường": 30, "xã": 4}


def test_the_directory_fits_the_wards_and_has_both_posts_of_each() -> None:
    rows, errors = read_rows((SAMPLES / "directory.csv").read_bytes(), TenureRow)
    units = [UnitRef(code=w.code, valid_from=w.valid_from, name=w.name) for w in WARDS]
    posts = ("party_secretary", "chair")
    assert not errors
    assert not check_tenures(rows, units, posts)
    assert {(row.unit_code, row.post) for _, row in rows} == {(u.code, post) for u in units for post in posts}


def test_every_holder_is_marked_as_a_sample_and_none_has_a_persons_name() -> None:
    kind_and_name = {w.code: f"{w.kind} {w.name}" for w in WARDS}
    for holder in HOLDERS:
        assert holder["sample"] == "true"
        assert holder["channel"] == f"outbox://{holder['holder_id']}"
        assert holder["document"].startswith("QĐ mẫu số ")
        place = re.escape(kind_and_name[holder["unit_code"]])
        assert re.fullmatch(rf"(Bí thư Đảng ủy|Chủ tịch UBND) {place} \(mẫu( \d)?\)", holder["holder_name"])


def test_the_directory_has_the_hard_cases_of_office() -> None:
    tenures: defaultdict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    posts_of: defaultdict[str, set[str]] = defaultdict(set)
    for holder in HOLDERS:
        tenures[holder["unit_code"], holder["post"]].append(holder)
        posts_of[holder["holder_id"]].add(holder["post"])
    pairs = [(a, b) for found in tenures.values() for a, b in pairwise(found)]
    assert any(a["valid_to"] < b["valid_from"] for a, b in pairs), "a vacancy that ends"
    assert any(a["valid_to"] == b["valid_from"] == "2023-01-25" for a, b in pairs), "a handover"
    assert any(found[-1]["valid_to"] for found in tenures.values()), "a vacancy that lasts"
    assert any(holder["acting"] == "true" for holder in HOLDERS), "an acting holder"
    assert any(len(posts) == 2 for posts in posts_of.values()), "one person in both posts"


def test_the_night_is_long_enough_ordered_and_within_its_dates() -> None:
    times = [datetime.fromisoformat(row["at"]) for row in NIGHT]
    assert len({row["report"]["report_id"] for row in REPORTS}) >= 80
    assert all(b - a >= timedelta(seconds=1) for a, b in pairwise(times))
    assert all(time.utcoffset() == timedelta(hours=7) for time in times)
    assert FIRST <= times[0] <= times[-1] < LAST


@pytest.mark.parametrize("case", HARD_CASES)
def test_the_night_holds_the_hard_case(case: str) -> None:
    assert any(row["case"] == case for row in NIGHT)


def test_no_case_is_left_out_of_the_list_above() -> None:
    assert {row["case"] for row in NIGHT} == set(HARD_CASES)


def test_every_category_and_every_ward_has_a_report() -> None:
    resolved = [resolve(row["report"]["ward"], WARDS) for row in ACCEPTED]
    assert {row["report"]["category"] for row in ACCEPTED} == set(categories())
    assert {unit.code for unit in resolved if isinstance(unit, Unit)} == {w.code for w in WARDS}
    assert all(isinstance(unit, Unit) for unit in resolved)


def test_every_report_is_of_the_shape_that_intake_takes() -> None:
    for row in REPORTS:
        Submission.model_validate(row["report"])
        assert row["why"].endswith(".")
        assert row["as"]["role"] in {"officer", "desk", "device"}


def test_officers_report_about_their_own_ward() -> None:
    for row in ACCEPTED:
        if row["as"]["role"] == "officer":
            unit = resolve(row["report"]["ward"], WARDS)
            assert isinstance(unit, Unit)
            assert row["as"]["ward"] == unit.code


def test_ids_are_unique_but_for_the_messages_that_are_meant_to_repeat() -> None:
    repeated = Counter(row["report"]["report_id"] for row in REPORTS)
    cases = {row["case"] for row in REPORTS if repeated[row["report"]["report_id"]] > 1}
    assert cases == {"same-message-thrice", "same-id-other-content"}
    thrice, twice = of_case("same-message-thrice"), of_case("same-id-other-content")
    assert [row["expected"]["status"] for row in thrice] == [201, 200, 200]
    assert all(row["report"] == thrice[0]["report"] for row in thrice)
    assert [row["expected"]["status"] for row in twice] == [201, 409]
    assert twice[0]["report"] != twice[1]["report"]


def test_rows_about_a_report_name_one_that_was_accepted_before() -> None:
    known: set[str] = set()
    for row in NIGHT:
        if row["kind"] == "report":
            known.add(row["report"]["report_id"])
        else:
            assert row["report_id"] in known


def test_the_nfd_report_is_decomposed_and_all_other_text_is_composed() -> None:
    decomposed = [row for row in REPORTS if not all(unicodedata.is_normalized("NFC", t) for t in texts(row["report"]))]
    assert [row["case"] for row in decomposed] == ["nfd"]
    report = decomposed[0]["report"]
    for field in ("ward", "description"):
        assert unicodedata.is_normalized("NFD", report[field])
        assert not unicodedata.is_normalized("NFC", report[field])


def test_reporters_are_plainly_made_up() -> None:
    reporters = [row["report"]["reporter"] for row in REPORTS if "reporter" in row["report"]]
    assert reporters
    assert all("(mẫu)" in r["name"] and re.fullmatch(r"0912 000 \d{3}", r["phone"]) for r in reporters)


@pytest.mark.parametrize("case", ["one-explosion-six-reports", "two-hours-later"])
def test_a_sensor_and_five_neighbours_are_one_incident_and_two_notices(case: str) -> None:
    rows = of_case(case)
    assert [row["as"]["role"] for row in rows] == ["device", *["desk"] * 5]
    assert len({row["expected"]["incident"] for row in rows}) == 1
    assert holder_notices(rows) == 2


def test_the_second_explosion_is_another_incident() -> None:
    first, second = (of_case(case)[0] for case in ("one-explosion-six-reports", "two-hours-later"))
    assert first["expected"]["incident"] != second["expected"]["incident"]


def test_an_ambiguous_ward_is_refused_with_its_candidates() -> None:
    (row,) = of_case("ward-ambiguous")
    assert row["expected"]["status"] == 422
    assert row["expected"]["candidates"] == ["Quảng Thắng", "Quảng Thành", "Quảng Thịnh"]


def test_an_exercise_never_shares_an_incident_with_real_reports() -> None:
    kinds: defaultdict[str, set[bool]] = defaultdict(set)
    for row in ACCEPTED:
        exercise = row["report"].get("exercise", False)
        kinds[row["expected"]["incident"]].add(exercise)
        assert all(name.startswith("log:") == exercise for name in row["expected"]["told"])
    assert all(len(found) == 1 for found in kinds.values())
    assert {True} in kinds.values()


def test_at_least_four_deadlines_pass_unacknowledged() -> None:
    told = [row["expected"]["told"] for row in NIGHT if row["kind"] == "deadlines"]
    assert told.count(["desk:not_acknowledged"]) >= 4

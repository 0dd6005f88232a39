"""The sample files hold what they promise: places, made-up holders, and every hard case, each with an end."""

import csv
import json
import re
import unicodedata
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from services.escalation.api import commands
from services.escalation.domain.directory.model import followers, key_of
from services.escalation.domain.directory.schemas import RosterRow, TenureRow, UnitRow
from services.escalation.domain.directory.validation import check_rosters, check_tenures, check_units, with_recorded
from services.escalation.domain.incidents import correlation
from services.escalation.domain.incidents.correlation import Occurrence, Point
from services.intake.domain.submission import Submission
from services.intake.domain.wards import Unit, resolve
from shared.clock import HO_CHI_MINH
from shared.taxonomy import categories
from tests.support import RULEBOOK, SAMPLES, read_rows

PARTS: dict[str, list[dict[str, Any]]] = {
    name: [json.loads(line) for line in (SAMPLES / f"{name}.ndjson").read_text(encoding="utf-8").splitlines()]
    for name in ("tet-night", "after-tet", "units-2025")
}
ALL = [row for part in PARTS.values() for row in part]
NIGHT = PARTS["tet-night"]
REPORTS = [row for row in NIGHT if row["kind"] == "report"]
ACCEPTED = [row for row in REPORTS if row["expected"]["status"] == 201]
ALL_REPORTS = [row for row in ALL if row["kind"] == "report"]
ALL_ACCEPTED = [row for row in ALL_REPORTS if row["expected"]["status"] == 201]


def table(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((SAMPLES / name).read_text(encoding="utf-8").splitlines()))


def unit(row: dict[str, str]) -> Unit:
    until = date.fromisoformat(row["valid_to"]) if row.get("valid_to") else None
    return Unit(row["code"], date.fromisoformat(row["valid_from"]), until, row["name"], row["type"])


WARDS = [unit(row) for row in table("wards.csv")]
LATER = table("wards-2025.csv")
UNITS = [unit(row) for row in LATER]
"""Those of 2023 with their end, and those that follow."""
HOLDERS = table("directory.csv")
PUT: list[dict[str, Any]] = [new for row in ALL if row["kind"] == "directory" for new in row.get("rows", ())]
"""Holders and deputies that are entered while the sample plays."""
PEOPLE: list[dict[str, Any]] = [*HOLDERS, *table("directory-2025.csv"), *table("rosters.csv"), *PUT]
POSTS = ("party_secretary", "chair")
REFORM = date(2025, 7, 1)
SPANS = {
    "tet-night": ("2023-01-14", "2023-01-30"),
    "after-tet": ("2023-01-31", "2023-02-06"),
    "units-2025": ("2025-06-20", "2025-07-02"),
}
BODIES = {
    "verifications": commands.Verification,
    "designations": commands.Designation,
    "severity": commands.Revision,
    "merges": commands.Merge,
    "splits": commands.Split,
    "handoffs": commands.Handoff,
    "responses": commands.ResponseText,
    "closure-proposals": commands.Reasoned,
    "closures": commands.Reasoned,
    "reopenings": commands.Reasoned,
}
ENDS = {"closed", "dismissed", "handed_off", "merged"}
HARD_CASES_OF = {
    "firecrackers": "possession trade manufacture possession-then-manufacture setting-off setting-off-sound-unknown"
    " lawful-fireworks fireworks-unlicensed strongest-limb",
    "severity": "severity-1 severity-2 severity-3 severity-4 severity-unknown harm-grows harm-becomes-known"
    " property-threshold severity-raised-by-the-ward severity-lowered-by-the-desk",
    "office": "late-handover handover-midnight vacancy vacancy-filled-later vacancy-since one-person-both-posts"
    " acting-holder delegation duty-roster late-appointment late-appointment-of-what-has-ended",
    "sameness": "one-explosion-six-reports two-hours-later window-edge window-fixed far-apart near-by nearest-anchor"
    " late-report-joins late-report-after-the-end same-message-thrice same-id-other-content exercise merged split",
    "time": "midnight-local midnight-utc clock-ahead clock-skew late-offline before-the-rule first-day-of-the-rule",
    "verification": "one-credential second-source unverified-serious device-life-at-stake device-fire-unknown"
    " verified-as-firecrackers dismissed-then-reopened not-reviewed",
    "ward": "nfd ward-abbreviated ward-ascii ward-lower-case ward-eth ward-ambiguous ward-one-letter-apart"
    " ward-unknown ward-of-another-time",
    "category": "congestion congestion-then-accident traffic-accident theft racing violence public-order other-serious"
    " explosion-cause-unknown",
    "acknowledgement": "both-acknowledge one-acknowledges acknowledge-repeated not-acknowledged reminder-answered"
    " desk-answers leadership-answers chain-exhausted lapse",
    "nổi cộm": "designated-after-a-suggestion three-of-one-ward",
    "end": "official-refused closed-by-the-city handed-off-to-the-police ends-by-itself",
    "units": "unit-ended unit-divided merged-into-one-that-goes-on code-and-name-reused late-report-of-an-ended-unit",
}
HARD_CASES = [case for cases in HARD_CASES_OF.values() for case in cases.split()]


def of_case(case: str) -> list[dict[str, Any]]:
    return [row for row in ALL_REPORTS if row["case"] == case]


def ward_of(row: dict[str, Any]) -> Unit:
    at = datetime.fromisoformat(min(row["report"]["occurred_at"], row["at"])).astimezone(HO_CHI_MINH).date()
    found = resolve(row["report"]["ward"], [u for u in UNITS if u.is_in_force(at)])
    assert isinstance(found, Unit), row["report"]["ward"]
    return found


def holder_notices(rows: list[dict[str, Any]]) -> int:
    told = [name for row in rows for name in row["expected"]["told"]]
    return sum(not name.startswith(("desk:", "log:")) for name in told)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]  # type: ignore[reportUnknownVariableType]
    return [value] if isinstance(value, str) else []


# --- wards and people ---


def test_the_34_wards_are_all_there() -> None:
    units, errors = read_rows((SAMPLES / "wards.csv").read_bytes(), UnitRow)
    assert not errors
    assert Counter(unit.type for _, unit in units) == {"phường": 30, "xã": 4}


def test_the_directory_fits_the_wards_and_has_both_posts_of_each() -> None:
    rows, errors = read_rows((SAMPLES / "directory.csv").read_bytes(), TenureRow)
    units = with_recorded(read_rows((SAMPLES / "wards.csv").read_bytes(), UnitRow)[0], {})
    assert not errors
    assert not check_tenures(rows, units, POSTS)
    assert {(row.unit_code, row.post) for _, row in rows} == {(u.code, post) for u in WARDS for post in POSTS}


def test_the_succession_of_the_34_wards_is_whole() -> None:
    """Tân Sơn went into Phú Sơn on 1 January 2025, two communes became wards, and on 1 July the rest became seven."""
    rows, errors = read_rows((SAMPLES / "wards-2025.csv").read_bytes(), UnitRow)
    recorded = with_recorded(read_rows((SAMPLES / "wards.csv").read_bytes(), UnitRow)[0], {})
    assert not errors
    assert not check_units(rows, recorded)
    units = with_recorded(rows, recorded)
    assert recorded.keys() <= units.keys()
    seven = {key_of(u.ref) for u in units.values() if u.valid_to is None}
    assert Counter(since for _, since in units) == {date(2021, 2, 1): 34, date(2025, 1, 1): 2, REFORM: 7}
    assert seven == {key for key in units if key[1] == REFORM}
    heirs = {u.ref.name: followers(units, u, REFORM) for u in units.values() if u.valid_to}
    assert {key_of(heir.ref) for found in heirs.values() for heir in found} == seven
    assert {name for name, found in heirs.items() if len(found) > 1} == {"Đông Thọ", "An Hưng"}
    tan_son = next(u for u in units.values() if u.ref.name == "Tân Sơn")
    assert [u.ref.name for u in followers(units, tan_son, date(2025, 1, 1))] == ["Phú Sơn"]


def test_the_holders_of_2025_and_the_rosters_fit_their_units() -> None:
    refs = with_recorded(read_rows((SAMPLES / "wards-2025.csv").read_bytes(), UnitRow)[0], {})
    holders, errors = read_rows((SAMPLES / "directory-2025.csv").read_bytes(), TenureRow)
    assert not errors
    assert not check_tenures(holders, refs, POSTS)
    turns, errors = read_rows((SAMPLES / "rosters.csv").read_bytes(), RosterRow)
    assert not errors
    assert not check_rosters(turns, refs)
    assert {turn.level for _, turn in turns} == {"ward", "desk", "leadership"}


def test_everybody_is_marked_as_a_sample_and_nobody_has_a_persons_name() -> None:
    kind_and_name = {(row["code"], row["valid_from"]): f"{row['type']} {row['name']}" for row in LATER}
    titles = r"Bí thư Đảng ủy|Chủ tịch UBND|Phó Chủ tịch UBND|Cán bộ trực"
    for person in PEOPLE:
        assert person["sample"] in ("true", True)
        assert person["channel"] == f"outbox://{person['holder_id']}"
        assert re.match(r"(QĐ|Lịch trực|Giấy ủy quyền) mẫu số ", person["document"])
        place = kind_and_name.get((person["unit_code"], person["unit_valid_from"]))
        of_the_city = r"(Trực ban|Lãnh đạo trực) thành phố"
        named = rf"({titles}) {re.escape(place)}" if place else of_the_city
        assert re.fullmatch(rf"{named} \(mẫu( \d)?\)", person["holder_name"])


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
    assert any(row.get("capacity") == "deputy" and row["reason"] for row in PUT), "a deputy"
    assert any(row["valid_from"] < "2023-02-01" for row in PUT if "capacity" not in row), "a late entry"


# --- rows ---


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_ordered_and_within_its_dates(part: str) -> None:
    times = [datetime.fromisoformat(row["at"]) for row in PARTS[part]]
    first, last = (datetime.fromisoformat(day).replace(tzinfo=HO_CHI_MINH) for day in SPANS[part])
    assert all(b - a >= timedelta(seconds=1) for a, b in pairwise(times))
    assert all(time.utcoffset() == timedelta(hours=7) for time in times)
    assert first <= times[0] <= times[-1] < last


def test_the_night_is_long_enough() -> None:
    assert len({row["report"]["report_id"] for row in REPORTS}) >= 80


@pytest.mark.parametrize("case", HARD_CASES)
def test_the_sample_holds_the_hard_case(case: str) -> None:
    assert any(row["case"] == case for row in ALL)


def test_no_case_is_left_out_of_the_list_above() -> None:
    assert {row["case"] for row in ALL} == set(HARD_CASES)


def test_every_category_and_every_ward_has_a_report() -> None:
    assert {row["report"]["category"] for row in ACCEPTED} == set(categories())
    assert {ward_of(row).code for row in ACCEPTED} == {w.code for w in WARDS}


def test_every_report_is_of_the_shape_that_intake_takes() -> None:
    for row in ALL_REPORTS:
        Submission.model_validate(row["report"])
        assert row["as"]["role"] in {"officer", "desk", "device"}


def test_every_command_is_of_the_shape_that_its_route_takes_and_all_of_them_are_used() -> None:
    found = [row for row in ALL if row["kind"] == "command"]
    for row in found:
        BODIES[row["command"]].model_validate(row["body"])
        assert row["as"]["role"] in {"desk", "official", "officer"}
    taken = {row["command"] for row in found if row["expected"]["status"] == 201}
    assert taken == set(BODIES)


def test_each_row_says_in_one_sentence_what_it_shows() -> None:
    for row in ALL:
        assert re.fullmatch(r"[A-ZĐ0-9'\"].*\.", row["why"]), row["why"]
        assert not re.search(r"[^A-ZĐ]\. [A-ZĐ]", row["why"]), row["why"]


def test_officers_report_about_their_own_ward() -> None:
    for row in ALL_ACCEPTED:
        if row["as"]["role"] == "officer":
            assert row["as"]["ward"] == ward_of(row).code


def test_officials_are_people_of_the_directory() -> None:
    known = {(person["holder_id"], person["unit_code"], person.get("post")) for person in PEOPLE}
    for row in ALL:
        if row.get("as", {}).get("role") == "official":
            who = row["as"]
            assert (who["subject"], who["ward"], who["post"]) in known


def test_ids_are_unique_but_for_the_messages_that_are_meant_to_repeat() -> None:
    repeated = Counter(row["report"]["report_id"] for row in ALL_REPORTS)
    cases = {row["case"] for row in ALL_REPORTS if repeated[row["report"]["report_id"]] > 1}
    assert cases == {"same-message-thrice", "same-id-other-content"}
    thrice, twice = of_case("same-message-thrice"), of_case("same-id-other-content")
    assert [row["expected"]["status"] for row in thrice] == [201, 200, 200]
    assert all(row["report"] == thrice[0]["report"] for row in thrice)
    assert [row["expected"]["status"] for row in twice] == [201, 409]
    assert twice[0]["report"] != twice[1]["report"]


def test_rows_about_a_report_name_one_that_was_accepted_before() -> None:
    known: set[str] = set()
    for row in ALL:
        if row["kind"] == "report":
            if row["expected"]["status"] == 201:
                known.add(row["report"]["report_id"])
        elif row["kind"] != "directory":
            assert row["report_id"] in known
            assert row.get("body", {}).get("into", row["report_id"]) in known


def test_the_nfd_report_is_decomposed_and_all_other_text_is_composed() -> None:
    decomposed = [row for row in ALL if not all(unicodedata.is_normalized("NFC", t) for t in texts(row))]
    assert [row["case"] for row in decomposed] == ["nfd"]
    report = decomposed[0]["report"]
    for field in ("ward", "description"):
        assert unicodedata.is_normalized("NFD", report[field])
        assert not unicodedata.is_normalized("NFC", report[field])


def test_reporters_are_plainly_made_up() -> None:
    reporters = [row["report"]["reporter"] for row in ALL_REPORTS if "reporter" in row["report"]]
    assert reporters
    assert all("(mẫu)" in r["name"] and re.fullmatch(r"0912 000 \d{3}", r["phone"]) for r in reporters)


# --- what they should come to ---


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
    for row in ALL_ACCEPTED:
        exercise = row["report"].get("exercise", False)
        kinds[row["expected"]["incident"]].add(exercise)
        assert all(name.startswith("log:") == exercise for name in row["expected"]["told"])
    assert all(len(found) == 1 for found in kinds.values())
    assert {True} in kinds.values()


def test_at_least_four_deadlines_pass_unacknowledged() -> None:
    told = [row["expected"]["told"] for row in NIGHT if row["kind"] == "deadlines"]
    assert sum("desk:not_acknowledged" in names for names in told) >= 4


def test_each_purpose_of_a_notice_is_told_of_at_least_once() -> None:
    told = {name.removeprefix("log:") for row in ALL for name in row["expected"].get("told", ())}
    desk = "review vacancy not_acknowledged exhausted closure prominence unit_split"
    leadership = "not_acknowledged not_reviewed"
    assert {f"desk:{purpose}" for purpose in desk.split()} <= told
    assert {f"leadership:{purpose}" for purpose in leadership.split()} <= told
    assert {"duty", "chair:reminder", "chair:still_open", "deputy of chair", "deputy of chair:reminder"} <= told


def test_every_incident_to_which_the_rule_may_apply_is_ended_by_a_row() -> None:
    """One left open would be asked about again and again, until the clock of the last part."""
    label_of: dict[str, str] = {}
    state: dict[str, tuple[str, str]] = {}
    for row in ALL:
        expected = row["expected"]
        if row["kind"] == "report" and expected["status"] == 201:
            label_of[row["report"]["report_id"]] = expected["incident"]
        for report_id in row.get("body", {}).get("reports", ()):
            label_of[report_id] = expected["new_incident"]
        label = label_of.get(row.get("report_id") or row.get("report", {}).get("report_id", ""))
        if label and expected.get("status", 200) in (200, 201):
            before = state.get(label, ("", ""))
            state[label] = (expected.get("decision", before[0]), expected.get("state", before[1]))
    left = {label for label, (decision, ended) in state.items() if decision != "does_not_apply" and ended not in ENDS}
    assert not left


def test_which_incident_a_report_of_the_night_joins_does_not_hang_on_commands() -> None:
    """So the reports alone, sent to other systems, come to the same incidents."""
    anchors: dict[str, Occurrence] = {}
    for row in ACCEPTED:
        report, label = row["report"], row["expected"]["incident"]
        unit, place = ward_of(row), report.get("location")
        occurrence = Occurrence(
            unit=(unit.code, unit.valid_from),
            family=categories()[report["category"]].family,
            exercise=report.get("exercise", False),
            at=min(datetime.fromisoformat(report["occurred_at"]), datetime.fromisoformat(row["at"])),
            point=Point(place["latitude"], place["longitude"]) if place else None,
        )
        found = correlation.find(occurrence, anchors.items(), RULEBOOK.rulebook.correlation)
        assert (found or label) == label
        assert (found is None) == (label not in anchors)
        anchors.setdefault(label, occurrence)

"""A rulebook file before it is adopted: every problem with its line, and what is worth a second look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.rules.lint import Inspection, inspect
from services.escalation.domain.rules.rulebook import AdoptedRulebook, read
from tests.support import RULEBOOK, RULEBOOKS, at, rulebook

NOW = at("2023-01-02 08:00")
LEVEL_3 = "  - {level: 3, deaths: 2, injury_percent: 122, life_threatening: 2, property_vnd: 500000000}\n"
FIRST = read((RULEBOOKS / "2023-01-06.yaml").read_bytes())


def inspected(*changes: tuple[str, str], beside: tuple[AdoptedRulebook, ...] = ()) -> Inspection:
    text = RULEBOOK.text
    for old, new in changes:
        assert old in text, f"the rulebook does not say {old!r}"
        text = text.replace(old, new)
    return inspect(text.encode(), beside, NOW)


def line_of(words: str) -> int:
    return RULEBOOK.text[: RULEBOOK.text.index(words)].count("\n") + 1


def said(found: Inspection) -> list[str]:
    return [f"{remark.line}: {remark}" for remark in found.remarks]


@pytest.mark.parametrize("path", sorted(RULEBOOKS.glob("*.yaml")), ids=lambda p: p.name)
def test_the_rulebooks_that_come_with_the_program_have_no_problem(path: object) -> None:
    found = inspect(path.read_bytes(), (), NOW)  # type: ignore[attr-defined]
    assert (found.problems, found.warnings) == ([], [])
    assert found.book is not None


# --- problems ---


@pytest.mark.parametrize(
    ("change", "at_line", "text"),
    [
        (("minimum_severity: 2", "minimum_severity: 9"), "minimum_severity: 2", "serious_limb.minimum_severity: "),
        (("radius_m: 300", "radius_m: rộng"), "radius_m: 300", "correlation.radius_m: "),
        (("requires: either", "requires: any"), "requires: either", "serious_limb.requires: "),
        (("radius_m: 300", "radios_m: 300"), "radius_m: 300", "correlation.radios_m: Extra inputs"),
        (("level: 3, deaths: 2", "level: 3, deaths: x"), "- {level: 3", "severity.1.deaths: "),
        (
            ("acknowledge_minutes: {4: 5, 3: 10,", "acknowledge_minutes: {4: 5, 3: 0,"),
            "acknowledge_minutes",
            "deadlines.",
        ),
        (("acknowledge_minutes: {4: 5, 3: 10,", "acknowledge_minutes: {4: 5,"), "deadlines:", "deadlines: acknowledge"),
        (("valid_from: 2023-01-06T00:00:00+07:00", "valid_from: 2023-01-06"), "valid_from", "valid_from: "),
        (("valid_to: null", "valid_to: 2020-01-01T00:00:00+07:00"), "version", "valid_to must be later"),
        (("level: 2, deaths: 1", "level: 2, deaths: -5"), "- {level: 2", "severity.0.deaths: "),
        (("levels: [desk, leadership]", "levels: []"), "levels: [desk", "chain.levels: names nobody"),
        (("levels: [desk, leadership]", "levels: [leadership]"), "levels: [desk", "chain.levels: begins with"),
        (("levels: [desk, leadership]", "levels: [desk, desk]"), "levels: [desk", "chain.levels: names desk twice"),
        (("- {level: 3", "- {level: 2"), "severity:\n", "severity: gives level 2 twice"),
    ],
    ids=str,
)
def test_a_problem_is_named_with_its_place_and_its_line(change: tuple[str, str], at_line: str, text: str) -> None:
    found = inspected(change)
    assert found.book is None
    line = 1 if at_line == "version" else line_of(at_line)
    assert any(f"{line}: {text}" in remark for remark in said(found)), said(found)


def test_all_problems_are_told_at_once_in_order_of_lines() -> None:
    found = inspected(
        ("window_minutes: 30", "window_minutes: 0"),
        ("requires: either", "requires: any"),
        ("key: chair", "key: Chủ tịch"),
    )
    assert [r.place for r in found.problems] == ["posts.1.key", "serious_limb.requires", "correlation.window_minutes"]


def test_a_bare_yes_is_explained_since_yaml_takes_it_for_true() -> None:
    (problem,) = inspected(('FIRE: {firecracker: "no"', "FIRE: {firecracker: no")).problems
    assert problem.place == "categories.FIRE.firecracker"
    assert "write it in quotes" in problem.text


def test_a_key_that_is_there_twice_is_a_problem_though_yaml_would_take_the_last() -> None:
    double = '  FIRE: {firecracker: "yes", serious: severity, unknown_harm: "no"}\n  EXPLOSION:'
    found = inspected(("  EXPLOSION:", double))
    assert said(found) == [
        f"{line_of('  EXPLOSION:')}: categories.FIRE: is there already in line {line_of('  FIRE:')}: keep one"
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a: [1\nb: 2", "2: not YAML: "),
        (b"\xff\xfe\x00", "1: not YAML in UTF-8: "),
        (b"a: \xff", "1: not YAML in UTF-8: "),
        (b"valid_from: 2023-13-45T00:00:00+07:00", "1: not YAML in UTF-8: "),
        (b"", "1: "),
        (b"- 1\n- 2", "1: "),
        (b"a: 1\n---\nb: 2", "2: not YAML: "),
        (b"a: &a {b: *a}", "1: "),
        (b"version: 1\ncategories: &a {FIRE: *a}", "1: "),
        (b"&a {<<: *a}", "1: "),
        (b"[" * 1_500, "1: not YAML: is nested too deeply, or in itself"),
    ],
)
def test_what_is_no_rulebook_at_all_is_one_problem(content: bytes, text: str) -> None:
    found = inspect(content, (), NOW)
    assert found.book is None
    assert said(found)[0].startswith(text)


def test_a_file_whose_aliases_multiply_is_looked_through_once() -> None:
    layers = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert inspect(("l0: &l0 [1]\n" + layers).encode(), (), NOW).problems


def test_each_category_of_the_taxonomy_needs_a_rule_or_it_cannot_be_adopted() -> None:
    found = inspected(("  FIRE: {", "  FLOOD: {"))
    assert said(found) == [
        f"{line_of('categories:')}: categories: FIRE (Fire) is missing: give a rule for each category of the taxonomy",
        f"{line_of('  FIRE: {')}: categories.FLOOD: is not in the taxonomy: leave it out",
    ]
    assert found.problems


def test_an_adopted_version_cannot_be_changed_but_may_be_checked_again() -> None:
    assert inspected(beside=(RULEBOOK,)).remarks == ()
    found = inspected(("radius_m: 300", "radius_m: 301"), beside=(RULEBOOK,))
    assert [(r.place, r.line) for r in found.problems] == [("version", line_of("version:"))]


@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>\n \"'#%?01,", max_size=60).map(str.encode))
def test_no_file_is_an_error_of_ours(content: bytes) -> None:
    assert inspect(content, (), NOW).problems


# --- warnings ---


def warnings_of(*changes: tuple[str, str], beside: tuple[AdoptedRulebook, ...] = ()) -> list[str]:
    found = inspected(*changes, beside=beside)
    assert not found.problems, said(found)
    return [str(r) for r in found.warnings]


def test_a_version_in_force_beside_another_says_which_of_them_counts() -> None:
    later = (("2023-01-06.1", "2023-03"), ("valid_from: 2023-01-06T", "valid_from: 2023-03-01T"))
    assert warnings_of(*later, beside=(RULEBOOK, FIRST)) == [
        "warning: valid_from: in force beside 2023-01-06 from 2023-03-01 00:00: there 2023-03 counts",
        "warning: valid_from: in force beside 2023-01-06.1 from 2023-03-01 00:00: there 2023-03 counts",
    ]
    earlier = (("2023-01-06.1", "2023-01"), ("valid_from: 2023-01-06T", "valid_from: 2023-01-03T"))
    until = ("valid_to: null", "valid_to: 2023-02-01T00:00:00+07:00")
    (warning,) = warnings_of(*earlier, until, beside=(RULEBOOK,))
    assert "beside 2023-01-06.1 from 2023-01-06 00:00 to 2023-02-01 00:00: there 2023-01-06.1 counts" in warning


def test_a_time_in_which_no_version_is_in_force_is_pointed_to() -> None:
    before = rulebook(("2023-01-06.1", "2023-01"), ("valid_to: null", "valid_to: 2023-02-01T00:00:00+07:00"))
    later = (("2023-01-06.1", "2023-03"), ("valid_from: 2023-01-06T", "valid_from: 2023-03-01T"))
    (warning,) = warnings_of(*later, beside=(before,))
    assert "nothing is in force from 2023-02-01 00:00 to 2023-03-01 00:00: what occurs then is undet" in warning


def test_a_version_that_begins_in_the_past_is_pointed_to() -> None:
    (warning,) = warnings_of(("2023-01-06.1", "2023-x"), ("valid_from: 2023-01-06T", "valid_from: 2023-01-01T"))
    assert "is past" in warning


def test_a_chain_that_is_longer_than_a_round_is_pointed_to() -> None:
    assert warnings_of(("lapse_minutes: {4: 60,", "lapse_minutes: {4: 14,")) == [
        "warning: chain.lapse_minutes: severity 4: the chain takes 15 minutes, and the acknowledgement lapses after 14"
    ]
    assert warnings_of(("lapse_minutes: {4: 60,", "lapse_minutes: {4: 15,")) == []


def test_more_time_for_what_is_graver_is_pointed_to() -> None:
    assert warnings_of(("acknowledge_minutes: {4: 5,", "acknowledge_minutes: {4: 11,")) == [
        "warning: deadlines.acknowledge_minutes: severity 4 has 11 minutes, more than severity 3"
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("level: 3, deaths: 2", "level: 3, deaths: 1"), "deaths of level 3 is not above that of level 2"),
        ((LEVEL_3, ""), "has no level 3"),
    ],
    ids=str,
)
def test_a_ladder_that_does_not_rise_is_pointed_to(change: tuple[str, str], text: str) -> None:
    assert any(text in warning for warning in warnings_of(change))

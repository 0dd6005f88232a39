"""The rulebook as a file: what it says, which version is in force, and how a bad one is refused."""

import hashlib
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.rules.rulebook import (
    AdoptedRulebook,
    RulebookError,
    check_complete,
    in_force,
    newness,
    read,
)
from shared.taxonomy import categories
from tests.support import NIGHT, RULEBOOK, at, rulebook
from tests.unit.escalation.drawn import instants

TEXT = RULEBOOK.text


def error_of(text: str | bytes) -> str:
    with pytest.raises(RulebookError) as raised:
        read(text.encode() if isinstance(text, str) else text)
    message = str(raised.value)
    assert "\n" not in message, "one line"
    return message


def test_the_packaged_rulebook_cites_its_sentence_and_names_both_posts() -> None:
    rule = RULEBOOK.rulebook
    assert "Bí thư Đảng ủy, Chủ tịch UBND phường, xã đó phải chịu trách nhiệm" in rule.citation.vi
    assert [(p.key, p.title_vi) for p in rule.posts] == [
        ("party_secretary", "Bí thư Đảng ủy"),
        ("chair", "Chủ tịch UBND"),
    ]
    assert set(rule.categories) == set(categories())
    assert RULEBOOK.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('version: "2023-01-06.1"', "version: x y", "version"),
        ("valid_from: 2023-01-06T00:00:00+07:00", "valid_from: 2023-01-06T00:00:00", "valid_from"),
        ("valid_to: null", "valid_to: 2022-01-01T00:00:00+07:00", "valid_to must be later than valid_from"),
        ("requires: either", "requires: perhaps", "serious_limb.requires"),
        ("minimum_severity: 2", "minimum_severity: 5", "serious_limb.minimum_severity"),
        ("{level: 2, deaths: 1", "{level: 2, dead: 1", "severity.0.deaths"),
        ("{firecracker: review, serious: severity, unknown_harm: review}", "{}", "categories.EXPLOSION"),
        ("window_minutes: 30", "window_minutes: 0", "correlation.window_minutes"),
        ("minutes: {4: 5, 3: 10, 2: 15, 1: 30}", "minutes: {4: 5, 3: 10, 2: 15}", "minutes lacks severity [1]"),
        (
            "minutes: {4: 5, 3: 10, 2: 15, 1: 30}",
            "minutes: {4: 5, 3: 10, 2: 15, 1: 9999999}",
            "minutes.1: Input should be",
        ),
        ("lapse_minutes: {4: 60, ", "lapse_minutes: {", "lapse_minutes lacks severity [4]"),
        ("levels: [desk, leadership]", "levels: [desk, somebody]", "chain.levels.1"),
        ("levels: [desk, leadership]", "levels: []", "levels: names nobody: begin with desk"),
        ("levels: [desk, leadership]", "levels: [leadership]", "levels: begins with leadership: begin with desk"),
        ("levels: [desk, leadership]", "levels: [desk, desk]", "levels: names desk twice: each level is asked once"),
        ("{level: 2, deaths: 1,", "{level: 2, deaths: -5,", "severity.0.deaths: Input should be greater than"),
        ("injury_percent: 61", "injury_percent: 0", "severity.0.injury_percent: Input should be greater than"),
        ("life_threatening: 1,", "life_threatening: yes,", "severity.0.life_threatening: Input should be a valid int"),
        ("property_vnd: 100000000}", "property_vnd: 0}", "severity.0.property_vnd: Input should be greater than"),
        ("- {level: 3", "- {level: 2", "severity: gives level 2 twice: give each level once"),
        ("valid_from: 2023-01-06T00:00:00+07:00", "valid_from: 20230106", "valid_from: the year is 1970"),
        ("valid_to: null", "valid_to: 9999-12-31T23:59:59+00:00", "valid_to: the year is 9999"),
        ("unknown_counts_as: 2", "unknown_counts_as: 9", "deadlines.unknown_counts_as"),
        ("key: chair", "key: party_secretary", "posts repeat a key"),
        ("citation:", "quotation:", "citation"),
    ],
)
def test_a_rulebook_that_cannot_be_used_names_the_place(old: str, new: str, place: str) -> None:
    assert old in TEXT
    assert place in error_of(TEXT.replace(old, new))


def test_a_rulebook_to_be_adopted_names_each_category_of_the_taxonomy_once() -> None:
    with pytest.raises(RulebookError, match="look at FIRE, FLOOD"):
        check_complete(read(TEXT.replace("  FIRE: {", "  FLOOD: {").encode()).rulebook)


def test_a_category_younger_than_the_rulebook_is_looked_at_while_its_severity_is_unknown() -> None:
    rule = RULEBOOK.rulebook.of("FLOOD")
    assert (rule.firecracker, rule.serious, rule.unknown_harm) == ("no", "severity", "review")


def test_answers_in_bare_yaml_are_words_and_not_truth_values() -> None:
    assert "categories.FIRECRACKER_SET_OFF.firecracker" in error_of(
        TEXT.replace('firecracker: "yes"', "firecracker: yes")
    )


@pytest.mark.parametrize("content", [b"", b"- 1", b"42", b"null", b"text"], ids=repr)
def test_what_is_yaml_but_no_rulebook_says_so(content: bytes) -> None:
    assert error_of(content).startswith("rulebook: ")


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\xff", b"a: \x00", b"!!python/object:os.system {}"], ids=repr)
def test_what_is_not_yaml_says_so(content: bytes) -> None:
    assert error_of(content).startswith("not YAML: ")


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_content_breaks_the_reading_of_a_rulebook(content: bytes) -> None:
    error_of(content)


# --- which version is in force ---


def version(name: str, start: str, end: str = "null") -> AdoptedRulebook:
    return rulebook(
        ('version: "2023-01-06.1"', f'version: "{name}"'),
        ("valid_from: 2023-01-06T00:00:00+07:00", f"valid_from: {start}T00:00:00+07:00"),
        ("valid_to: null", f"valid_to: {end}" if end == "null" else f"valid_to: {end}T00:00:00+07:00"),
    )


def test_the_rule_is_in_force_from_the_midnight_of_its_announcement_without_end() -> None:
    first = at("2023-01-06 00:00")
    assert in_force([RULEBOOK], first - timedelta(microseconds=1)) is None
    assert in_force([RULEBOOK], first) is RULEBOOK
    assert in_force([RULEBOOK], NIGHT + timedelta(days=3_650)) is RULEBOOK


def test_a_rulebook_ends_before_the_instant_that_it_names() -> None:
    ended = version("ended", "2023-01-06", "2023-01-22")
    assert in_force([ended], at("2023-01-21 23:59")) is ended
    assert in_force([ended], at("2023-01-22 00:00")) is None


@given(instants)
def test_of_two_in_force_the_one_that_began_later_counts(when: object) -> None:
    assert isinstance(when, type(NIGHT))
    older, newer = version("older", "2022-12-15"), version("newer", "2023-01-20")
    found = in_force([newer, older], when)
    expected = newer if when >= at("2023-01-20 00:00") else older if when >= at("2022-12-15 00:00") else None
    assert found is expected


def test_of_two_that_began_together_the_later_name_counts_with_its_numbers_as_numbers() -> None:
    texts = [".1", ".2", ".9", ".10"]
    books = [version(f"2023-01-06{text}", "2023-01-06") for text in texts]
    for any_of in permutations(books):
        found = in_force(any_of, NIGHT)
        assert found is not None
        assert found.rulebook.version == "2023-01-06.10"
    names = ["2023-01-06", "2023-01-06.1", "2023-01-6.1", "2023-2", "2023-10", "moi", "moi-2", "moi-12"]
    assert sorted(names, key=lambda name: newness(version(name, "2023-01-06"))) == names


@given(st.lists(st.from_regex(r"\A[\w.-]{1,8}\Z"), min_size=2, max_size=4, unique=True))
def test_whatever_versions_are_called_one_of_them_is_the_newest(names: list[str]) -> None:
    book = RULEBOOK.rulebook
    books = [RULEBOOK.model_copy(update={"rulebook": book.model_copy(update={"version": n})}) for n in names]
    assert max(books, key=newness) is max(reversed(books), key=newness)


@pytest.mark.parametrize("content", [b"a: &a {b: *a}", b"&a {<<: *a}", b"[" * 1_500], ids=["cycle", "merge", "deep"])
def test_a_file_that_holds_itself_or_is_too_deep_is_refused(content: bytes) -> None:
    error_of(content)

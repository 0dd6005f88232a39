"""Which ward a sender means: exactly one, or candidates, never a guess."""

import unicodedata
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.domain.wards import Unit, candidates, in_force, of_another_time, resolve, search
from shared.text import fold_place
from tests.unit.intake.sample import AT, UNITS

NAMES = [u.name for u in UNITS]


def spellings(name: str) -> list[str]:
    """How people write one ward."""
    bare = unicodedata.normalize("NFD", name.replace("Đ", "D").replace("đ", "d"))
    ascii_only = "".join(c for c in bare if not unicodedata.combining(c))
    return [
        name,
        unicodedata.normalize("NFD", name),
        name.upper(),
        name.lower(),
        ascii_only,
        name.replace("Đ", "\u00d0"),
        f"Phường {name}",
        f"P. {name}",
        f"P.{name}",
        f"xã  {name} ",
        f"PHUONG {ascii_only}".lower(),
    ]


@pytest.mark.parametrize("unit", UNITS, ids=NAMES)
def test_every_usual_spelling_and_the_code_find_the_ward(unit: Unit) -> None:
    for text in [*spellings(unit.name), unit.code, f" {unit.code} "]:
        assert resolve(text, UNITS) == unit, f"{text!r} means {unit.name}"


@given(st.one_of(st.text(max_size=30), st.sampled_from(NAMES).flatmap(lambda n: st.sampled_from(spellings(n)))))
def test_one_ward_is_returned_only_for_its_own_code_or_folded_name(text: str) -> None:
    found = resolve(text, UNITS)
    same = [u for u in UNITS if u.code == text.strip() or fold_place(u.name) == fold_place(text)]
    if isinstance(found, Unit):
        assert same == [found]
    else:
        assert len(same) != 1


@given(st.sampled_from(NAMES), st.integers(0, 20), st.characters())
def test_a_typing_error_never_routes_to_another_ward(name: str, place: int, letter: str) -> None:
    """Names differ by one letter (Quảng Thắng, Quảng Thành, Quảng Thịnh): one letter off must ask, not guess."""
    place %= len(name)
    typed = name[:place] + letter + name[place + 1 :]
    found = resolve(typed, UNITS)
    if isinstance(found, Unit):
        assert found.folded == fold_place(typed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Quảng Th", ["Quảng Thắng", "Quảng Thành", "Quảng Thịnh"]),
        ("quang thang", "Quảng Thắng"),
        ("Quảng Thăngg", ["Quảng Thắng"]),
        ("Dong Vin", ["Đông Vinh"]),
        ("Quận 1", []),
        ("", []),
        ("P.", []),
        ("Đông", ["Đông Thọ", "Đông Vệ", "Đông Sơn", "Đông Cương", "Đông Hương", "Đông Hải"]),
    ],
)
def test_what_is_not_exactly_one_gives_candidates(text: str, expected: str | list[str]) -> None:
    found = resolve(text, UNITS)
    if isinstance(expected, str):
        assert isinstance(found, Unit)
        assert found.name == expected
    else:
        assert isinstance(found, list)
        names = [u.name for u in found]
        assert set(expected) <= set(names)
        assert bool(expected) == bool(names)


def test_two_units_of_one_folded_name_are_both_candidates() -> None:
    twins = [
        Unit("1", date(2021, 2, 1), None, "Đông Hương", "phường"),
        Unit("2", date(2021, 2, 1), None, "Dông Hường", "xã"),
    ]
    assert resolve("Đông Hương", twins) == twins


def test_a_code_that_was_reused_means_the_unit_in_force_on_the_citys_day() -> None:
    """14758 was Đông Thọ until 2025-07-01 began in Vietnam, which is 17:00 UTC of the day before."""
    change = date(2025, 7, 1)
    before = Unit("14758", date(2021, 2, 1), change, "Đông Thọ", "phường")
    after = Unit("14758", change, None, "Hàm Rồng", "phường")
    midnight = datetime(2025, 6, 30, 17, tzinfo=UTC)
    assert resolve("14758", in_force([after, before], midnight - timedelta(seconds=1))) == before
    assert resolve("14758", in_force([after, before], midnight)) == after
    assert in_force([after, before], datetime(2020, 1, 1, tzinfo=UTC)) == []


def test_search_needs_no_diacritics_and_finds_codes() -> None:
    assert [u.name for u in search("ngan", UNITS)] == ["Nam Ngạn"]
    assert [u.name for u in search("147760"[:5], UNITS)] == ["Ba Đình"]
    assert search("", UNITS) == UNITS
    assert len(in_force(UNITS, AT)) == 34


def test_candidates_are_few() -> None:
    assert len(candidates("Quang Thinhh", UNITS)) <= 5


def test_a_ward_of_another_time_is_found_by_its_exact_name_only() -> None:
    first, change = date(2021, 2, 1), date(2025, 1, 1)
    tan_son = Unit("14788", first, change, "Tân Sơn", "phường")
    lam_son = Unit("14773", first, None, "Lam Sơn", "phường")
    units = [tan_son, lam_son]
    assert of_another_time("phường tân sơn", units, change) == tan_son
    assert of_another_time("14788", units, change) == tan_son
    assert of_another_time("Tân Sơn", units, change - timedelta(days=1)) is None
    assert of_another_time("Lan Sơn", units, change) is None
    again = Unit("14999", date(2030, 1, 1), None, "Tân Sơn", "xã")
    assert of_another_time("Tân Sơn", [*units, again], change) == tan_son
    assert of_another_time("Tân Sơn", [again, lam_son], change) == again
    assert of_another_time("Tân Sơn", [*units, again], again.valid_from) is None

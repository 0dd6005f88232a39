"""Cursors: opaque, and what is not one of ours is the caller's error, never ours."""

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.cursor import decode, encode, page
from shared.http.problem import Problem

keys = st.lists(st.integers(-(2**53), 2**53) | st.text(max_size=20), min_size=1, max_size=4)


def refused(cursor: str, length: int = 2) -> Problem:
    with pytest.raises(Problem) as raised:
        decode(cursor, length)
    return raised.value


@given(keys)
def test_a_cursor_gives_back_the_key_it_was_made_from(key: list[int | str]) -> None:
    cursor = encode(key)
    assert decode(cursor, len(key)) == key
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# "), "fit for an address"


@given(keys, st.integers(1, 6))
def test_the_cursor_of_another_list_is_refused(key: list[int | str], length: int) -> None:
    if length != len(key):
        assert refused(encode(key), length).status == 422


@pytest.mark.parametrize("cursor", ["", "x", "????", "ế", "bnVsbA", "MQ", "W10", "eyJhIjoxfQ", "[[[", "=", "A" * 5_000])
def test_what_is_no_cursor_is_422_and_names_the_parameter(cursor: str) -> None:
    problem = refused(cursor)
    assert problem.status == 422
    assert problem.errors[0]["pointer"] == "#/cursor"


@given(st.text(max_size=50) | st.binary(max_size=50).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_no_text_at_all_breaks_a_cursor(cursor: str) -> None:
    try:
        assert len(decode(cursor, 2)) == 2
    except Problem as problem:
        assert problem.status == 422


# --- short lists in memory ---

rows = st.sets(st.text("abc", max_size=3)).map(sorted)


@given(rows, st.integers(1, 5))
def test_pages_of_a_list_hold_each_row_once_in_order(items: list[str], limit: int) -> None:
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(len(items) + 1):
        part, cursor = page(items, lambda row: [row], limit, cursor)
        assert len(part) <= limit
        seen += part
        if cursor is None:
            break
    assert seen == items


@pytest.mark.parametrize("key", [[1], [None], [["a"]], [{}], ["a", "b"]], ids=repr)
def test_a_key_of_other_kinds_is_422(key: list[object]) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")
    with pytest.raises(Problem) as raised:
        page(["a", "b", "c"], lambda row: [row], 2, cursor)
    assert raised.value.status == 422

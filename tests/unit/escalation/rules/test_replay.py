"""Replay: a decision computed again from its inputs is equal byte for byte, or each difference is named."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.rules.accountability import decide
from services.escalation.domain.rules.record import record_bytes
from services.escalation.domain.rules.replay import Replayed, replay
from tests.support import RULEBOOK, inputs, rulebook

INPUTS = inputs()
STORED = INPUTS.model_dump(mode="json")
RECORD = record_bytes(decide(INPUTS, RULEBOOK))
BOOKS = {RULEBOOK.rulebook.version: RULEBOOK}


def replayed(record: bytes = RECORD, stored: Any = STORED, **books: Any) -> Replayed:
    return replay("qd-1", stored, record, books or BOOKS)


def test_what_was_recorded_is_what_is_computed() -> None:
    found = replayed()
    assert found.equal
    assert found.computed == orjson.loads(RECORD)


def test_without_a_rulebook_in_force_it_is_computed_without_one() -> None:
    without = INPUTS.model_copy(update={"rulebook_version": None})
    record = record_bytes(decide(without, None))
    assert replay("qd-1", without.model_dump(mode="json"), record, {}).equal


def test_a_name_that_was_changed_in_the_record_is_named_with_its_place() -> None:
    found = replayed(RECORD.replace(b'"holder_id":"mau-bi-thu"', b'"holder_id":"mau-ai-do"'))
    assert not found.equal
    assert found.differences == (
        'parties[0].accountable.holder_id: recorded "mau-ai-do", computed "mau-bi-thu"',
        'parties[0].present.holder_id: recorded "mau-ai-do", computed "mau-bi-thu"',
    )


def test_a_field_that_was_taken_out_or_put_in_is_named() -> None:
    record = orjson.loads(RECORD)
    del record["limb"]
    record["note"] = {"x": 1}
    found = replayed(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
    assert set(found.differences) == {
        'limb: recorded nothing, computed "firecracker"',
        'note: recorded {"x":1}, computed nothing',
    }


def test_a_list_of_another_length_is_shown_whole() -> None:
    record = orjson.loads(RECORD) | {"reasons": ["x"]}
    (difference,) = replayed(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).differences
    assert difference.startswith('reasons: recorded ["x"], computed ["firecracker limb')


def test_the_same_in_other_bytes_is_not_equal_since_the_ledger_has_the_hash_of_bytes() -> None:
    pretty = orjson.dumps(orjson.loads(RECORD), option=orjson.OPT_INDENT_2)
    assert replayed(pretty).differences == ("the record says the same in other bytes",)


def test_true_is_not_one() -> None:
    record = orjson.loads(RECORD) | {"exercise": 0}
    (difference,) = replayed(orjson.dumps(record, option=orjson.OPT_SORT_KEYS)).differences
    assert difference == "exercise: recorded 0, computed false"


def test_a_rulebook_whose_text_was_changed_behind_its_version_is_found() -> None:
    changed = rulebook(("minimum_severity: 2", "minimum_severity: 3"))
    found = replay("qd-1", STORED, RECORD, {RULEBOOK.rulebook.version: changed})
    assert [d.split(":")[0] for d in found.differences] == ["rulebook.sha256"]


@pytest.mark.parametrize(
    ("stored", "books", "said"),
    [
        (STORED, {"khác": RULEBOOK}, "rulebook 2023-01-06.1, which it was made by, is not among the adopted"),
        (STORED | {"unit": None}, BOOKS, "the stored inputs cannot be read: unit: "),
        (None, BOOKS, "the stored inputs cannot be read: "),
    ],
)
def test_what_cannot_be_computed_is_not_equal_and_says_why(stored: Any, books: Any, said: str) -> None:
    found = replay("qd-1", stored, RECORD, books)
    assert found.computed is None
    assert not found.equal
    assert found.differences[0].startswith(said)


@given(st.binary(max_size=40))
def test_no_record_is_an_error_of_ours(record: bytes) -> None:
    assert not replayed(record).equal

"""Bodies: RFC 8785 byte for byte, without personal values, with columns that follow from them."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain.canonical import CanonicalError, Json, encode_canonical, make_entry, separate
from services.ledger.domain.projection import ProjectionError, project, short_kind
from services.ledger.domain.verify import body_error
from shared.commitment import Committed, commitment
from shared.events import DecisionMade, DecisionMadeData, schemas
from tests.unit.ledger.sample import AT, ORIGIN, SALT, report

keys = st.text(st.characters(max_codepoint=0x7F), max_size=8)
values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(keys, values, max_size=6))
def test_bytes_are_those_of_rfc_8785(value: dict[str, Json]) -> None:
    """A general implementation of RFC 8785 writes the same bytes."""
    assert separate(value, "", []) == value
    assert encode_canonical(value) == rfc8785.dumps(value)  # pyright: ignore[reportArgumentType]


@given(st.dictionaries(keys, values, max_size=6))
def test_offline_verifier_agrees_on_what_is_canonical(value: dict[str, Json]) -> None:
    """The verifier, which has only the standard library, takes the same bytes for canonical."""
    body = encode_canonical(value | {"v": 0})
    assert body_error(body, ORIGIN) == "the body is incomplete: v: expected 1, found 0"
    assert body_error(b" " + body, ORIGIN) == "the body is not canonical JSON"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"score": 0.5}, "score: float"),
        ({"a": [{"b": 2**53}]}, "a.0.b: 9007199254740992 is not below 2\\^53"),
        ({"phường": 1}, "key 'phường' is not ASCII"),
        ({"a": "\ud800"}, "surrogates"),
    ],
)
def test_what_has_no_one_spelling_is_refused(value: dict[str, Any], why: str) -> None:
    """Floats, integers that JavaScript rounds, and keys whose order depends on the encoding are refused."""
    with pytest.raises(CanonicalError, match=why):
        encode_canonical({"value": separate(value, "", [])})


@pytest.mark.parametrize("body", [b"1", b"{", b"\xff", b'{"a":1.5}', b'{"a":NaN}', b'{"b":1,"a":2}', b"[" * 9999])
def test_offline_verifier_refuses_other_bytes(body: bytes) -> None:
    """Whatever the bytes, the verifier answers and does not fail."""
    assert body_error(body, ORIGIN)


def test_no_event_type_carries_what_a_body_cannot() -> None:
    """Every event type can become an entry: no field of any is a float, every name is ASCII."""

    def unfit(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, dict):
            if schema.get("type") == "number" or not all(name.isascii() for name in schema.get("properties", {})):
                yield path
            for name, part in schema.items():
                yield from unfit(part, f"{path}/{name}")
        elif isinstance(schema, list):
            for part in schema:
                yield from unfit(part, path)

    assert [place for kind, schema in schemas().items() for place in unfit(schema, kind)] == []


def test_personal_text_leaves_the_body() -> None:
    """Value and salt of a committed field go aside; the body has the commitment under the field's path."""
    found = make_entry(report(1, "nhà ông Mẫu"), ORIGIN, AT)
    committed = Committed(salt=SALT, value="nhà ông Mẫu")
    body = json.loads(found.body)
    assert [(private.field, private.committed) for private in found.private] == [("description", committed)]
    assert body["commit"] == {"description": commitment(report(1).id, "description", committed)}
    assert "description" not in body["data"]
    assert "Mẫu".encode() not in found.body and SALT.encode() not in found.body


def decision(record: dict[str, Any]) -> DecisionMade:
    data = DecisionMadeData(decision_id="d-1", previous=None, record=record)
    return DecisionMade(id="e-1", source="/trucban/escalation", subject="i-1", time=AT, data=data)


def test_personal_text_is_found_at_any_depth() -> None:
    """A committed value deep in a decision's record leaves too; a list keeps its places."""
    secret = {"salt": SALT, "value": "Đỗ Văn Mẫu"}
    found = make_entry(decision({"parties": [{"note": secret}, {"post": "chair"}], "said": [secret, 2]}), ORIGIN, AT)
    body = json.loads(found.body)
    assert body["data"]["record"] == {"parties": [{}, {"post": "chair"}], "said": [None, 2]}
    assert list(body["commit"]) == ["record.parties.0.note", "record.said.0"]
    assert {private.field for private in found.private} == set(body["commit"])


def test_record_of_a_decision_is_kept_as_it_is() -> None:
    """What is unknown (null) in a decision's record stays null: replay compares it byte for byte."""
    record = {"limb": None, "holders": [None, {"since": None}]}
    assert json.loads(make_entry(decision(record), ORIGIN, AT).body)["data"]["record"] == record


def test_columns_follow_from_the_body() -> None:
    """The searchable columns are computed from the very bytes, so an auditor computes the same."""
    found = make_entry(report(3), ORIGIN, AT + timedelta(microseconds=5))
    assert found.columns == project(json.loads(found.body), ORIGIN)
    assert found.columns.kind == "report.received"
    assert found.columns.officials == ("mau-14776-bi-thu", "mau-14776-chu-tich")
    assert found.columns.recorded_at == AT + timedelta(microseconds=5)
    assert body_error(found.body, ORIGIN) is None


def test_times_are_utc_whatever_the_offset() -> None:
    """The same instant gives the same text: an offset is not evidence."""
    local = AT.astimezone(timezone(timedelta(hours=7)))
    event = report(1).model_copy(update={"time": local})
    assert make_entry(event, ORIGIN, local).body == make_entry(report(1), ORIGIN, AT).body
    with pytest.raises(CanonicalError, match="no date in UTC"):
        make_entry(report(1), ORIGIN, datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=7))))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"v": 2}, "v: expected 1"),
        ({"log": "other"}, "log: expected"),
        ({"event_id": ""}, "event_id: missing"),
        ({"ward": 14776}, "ward: expected text"),
        ({"occurred_at": "Tết"}, "occurred_at: 'Tết' is not"),
        ({"recorded_at": "2023-01-22T00:30:00+07:00"}, "not in UTC"),
        ({"officials": "mau"}, "officials"),
        ({"officials": ["mau", "mau"]}, "each once"),
        ({"officials": [1]}, "each once"),
    ],
)
def test_incomplete_body(change: dict[str, Any], why: str) -> None:
    """A body without what every entry must have is named by its member."""
    body = json.loads(make_entry(report(1), ORIGIN, AT).body) | change
    with pytest.raises(ProjectionError, match=why):
        project(body, ORIGIN)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("vn.trucban.report.received.v1", "report.received"),
        ("report.received.v12", "report.received"),
        ("report.received", "report.received"),
        ("report", "report"),
        ("v1", "v1"),
    ],
)
def test_kind_in_each_spelling(text: str, kind: str) -> None:
    """A query may name a kind with or without prefix and version."""
    assert short_kind(text) == kind

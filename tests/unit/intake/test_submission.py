"""What a sender may say in one report, and how what is wrong is told."""

import unicodedata
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.intake.api.body import submission_of
from services.intake.domain.submission import (
    CLOCK_LIMIT,
    CLOCK_TOLERANCE,
    is_clock_ahead,
    normalize_phone,
    time_error,
)
from shared.http.problem import Problem
from shared.taxonomy import categories
from tests.unit.intake.sample import AT, body, submission

BAD: list[tuple[str, Any, str]] = [
    ("report_id", "", "#/report_id"),
    ("report_id", "a" * 65, "#/report_id"),
    ("report_id", "có dấu", "#/report_id"),
    ("report_id", "line\n", "#/report_id"),
    ("report_id", 7, "#/report_id"),
    ("category", "PROTEST", "#/category"),
    ("category", "fire", "#/category"),
    ("ward", " ", "#/ward"),
    ("ward", "a" * 101, "#/ward"),
    ("ward", "Ba\0Đình", "#/ward"),
    ("occurred_at", "2023-01-21T23:55:00", "#/occurred_at"),
    ("occurred_at", "2023-01-21", "#/occurred_at"),
    ("occurred_at", "1674320000", "#/occurred_at"),
    ("occurred_at", 1674320000, "#/occurred_at"),
    ("occurred_at", "2023-02-30T00:00:00Z", "#/occurred_at"),
    ("occurred_at", "1999-12-31T23:59:59Z", "#/occurred_at"),
    ("occurred_at", "9999-12-31T23:59:59-12:00", "#/occurred_at"),
    ("captured_at", "2023-01-21T23:55:00", "#/captured_at"),
    ("captured_at", "0001-01-01T00:00:00+14:00", "#/captured_at"),
    ("received_at", "9999-12-31T23:59:59Z", "#/received_at"),
    ("description", "x" * 4_001, "#/description"),
    ("description", "a\0b", "#/description"),
    ("description", "a\x1b[31m", "#/description"),
    ("description", ["a"], "#/description"),
    ("location", {"latitude": 91, "longitude": 0}, "#/location/latitude"),
    ("location", {"latitude": 1}, "#/location/longitude"),
    ("location", {"latitude": True, "longitude": 0}, "#/location/latitude"),
    ("location", {"latitude": float("nan"), "longitude": 0}, "#/location/latitude"),
    ("location", {"latitude": 1, "longitude": float("inf")}, "#/location/longitude"),
    ("location", {"latitude": 1, "longitude": 1, "altitude": 1}, "#/location/altitude"),
    ("harm", {"deaths": -1}, "#/harm/deaths"),
    ("harm", {"deaths": True}, "#/harm/deaths"),
    ("harm", {"deaths": 1.5}, "#/harm/deaths"),
    ("harm", {"deaths": 10**30}, "#/harm/deaths"),
    ("harm", {"dead": 1}, "#/harm/dead"),
    ("harm", [], "#/harm"),
    ("firecracker", {"sound": True}, "#/firecracker/sound"),
    ("evidence", [{"sha256": "AB" * 32, "bytes": 1, "media_type": "image/png"}], "#/evidence/0/sha256"),
    ("evidence", [{"sha256": "ab" * 32, "bytes": 1, "media_type": "image"}], "#/evidence/0/media_type"),
    ("evidence", [{"sha256": "ab" * 32, "bytes": 0, "media_type": "image/png"}], "#/evidence/0/bytes"),
    ("reporter", {"name": "a\0"}, "#/reporter/name"),
    ("reporter", {"email": "x"}, "#/reporter/email"),
    ("exercise", "perhaps", "#/exercise"),
    ("on_behalf_of", {"role": "mayor", "subject": "x"}, "#/on_behalf_of/role"),
    ("on_behalf_of", {"role": "officer", "subject": "x\0"}, "#/on_behalf_of/subject"),
    ("crowd_size", 100, "#/crowd_size"),
    ("a/b~c", 1, "#/a~1b~0c"),
]


@pytest.mark.parametrize(("field", "value", "pointer"), BAD)
def test_a_wrong_field_is_named(field: str, value: Any, pointer: str) -> None:
    with pytest.raises(Problem) as caught:
        submission_of(body(**{field: value}))
    assert caught.value.status == 422
    assert [e["pointer"] for e in caught.value.errors] == [pointer]
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("field", ["report_id", "category", "ward", "occurred_at"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(Problem) as caught:
        submission_of(body(**{field: None}))
    assert [e["pointer"] for e in caught.value.errors] == [f"#/{field}"]


def test_an_unknown_category_is_told_which_there_are() -> None:
    with pytest.raises(Problem) as caught:
        submission_of(body(category="PROTEST"))
    assert all(code in caught.value.detail for code in categories())


@pytest.mark.parametrize("category", ["PUBLIC_ORDER_HARM", "OTHER_SERIOUS"])
@pytest.mark.parametrize("harm", [None, {}, {"deaths": None}])
def test_a_catch_all_category_needs_a_known_harm(category: str, harm: dict[str, Any] | None) -> None:
    with pytest.raises(Problem) as caught:
        submission_of(body(category=category, harm=harm))
    assert [e["pointer"] for e in caught.value.errors] == ["#/harm"]
    assert submission_of(body(category=category, harm={"deaths": 0})).harm is not None


@pytest.mark.parametrize("value", [7, "text", [], None, True])
def test_a_report_is_an_object(value: Any) -> None:
    with pytest.raises(Problem, match="a report is a JSON object"):
        submission_of(value)


def test_rejected_values_are_not_repeated() -> None:
    """They may be a person's words: only the category's code, which is none of theirs, is."""
    with pytest.raises(Problem) as caught:
        submission_of(body(reporter={"name": "Nguyễn\0Văn Bí Mật"}, description="Bí Mật" * 1000))
    assert "Mật" not in str(caught.value.body())


def test_text_is_kept_in_nfc() -> None:
    typed = unicodedata.normalize("NFD", "Nổ pháo ở Phố Đội Cung")
    assert submission(description=typed).description == "Nổ pháo ở Phố Đội Cung"


def test_a_description_may_have_lines_and_four_thousand_letters() -> None:
    text = "dòng một\n\tdòng hai\r\n" + "ổ" * 3_900
    assert submission(description=text).description == text
    assert submission(description="ổ" * 4_000).description == "ổ" * 4_000


def test_the_senders_offset_is_kept() -> None:
    assert submission().occurred_at.isoformat() == "2023-01-21T23:55:00+07:00"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("0912 345 678", "+84912345678"),
        ("+84 912 345 678", "+84912345678"),
        ("84912345678", "+84912345678"),
        ("(0237) 3852.456", "+842373852456"),
        ("113", "113"),
        ("114", "114"),
        ("115", "115"),
        ("0912 345", "0912 345"),
        ("+1 202 555 0100", "+1 202 555 0100"),
        ("hàng xóm", "hàng xóm"),
        ("٠٩١٢٣٤٥٦٧٨", "٠٩١٢٣٤٥٦٧٨"),
    ],
)
def test_phone_numbers_are_e164_where_that_is_certain(typed: str, kept: str) -> None:
    assert normalize_phone(typed) == kept


@given(st.text(max_size=40))
def test_a_phone_number_is_normal_after_one_pass_or_left_as_typed(typed: str) -> None:
    once = normalize_phone(typed)
    assert normalize_phone(once) == once
    assert once == typed or (once.startswith("+84") and once[3:].isascii() and once[3:].isdigit())


def test_a_clock_two_days_ahead_is_flagged_and_one_far_ahead_refused() -> None:
    assert not is_clock_ahead(AT + CLOCK_TOLERANCE, AT)
    assert is_clock_ahead(AT + CLOCK_TOLERANCE + timedelta(seconds=1), AT)
    assert is_clock_ahead(AT + timedelta(days=2), AT)
    assert time_error(AT + timedelta(days=2), AT) is None
    assert time_error(AT + CLOCK_LIMIT + timedelta(seconds=1), AT) is not None
    assert time_error(AT - timedelta(days=7000), AT) is None


def test_models_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        submission(unknown=1)

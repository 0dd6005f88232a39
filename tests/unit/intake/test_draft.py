"""From a submission to an event: who may send it, what it carries, and what it must never carry."""

import json
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.intake.domain.draft import compute_content_mac, draft_report, reporter_json
from shared.commitment import Committed, commitment
from shared.events import encode, parse
from shared.http.identity import ROLES, Principal, Role
from shared.http.problem import Problem
from tests.unit.intake.sample import AT, DESK, OFFICER, UNITS, body, context, drafted, submission

KEY = b"k" * 32
OTHER: dict[str, Any] = {
    "report_id": "cb-07-0002",
    "category": "EXPLOSION",
    "ward": "Trường Thi",
    "neighbourhood": "Phố Hàng Than",
    "location": {"latitude": 19.808, "longitude": 105.776, "accuracy_m": 12},
    "occurred_at": "2023-01-21T23:55:01+07:00",
    "captured_at": "2023-01-21T23:56:01+07:00",
    "description": "Nghe tiếng pháo nổ liên tiếp ở cuối phố",
    "harm": {"deaths": 0, "injured": 2},
    "firecracker": {"explosion_sound": True},
    "evidence": [],
    "reporter": {"name": "Người báo tin (mẫu)", "phone": "0912 345 679"},
    "exercise": True,
}
ADMIN = Principal("quan-tri", "admin")


def mac(submitter: str = "cb-07", key: bytes = KEY, **changes: Any) -> bytes:
    return compute_content_mac(submission(**changes), submitter, key)


@pytest.mark.parametrize("field", OTHER)
def test_a_change_of_any_field_changes_the_content_hash(field: str) -> None:
    assert mac(**{field: OTHER[field]}) != mac()


@given(st.sets(st.sampled_from(sorted(OTHER))), st.sets(st.sampled_from(sorted(OTHER))))
def test_content_hashes_are_equal_only_for_equal_content(some: set[str], others: set[str]) -> None:
    first, second = mac(**{f: OTHER[f] for f in some}), mac(**{f: OTHER[f] for f in others})
    assert (first == second) == (some == others)


def test_the_content_hash_is_of_the_sender_and_keyed() -> None:
    assert mac("cb-08") != mac()
    assert mac(key=b"j" * 32) != mac()


def test_spelling_does_not_change_the_content_hash() -> None:
    """The same instant with another offset, NFD for NFC, a phone number with other spaces, defaults left out."""
    reporter = {"name": "Người báo tin (mẫu)", "phone": "+84 912345678"}
    assert mac(occurred_at="2023-01-21T16:55:00Z", reporter=reporter, exercise=None) == mac()


def test_how_a_report_came_in_is_not_its_content() -> None:
    behalf = {"role": "officer", "subject": "cb-07", "ward": "14776"}
    assert mac(received_at="2023-01-22T00:00:00+07:00", on_behalf_of=behalf) == mac()


def test_the_event_says_what_was_sent() -> None:
    event = drafted().event
    data = event.data
    assert encode(parse(encode(event))) == encode(event)
    assert (event.time, data.received_at, event.subject) == (AT, AT, "cb-07-0001")
    assert data.unit is not None
    assert (data.unit.code, data.unit.valid_from.isoformat(), data.unit.name) == ("14776", "2021-02-01", "Ba Đình")
    assert data.from_source.model_dump() == {"kind": "desk", "subject": "truc-ban"}
    assert data.description is not None
    assert data.description.value == "Nghe tiếng pháo nổ liên tiếp ở đầu phố"
    assert data.location is not None
    assert json.loads(data.location.value) == {"latitude": 19.807, "longitude": 105.776, "accuracy_m": 12}
    assert not data.clock_ahead


def test_every_committed_value_has_a_salt_of_its_own() -> None:
    data = drafted().event.data
    committed = [c for c in (data.neighbourhood, data.location, data.description) if c is not None]
    assert len({c.salt for c in committed}) == 3


@given(
    st.text("abcdeghiklmnopqrstuvxyăâđêôơư ", min_size=8, max_size=40).filter(lambda t: t.strip() == t),
    st.from_regex(r"0[35789][0-9]{8}", fullmatch=True),
)
def test_the_reporter_is_in_no_event(name: str, phone: str) -> None:
    """The event has a commitment only, which proves name and phone to whoever holds them and the salt."""
    ready = drafted(reporter={"name": name + " (mẫu)", "phone": phone}, description="x", neighbourhood="y")
    sent = encode(ready.event).decode()
    assert name + " (mẫu)" not in sent
    assert phone[1:] not in sent
    assert ready.reporter is not None
    assert ready.reporter_salt is not None
    opened = Committed(salt=ready.reporter_salt, value=reporter_json(ready.reporter))
    assert ready.event.data.reporter_commitment == commitment(ready.event.id, "reporter", opened)
    assert ready.reporter_salt not in sent


def test_a_clock_that_is_ahead_is_flagged() -> None:
    two_days_ahead = (AT + timedelta(days=2)).isoformat()
    ready = drafted(occurred_at=two_days_ahead, captured_at=None)
    assert ready.event.data.clock_ahead
    assert ready.event.data.occurred_at == AT + timedelta(days=2)


@pytest.mark.parametrize("field", ["occurred_at", "captured_at"])
def test_a_time_far_ahead_is_refused(field: str) -> None:
    with pytest.raises(Problem) as caught:
        draft_report(submission(**{field: (AT + timedelta(days=31)).isoformat()}), DESK, UNITS, context())
    assert caught.value.errors[0]["pointer"] == f"#/{field}"


def test_an_ambiguous_ward_is_refused_with_candidates() -> None:
    with pytest.raises(Problem) as caught:
        drafted(ward="Quảng Th")
    (error,) = caught.value.errors
    assert (caught.value.status, error["pointer"]) == (422, "#/ward")
    assert {c["name"] for c in error["candidates"]} == {"Quảng Thắng", "Quảng Thành", "Quảng Thịnh"}


def test_a_ward_that_has_ended_is_refused_with_its_last_day_and_no_ward_of_a_like_name() -> None:
    tan_son = next(u for u in UNITS if u.name == "Tân Sơn")
    units = [replace(u, valid_to=date(2023, 1, 10)) if u is tan_son else u for u in UNITS]
    with pytest.raises(Problem) as caught:
        draft_report(submission(ward="P. Tân Sơn"), DESK, units, context())
    (error,) = caught.value.errors
    assert error["detail"].startswith("Tân Sơn (14788) ended on 2023-01-10, and it happened on 2023-01-21: ")
    assert error["candidates"] == []


def test_a_time_before_any_ward_was_in_force_is_said_so() -> None:
    with pytest.raises(Problem, match="in force on 2020-05-01"):
        drafted(occurred_at="2020-05-01T10:00:00+07:00", captured_at=None)


@pytest.mark.parametrize("role", ROLES)
def test_who_may_submit(role: Role) -> None:
    caller = Principal("ai-do", role, ward="14776")
    if role in {"officer", "device", "desk", "admin"}:
        assert drafted(caller).event.data.from_source.kind == role
    else:
        with pytest.raises(Problem) as caught:
            drafted(caller)
        assert caught.value.status == 403


@pytest.mark.parametrize("role", ["officer", "device"])
def test_a_token_for_another_ward_is_refused_by_name(role: Role) -> None:
    with pytest.raises(Problem) as caught:
        drafted(Principal("cb-07", role, ward="14764"))
    assert caught.value.status == 403
    assert "14776 Ba Đình" in caught.value.detail
    assert "14764" in caught.value.detail


def test_an_officer_without_a_ward_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        drafted(Principal("cb-07", "officer"))
    assert caught.value.status == 403


@pytest.mark.parametrize("role", [r for r in ROLES if r != "admin"])
@pytest.mark.parametrize(
    "field", [{"received_at": AT.isoformat()}, {"on_behalf_of": {"role": "desk", "subject": "ai-do"}}]
)
def test_only_an_administrator_imports_for_others(role: Role, field: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        drafted(Principal("cb-07", role, ward="14776"), **field)
    assert caught.value.status == 403
    assert next(iter(field)) in caught.value.detail


def test_an_import_records_the_true_source_and_time() -> None:
    behalf = {"role": "officer", "subject": "cb-07", "ward": "14776"}
    received_at = AT + timedelta(hours=1)
    imported = drafted(ADMIN, on_behalf_of=behalf)
    assert imported.event.data.from_source.model_dump() == {"kind": "officer", "subject": "cb-07"}
    both = body(on_behalf_of=behalf, received_at=received_at.isoformat())
    ready = draft_report(submission(**both), ADMIN, UNITS, context())
    assert (ready.event.data.received_at, ready.event.time) == (received_at, received_at)
    direct = draft_report(submission(), OFFICER, UNITS, context())
    assert direct.content_mac == ready.content_mac, "sent again by the officer it is a duplicate"


def test_an_import_for_an_officer_of_another_ward_is_refused() -> None:
    with pytest.raises(Problem, match="not yours"):
        drafted(ADMIN, on_behalf_of={"role": "officer", "subject": "cb-07", "ward": "14764"})


def test_equal_means_give_equal_drafts() -> None:
    assert drafted(DESK) == drafted(DESK)

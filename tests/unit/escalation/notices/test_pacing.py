"""How fast a person is told, and when several notices become one message."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.notices.pacing import (
    Limits,
    Rate,
    Waiting,
    contact_key,
    gateway_key,
    host_of,
    scheme,
    share,
)
from tests.support import NIGHT

CONTACT = Rate(3, timedelta(seconds=30))
GATEWAY = Rate(20, timedelta(milliseconds=50))
LIMITS = Limits(CONTACT, GATEWAY, messages=64, per_host=16)
rates = st.builds(Rate, st.integers(1, 5), st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=1)))
seconds = st.floats(0, 90).map(lambda s: timedelta(seconds=s))


def waiting(number: int, contact: str | None = "chu-tich", **more: Any) -> Waiting:
    fields: dict[str, Any] = {"host": "json://cong", "gateway": "json:cong"} | more
    return Waiting(delivery_id=f"d{number:03}", contact=contact, **fields)


def sizes(*found: tuple[Waiting, ...]) -> list[int]:
    return [len(message) for message in found]


# --- a rate ---


@given(rates, st.lists(seconds, min_size=1, max_size=60))
def test_in_no_stretch_of_time_more_goes_than_the_rate_allows(rate: Rate, steps: list[timedelta]) -> None:
    now, allowed, gone = NIGHT, NIGHT, []
    for step in steps:
        now += step / 10
        if rate.free(allowed, now):
            allowed = rate.charged(allowed, now)
            gone.append(now)
    for first, start in enumerate(gone):
        for last in range(first, len(gone)):
            assert last - first + 1 <= rate.burst + (gone[last] - start) / rate.every + 1e-6


@given(rates, st.integers(0, 20))
def test_who_comes_when_told_to_is_let_through(rate: Rate, before: int) -> None:
    allowed = NIGHT
    for _ in range(before):
        if rate.free(allowed, NIGHT):
            allowed = rate.charged(allowed, NIGHT)
    at = rate.next(allowed, NIGHT)
    assert at >= NIGHT
    assert rate.free(allowed, at) > 0
    assert (rate.free(allowed, NIGHT) > 0) == (at == NIGHT)


def test_a_clock_that_was_set_back_blocks_nobody_for_longer_than_a_burst() -> None:
    far_ahead = NIGHT + timedelta(days=900)
    assert CONTACT.next(far_ahead, NIGHT) == NIGHT + CONTACT.every


jumps = st.one_of(st.just(timedelta(0)), st.timedeltas(timedelta(days=-2), timedelta(days=2)))


@given(rates, rates, st.lists(st.tuples(seconds, jumps, st.integers(0, 8)), max_size=20))
def test_however_the_clock_jumped_a_message_goes_within_one_turn_of_its_contact_and_of_its_server(
    contact: Rate, gateway: Rate, past: list[tuple[timedelta, timedelta, int]]
) -> None:
    """The last entry of `past` is the last jump. After it the message comes whenever it is told to."""
    limits = Limits(contact, gateway, messages=64, per_host=64)
    now, allowed = NIGHT, dict[str, datetime]()
    for step, jump, count in past:
        now += step + jump
        allowed |= share([waiting(n, contact=f"c{n % 2}") for n in range(count)], allowed, now, limits, {}).charged
    last_jump = now
    row = waiting(0, contact="c0")
    for _ in range(4):
        shares = share([row], allowed, now, limits, {})
        allowed |= shares.charged
        if shares.messages:
            break
        now = shares.postponed[row.delivery_id]
    else:
        raise AssertionError("it is put off again and again")
    assert now - last_jump <= contact.burst * contact.every + gateway.burst * gateway.every


# --- what shares a message ---


def test_thirty_at_once_are_three_messages_and_then_one_that_has_the_rest() -> None:
    rows = [waiting(n) for n in range(30)]
    first = share(rows, {}, NIGHT, LIMITS, {})
    assert sizes(*first.messages) == [1, 1, 1]
    assert set(first.postponed.values()) == {NIGHT + timedelta(seconds=30)}
    rest = [row for row in rows if row.delivery_id in first.postponed]
    then = share(rest, first.charged, NIGHT + timedelta(seconds=30), LIMITS, {})
    assert sizes(*then.messages) == [27]
    assert not then.postponed


def test_while_nothing_was_held_back_what_comes_goes_alone() -> None:
    allowed = share([waiting(1)], {}, NIGHT, LIMITS, {}).charged
    assert sizes(*share([waiting(2), waiting(3)], allowed, NIGHT, LIMITS, {}).messages) == [1, 1]


def test_who_may_get_one_more_message_gets_all_of_it_now() -> None:
    allowed = share([waiting(1)], {}, NIGHT, LIMITS, {}).charged
    assert sizes(*share([waiting(n) for n in range(2, 9)], allowed, NIGHT, LIMITS, {}).messages) == [7]


def test_what_was_tried_before_goes_as_it_was_and_is_not_charged_to_its_contact_again() -> None:
    full = {"chu-tich": NIGHT + 3 * CONTACT.every}
    again = [waiting(1, message="d001"), *(waiting(n, message="goi") for n in (2, 3)), waiting(4)]
    shares = share(again, full, NIGHT, LIMITS, {})
    assert [[w.delivery_id for w in message] for message in shares.messages] == [["d001"], ["d002", "d003"]]
    assert "chu-tich" not in shares.charged
    assert list(shares.postponed) == ["d004"]


def test_what_has_no_rate_goes_at_once_each_alone() -> None:
    rows = [waiting(n, contact=None, gateway=None) for n in range(10)]
    assert sizes(*share(rows, {}, NIGHT, LIMITS, {}).messages) == [1] * 10


def test_the_most_severe_is_not_what_waits() -> None:
    rows = [waiting(n, severity=s) for n, s in enumerate((1, 1, 2, None, 4, 3))]
    shares = share(rows, {}, NIGHT, LIMITS, {})
    assert [message[0].severity for message in shares.messages] == [4, 3, 2]


# --- servers ---


def test_a_server_gets_its_burst_and_what_is_above_it_comes_one_after_the_other() -> None:
    rows = [waiting(n, contact=f"c{n}", host=f"l{n % 4}") for n in range(24)]
    shares = share(rows, {}, NIGHT, LIMITS, {})
    assert len(shares.messages) == 20
    assert list(shares.postponed.values()) == [NIGHT + n * GATEWAY.every for n in (1, 2, 3, 4)]
    assert not set(shares.charged) & {f"c{n}" for n in range(20, 24)}, "who was not told was not charged"


def test_a_host_that_is_full_gets_no_more_and_stays_due_unless_it_hides_others() -> None:
    rows = [waiting(1), waiting(2, contact="khac", host="json://khac", gateway=None)]
    shares = share(rows, {}, NIGHT, LIMITS, {"json://cong": 16})
    assert [message[0].delivery_id for message in shares.messages] == ["d002"]
    assert not shares.postponed
    assert list(share(rows, {}, NIGHT, LIMITS, {"json://cong": 16}, crowded=True).postponed) == ["d001"]


@given(
    st.lists(
        st.builds(
            Waiting,
            delivery_id=st.uuids().map(str),
            host=st.sampled_from(("a", "b")),
            contact=st.sampled_from(("x", "y", "z", None)),
            gateway=st.sampled_from(("g", None)),
            message=st.none(),
            severity=st.none() | st.integers(1, 4),
        ),
        max_size=60,
        unique_by=lambda w: w.delivery_id,
    ),
    rates,
    rates,
    st.integers(1, 10),
    st.integers(1, 5),
)
def test_everything_goes_in_the_end_once_and_no_contact_gets_more_than_its_rate(
    rows: list[Waiting], contact: Rate, gateway: Rate, messages: int, lanes: int
) -> None:
    # One channel is one contact, one server and one lane.
    rows = [Waiting(w.delivery_id, w.contact or w.host, w.contact, w.contact and "g", None, w.severity) for w in rows]
    limits = Limits(contact, gateway, messages, lanes)
    due = {w.delivery_id: NIGHT for w in rows}
    allowed: dict[str, datetime] = {}
    times: dict[str, list[datetime]] = {}
    now = NIGHT
    for _ in range(1_000):
        if not due:
            break
        now = max(now, min(due.values()))
        now_due = [w for w in rows if w.delivery_id in due and due[w.delivery_id] <= now]
        shares = share(now_due, allowed, now, limits, {})
        assert len(shares.messages) <= messages
        sent = Counter(w.delivery_id for message in shares.messages for w in message)
        assert set(sent.values()) <= {1}
        assert not set(sent) & set(shares.postponed)
        assert all(at > now for at in shares.postponed.values())
        for message in shares.messages:
            assert len({w.contact for w in message}) == 1
            if message[0].contact:
                times.setdefault(message[0].contact, []).append(now)
        for delivery_id in sent:
            del due[delivery_id]
        due |= shares.postponed
        allowed |= shares.charged
        assert shares.messages or shares.postponed or not due
    assert not due
    for gone in times.values():
        for first in range(len(gone)):
            for last in range(first, len(gone)):
                stretch = (gone[last] - gone[first]) / contact.every
                assert last - first + 1 <= contact.burst + stretch + 1e-6


# --- names ---


def test_a_key_shows_no_address_and_tells_servers_apart() -> None:
    one, other = "mailto://u:p@mot.vn?to=a@b.vn", "mailto://u:p@hai.vn?to=a@b.vn"
    assert "b.vn" not in f"{contact_key(one)}{gateway_key(one)}"
    assert contact_key(one) != contact_key(other)
    assert gateway_key(one) == gateway_key(one.replace("a@b.vn", "c@d.vn")) != gateway_key(other)
    assert (scheme("WebHook://x"), host_of("json://u:p@Cong.vn:8/x")) == ("webhook", "json://cong.vn")
    assert host_of("json://[sai/") == "json"

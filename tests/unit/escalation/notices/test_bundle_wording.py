"""Several incidents in one message: each is counted, the gravest first, within the limit."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.wording import SHORT_BUNDLE, TITLE, Listed, bundle
from shared.taxonomy import categories
from tests.support import NIGHT
from tests.unit.escalation.notices.wording_support import ACCUSING, ID, PURPOSES, without_labels


def listed(number: int = 0, **changes: Any) -> Listed:
    plain: dict[str, Any] = {
        "notice_id": f"tb-{number}",
        "incident_id": ID(number),
        "purpose": "accountable",
        "category": "FIRECRACKER_SET_OFF",
        "limb": "firecracker",
        "place": "phường Ba Đình",
        "occurred_at": NIGHT + timedelta(minutes=10, seconds=number),
        "severity": None,
        "provisional": True,
        "exercise": False,
        "applies": True,
        "version": "2023-01-06.1",
        "due_at": NIGHT + timedelta(minutes=25, seconds=number),
    }
    return Listed(**(plain | changes))


def test_one_message_lists_the_incidents_of_midnight_with_their_deadlines() -> None:
    items = [listed(0), listed(1, category="FIRE", limb="serious", severity=3, provisional=False, due_at=NIGHT)]
    title, body = bundle(items)
    assert title == "2 vụ, P.Ba Đình, tới mức 3"
    summary, first, second, english = body.splitlines()
    assert summary == (
        "2 vụ việc, phường Ba Đình, 00:00 22/01/2023. Thuộc phạm vi quy định 2023-01-06.1: 2 vụ việc."
        " Hạn sớm nhất / Earliest due: 23:50 21/01."
    )
    assert first == "1. 00:00 Cháy, mức độ 3: cần xác nhận, hạn 23:50 21/01, số 2101-Q9X0Q"
    assert second == "2. 00:00 Nổ (đốt) pháo trái phép, chưa xác minh: cần xác nhận, hạn 00:15, số 2101-Q9X0Q"
    assert english == (
        "2 incidents, phường Ba Đình: 1 × Fire, 1 × Illegal firecrackers set off / exploded. The rule applies to 2."
    )


def test_a_time_of_another_day_has_its_day_in_a_bundle_too() -> None:
    before = NIGHT - timedelta(hours=1)
    body = bundle([listed(0), listed(1, occurred_at=before, due_at=before + timedelta(days=3))])[1]
    summary, first, second, _ = body.splitlines()
    assert "22:50 21/01–00:00 22/01/2023" in summary
    assert first.startswith("1. 22:50 21/01 ")
    assert "hạn 22:50 24/01" in first
    assert second.startswith("2. 00:00 Nổ")


def test_the_most_severe_comes_first_and_what_does_not_fit_is_counted() -> None:
    items = [listed(n, category="FIRE", limb=None, severity=1) for n in range(26)] + [listed(26, severity=4)]
    _, body = bundle(items)
    first, *_ = lines = body.splitlines()[1:]
    assert "mức độ 4" in first
    shown = len(lines) - 2
    assert f"… và {27 - shown} vụ việc khác." in lines
    assert len(body) <= SHORT_BUNDLE


def test_an_incident_that_is_told_for_several_reasons_is_one_line() -> None:
    items = [listed(0, purpose="review", applies=False), listed(0, purpose="prominence", applies=False, due_at=None)]
    title, body = bundle(items)
    assert title == "1 vụ, P.Ba Đình, tới mức ?"
    assert "dấu hiệu nổi cộm, cần xác minh" in body
    assert "Thuộc phạm vi" not in body


def test_of_several_wards_each_line_says_which() -> None:
    title, body = bundle([listed(0), listed(1, place="phường Đông Thọ")])
    assert title == "2 vụ, 2 nơi, tới mức ?"
    assert "pháo trái phép, phường Đông Thọ" in body


def test_a_bundle_of_exercises_says_so_first() -> None:
    assert bundle([listed(0, exercise=True), listed(1, exercise=True)])[0] == "DIỄN TẬP 2 vụ, P.Ba Đình, tới mức ?"


@given(
    st.lists(
        st.builds(
            listed,
            st.integers(0, 50),
            purpose=st.sampled_from(PURPOSES),
            category=st.sampled_from(sorted(categories())),
            severity=st.none() | st.integers(1, 4),
            place=st.sampled_from(("phường Ba Đình", "phường Quảng Thành", "xã Đông Vinh")),
            occurred_at=st.datetimes(datetime(2023, 1, 21), datetime(2023, 1, 23)).map(  # noqa: DTZ001
                lambda t: t.replace(tzinfo=NIGHT.tzinfo)
            ),
            due_at=st.none() | st.just(NIGHT),
            applies=st.booleans(),
        ),
        min_size=1,
        max_size=80,
    ),
    st.integers(SHORT_BUNDLE, 5_000),
)
def test_a_bundle_keeps_to_its_limit_counts_every_incident_and_accuses_nobody(items: list[Listed], limit: int) -> None:
    # A short label in English names each kind, so that a storm of all kinds at once is longer than its list.
    title, body = bundle(items, limit)
    count = len({item.incident_id for item in items})
    assert f"{count} vụ, " in title
    assert len(title) <= TITLE
    assert f"{count} vụ việc, " in body
    assert len(body) <= limit + 300
    numbered = [line for line in body.splitlines() if line.split(".")[0].isdigit()]
    rest = [line for line in body.splitlines() if line.startswith("… và ")]
    assert len(numbered) + sum(int(line.split()[2]) for line in rest) == count
    text = without_labels(f"{title}\n{body}".casefold(), *categories())
    assert not [word for word in ACCUSING if word in text]


def test_where_there_is_room_each_has_its_link() -> None:
    _, body = bundle([listed(0), listed(1)], 10_000, {"tb-0": "Xác nhận: https://x/0"})
    _, first, link, second, english = body.splitlines()
    assert link == "Xác nhận: https://x/0"
    assert first.endswith(f"số {number_of(ID(0))}")
    assert second.endswith(f"số {number_of(ID(1))}")
    assert english.startswith("2 incidents")

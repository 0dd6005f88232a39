"""In words that state facts, accuse nobody, and are short enough for a text message."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.domain.directory.model import DESK, LEADERSHIP
from services.escalation.domain.incidents.report_summary import Added
from services.escalation.domain.notices import wording
from services.escalation.domain.notices.notification import Late, Notice, Purpose, Subject
from services.escalation.domain.notices.wording import SHORT, SHORT_BUNDLE, SHORT_LABELS, SMS, Listed, bundle, words
from services.escalation.domain.rules.accountability import ReportFacts, decide
from services.escalation.domain.rules.record import Decision
from shared.events import Harm, UnitRef
from shared.taxonomy import categories
from tests.support import CHAIR, NIGHT, RULEBOOK, SECRETARY, facts, inputs, wards
from tests.unit.escalation.drawn import some_reports

ACCUSING = (
    "vi phạm", "có tội", "phạm tội", "lỗi của", "có lỗi", "sai phạm", "quy trách nhiệm", "kỷ luật", "buông lỏng",
    "guilty", "liable", "violat", "at fault", "blame", "offend", "negligen", "disciplin", "responsible",
)  # fmt: skip
POSTS = RULEBOOK.rulebook.posts
SUBJECT = Subject("phường", "FIRECRACKER_SET_OFF", NIGHT + timedelta(minutes=15))
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
ASKING = ("accountable", "reminder", "still_open")
TASKS = {
    "duty": ("Để biết", "For your information"),
    "review": ("Cần xác minh, phân loại", "To be verified and classified"),
    "vacancy": ("Khuyết người giữ chức vụ", "Post vacant"),
    "stand_down": (
        "Thông báo trước không còn hiệu lực, không cần xác nhận",
        "The earlier notice no longer holds; there is nothing to acknowledge",
    ),
    "unreachable": ("Người giữ chức vụ không có kênh liên lạc", "Post-holder has no contact channel"),
    "undeliverable": ("Không gửi được thông báo", "Notice could not be delivered"),
    "not_acknowledged": ("Quá hạn xác nhận", "Not acknowledged in time"),
    "not_reviewed": ("Quá hạn xác minh", "Not reviewed in time"),
    "escalated": ("Xin lãnh đạo chỉ đạo ngay", "Put to the leadership at once by"),
    "exhausted": ("Không ai trả lời", "Nobody has answered"),
    "prominence": ("Có dấu hiệu nổi cộm", "May be prominent"),
    "unit_split": ("Đơn vị đã chia tách", "The unit was divided"),
    "closure": ("Đề nghị kết thúc", "Closure proposed"),
    "late_reports": ("Tin báo sau kết thúc", "Reports after the end"),
}
EVERYTHING = Late(2_000, get_args(Added), 4, applies=False)


def decided(*found: ReportFacts, **more: Any) -> Decision:
    return decide(inputs(*found, **more), RULEBOOK)


def parts(text: str) -> int:
    """As many text messages it takes: Vietnamese letters need UCS-2, 70 characters alone and 67 each of several."""
    units = len(text.encode("utf-16-be")) // 2
    return 1 if units <= 70 else -(-units // SMS)


def without_labels(text: str, *found: str) -> str:
    """What the law calls the category is not what the notice says of its reader."""
    for category in found:
        for label in (*wording.labels(category), *wording.short_labels(category)):
            text = text.replace(label.casefold(), "")
    return text


@given(
    some_reports,
    st.sampled_from(PURPOSES),
    st.sets(st.sampled_from((SECRETARY, CHAIR))),
    st.sampled_from(sorted(categories())),
    st.booleans(),
)
def test_no_notice_accuses_anybody(
    found: list[ReportFacts], purpose: Purpose, posts: set[str], category: str, exercise: bool
) -> None:
    decision = decided(*found, exercise=exercise)
    notice = Notice("mau-bi-thu", purpose, tuple(sorted(posts)))
    title, body = words(decision, notice, Subject("phường", category, SUBJECT.deadline), POSTS)
    text = without_labels(f"{title}\n{body}".casefold(), category)
    assert not [word for word in ACCUSING if word in text]


def to_chair(decision: Decision, purpose: Purpose = "accountable", subject: Subject = SUBJECT) -> tuple[str, str]:
    return words(decision, Notice("mau-chu-tich", purpose, (CHAIR,)), subject, POSTS)


def test_a_notice_says_what_where_when_by_which_rule_and_until_when_in_both_languages() -> None:
    title, body = to_chair(decided(facts(kind="officer", harm=Harm(deaths=2))))
    assert title == "Trực ban: Nổ (đốt) pháo trái phép – phường Ba Đình"
    vietnamese, english, reference = body.splitlines()
    assert vietnamese.startswith("Nổ (đốt) pháo trái phép, phường Ba Đình, 23:50 21/01/2023. Mức độ 3.")
    assert vietnamese.endswith(
        "Thuộc phạm vi quy định 2023-01-06.1: Chủ tịch UBND phường Ba Đình. Đề nghị xác nhận trước 00:05."
    )
    assert english.startswith("Illegal firecrackers set off / exploded, Ba Đình, 2023-01-21 23:50. Severity 3.")
    assert english.endswith(
        "Rule 2023-01-06.1 applies to this incident: Chair of the People's Committee. Please acknowledge by 00:05."
    )
    assert reference == "#vu-viec-1"


@pytest.mark.parametrize(
    ("purpose", "vi", "en"),
    [
        ("reminder", "Nhắc lại: đề nghị xác nhận trước 00:05.", "Reminder: please acknowledge by 00:05."),
        (
            "still_open",
            "Chưa kết thúc, đề nghị xác nhận lại trước 00:05.",
            "Still open, please acknowledge again by 00:05.",
        ),
    ],
)
def test_who_is_asked_again_is_told_why(purpose: Purpose, vi: str, en: str) -> None:
    vietnamese, english, _ = to_chair(decided(facts()), purpose)[1].splitlines()
    assert vietnamese.endswith(vi)
    assert english.endswith(en)


def test_a_deadline_on_another_day_says_which() -> None:
    later = Subject("phường", "FIRE", NIGHT + timedelta(hours=24))
    assert "trước 23:50 22/01." in to_chair(decided(facts()), subject=later)[1]


def test_what_is_not_verified_says_so_and_what_is_does_not() -> None:
    assert to_chair(decided(facts()))[0].startswith("chưa xác minh · ")
    assert "chưa xác minh" not in to_chair(decided(facts(kind="officer")))[0]


def test_an_exercise_says_so_first() -> None:
    title, _ = to_chair(decided(facts(), exercise=True))
    assert title.startswith("DIỄN TẬP · chưa xác minh · ")
    assert "DIỄN TẬP" not in to_chair(decided(facts()))[0]


def test_unknown_severity_is_not_given_as_a_number() -> None:
    _, body = to_chair(decided(facts()))
    assert "Mức độ" not in body
    assert "Severity" not in body


def test_a_notice_about_an_undetermined_incident_does_not_say_that_the_rule_applies() -> None:
    decision = decided(facts("EXPLOSION", harm=Harm(life_threatening=0, deaths=0, property_vnd=0)))
    assert decision.outcome == "undetermined"
    _, body = words(decision, Notice(DESK, "review"), SUBJECT, POSTS)
    assert "applies" not in body
    assert "To be verified and classified" in body
    asked = to_chair(decision)[1]
    assert "Đang xem xét theo quy định" in asked
    assert "may apply, under review" in asked


@pytest.mark.parametrize("purpose", sorted(TASKS))
def test_the_desk_is_told_its_task_and_the_posts_concerned(purpose: Purpose) -> None:
    title, body = words(decided(facts()), Notice(DESK, purpose, (CHAIR,)), SUBJECT, POSTS)
    task_vi, task_en = TASKS[purpose]
    assert f"{task_vi}: Chủ tịch UBND." in body
    assert f"{task_en}: Chair of the People's Committee." in body
    assert ("xác nhận trước 00:05" in body) == (purpose == "not_acknowledged"), "who has to acknowledge is asked to"
    assert ("xác minh trước 00:05" in body) == (purpose in {"review", "not_reviewed"})
    assert len(title) <= 160


def test_the_leadership_is_asked_to_acknowledge_and_to_have_the_desk_review_since_only_the_desk_can() -> None:
    _, body = words(decided(facts()), Notice(LEADERSHIP, "not_reviewed"), SUBJECT, POSTS)
    vietnamese, english, _ = body.splitlines()
    assert vietnamese.endswith("Quá hạn xác minh. Đề nghị xác nhận, đôn đốc trực ban xác minh trước 00:05.")
    assert english.endswith("Not reviewed in time. Please acknowledge and see that the duty desk reviews it by 00:05.")


def test_the_desk_is_told_how_many_reports_came_after_the_end_and_what_they_add() -> None:
    subject = replace(SUBJECT, late=Late(3, ("severity", "applies"), 3, applies=True))
    vietnamese, english, _ = words(decided(facts()), Notice(DESK, "late_reports"), subject, POSTS)[1].splitlines()
    assert vietnamese.endswith(
        "Tin báo sau kết thúc: 3, mức độ 3, thuộc quy định. Đề nghị mở lại, hoặc giữ kết thúc trước 00:05."
    )
    assert english.endswith(
        "Reports after the end: 3, severity 3, the rule would apply."
        " Please reopen it or say that the end stands by 00:05."
    )


def test_every_purpose_has_its_words() -> None:
    assert set(PURPOSES) == {*TASKS, *ASKING}
    for purpose in PURPOSES:
        assert all(to_chair(decided(facts()), purpose))


# --- how long ---


def test_whatever_happens_in_whichever_ward_one_language_fits_into_three_parts_of_a_text_message() -> None:
    longest: dict[str, int] = {"vi": 0, "en": 0, "whole": 0}
    harmed = facts(kind="officer", harm=Harm(deaths=2))
    sample = decided(harmed)
    for ward in wards():
        unit = UnitRef(code=ward.code, valid_from=date(2021, 2, 1), name=ward.name)
        for outcome in ("applies", "undetermined"):
            decision = sample.model_copy(
                update={"unit": unit, "outcome": outcome, "standing": "provisional", "incident": "0" * 36}
            )
            for category in categories():
                for recipient, purpose in product((DESK, LEADERSHIP), PURPOSES):
                    notice = Notice(recipient, purpose, (CHAIR, SECRETARY))
                    deadline = NIGHT + timedelta(days=1)
                    late = EVERYTHING if purpose == "late_reports" else None
                    title, body = words(decision, notice, Subject(ward.kind, category, deadline, late=late), POSTS)
                    vi, en, _ = body.splitlines()
                    longest["vi"] = max(longest["vi"], len(vi))
                    longest["en"] = max(longest["en"], len(en))
                    longest["whole"] = max(longest["whole"], len(f"{title}\n{body}"))
    assert longest["vi"] <= SHORT, longest
    assert longest["en"] <= 4 * SMS, longest
    assert longest["whole"] <= 9 * SMS, longest


def test_an_ordinary_notice_is_seven_parts_of_a_text_message_with_its_title_in_both_languages() -> None:
    title, body = to_chair(decided(facts(kind="officer", harm=Harm(deaths=2))))
    vi = body.splitlines()[0]
    assert parts(vi) == 3
    assert parts(f"{title}\n{body}") <= 7


def test_short_names_are_of_categories_that_exist_and_shorter() -> None:
    for category, short in SHORT_LABELS.items():
        for name, label in zip(short, wording.labels(category), strict=True):
            assert len(name) < len(label)


# --- several in one message ---


def listed(number: int = 0, **changes: Any) -> Listed:
    plain: dict[str, Any] = {
        "notice_id": f"tb-{number}",
        "incident_id": f"vu-viec-{number}",
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
    assert title == "Trực ban: 2 vụ việc – phường Ba Đình"
    summary, first, second, english = body.splitlines()
    assert summary == (
        "2 vụ việc, phường Ba Đình, 00:00 22/01/2023. Thuộc phạm vi quy định 2023-01-06.1: 2 vụ việc."
        " Hạn sớm nhất: 23:50."
    )
    assert first == "1. 00:00 Cháy, mức độ 3: xác nhận, hạn 23:50"
    assert second == "2. 00:00 Nổ (đốt) pháo trái phép, chưa xác minh: xác nhận, hạn 00:15"
    assert english == (
        "2 incidents, phường Ba Đình: 1 × Fire, 1 × Illegal firecrackers set off / exploded."
        " Rule 2023-01-06.1 applies to 2. Earliest due: 23:50."
    )


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
    assert title.startswith("Trực ban: 1 vụ việc")
    assert "dấu hiệu nổi cộm, xác minh" in body
    assert "Thuộc phạm vi" not in body


def test_of_several_wards_each_line_says_which() -> None:
    title, body = bundle([listed(0), listed(1, place="phường Đông Thọ")])
    assert title == "Trực ban: 2 vụ việc"
    assert "pháo trái phép, phường Đông Thọ" in body


def test_a_bundle_of_exercises_says_so_first() -> None:
    assert bundle([listed(0, exercise=True), listed(1, exercise=True)])[0].startswith("DIỄN TẬP · ")


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
    assert f"{count} vụ việc" in title
    assert len(body) <= limit + 300
    numbered = [line for line in body.splitlines() if line.split(".")[0].isdigit()]
    rest = [line for line in body.splitlines() if line.startswith("… và ")]
    assert len(numbered) + sum(int(line.split()[2]) for line in rest) == count
    text = without_labels(f"{title}\n{body}".casefold(), *categories())
    assert not [word for word in ACCUSING if word in text]


def test_where_there_is_room_each_has_its_id_and_its_link() -> None:
    details = {"tb-0": "Xác nhận: https://x/0", "tb-1": None}
    _, body = bundle([listed(0), listed(1)], 10_000, details)
    assert "#vu-viec-0\nXác nhận: https://x/0" in body
    assert "#vu-viec-1\n2 incidents" in body


def test_templates_are_where_a_wheel_takes_them_from() -> None:
    folder = Path(wording.__file__).parent / "templates"
    assert {path.suffix for path in folder.iterdir()} == {".j2"}

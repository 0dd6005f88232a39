"""In words that state facts, accuse nobody, and are short enough for a text message."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.escalation.domain.directory.model import DESK, LEADERSHIP
from services.escalation.domain.incidents.report_summary import Added
from services.escalation.domain.notices import wording
from services.escalation.domain.notices.notification import Late, Notice, Purpose, Subject
from services.escalation.domain.notices.wording import SHORT, SHORT_LABELS, SMS, TITLE, TITLE_LABELS, words
from services.escalation.domain.rules.accountability import ReportFacts, decide
from services.escalation.domain.rules.record import Decision
from shared.clock import local
from shared.events import Harm, UnitRef
from shared.taxonomy import categories
from tests.support import CHAIR, NIGHT, RULEBOOK, SECRETARY, facts, inputs, wards
from tests.unit.escalation.drawn import some_reports
from tests.unit.escalation.notices.wording_support import ACCUSING, ID, PURPOSES, without_labels

POSTS = RULEBOOK.rulebook.posts
SOURCE = RULEBOOK.rulebook.citation.source
SUBJECT = Subject("phường", "FIRECRACKER_SET_OFF", NIGHT + timedelta(minutes=15), SOURCE)
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
    "lost_notice": ("Chưa báo được cho người giữ chức vụ", "Post-holder could not be reached"),
}
EVERYTHING = Late(2_000, get_args(Added), 4, applies=False)


def decided(*found: ReportFacts, **more: Any) -> Decision:
    return decide(inputs(*found, **more), RULEBOOK)


def parts(text: str) -> int:
    """As many text messages it takes: Vietnamese letters need UCS-2, 70 characters alone and 67 each of several."""
    units = len(text.encode("utf-16-be")) // 2
    return 1 if units <= 70 else -(-units // SMS)


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
    title, body = words(decision, notice, replace(SUBJECT, category=category), POSTS)
    text = without_labels(f"{title}\n{body}".casefold(), category)
    assert not [word for word in ACCUSING if word in text]


def to_chair(decision: Decision, purpose: Purpose = "accountable", subject: Subject = SUBJECT) -> tuple[str, str]:
    return words(decision, Notice("mau-chu-tich", purpose, (CHAIR,)), subject, POSTS)


def test_a_notice_says_what_where_when_by_which_rule_and_until_when_in_both_languages() -> None:
    title, body = to_chair(decided(facts(kind="officer", harm=Harm(deaths=2))))
    assert title == "Nổ pháo, P.Ba Đình, mức 3 · cần xác nhận"
    vietnamese, english, rule = body.splitlines()
    assert rule == "Quy định/Rule: 2023-01-06.1, Báo Thanh Hóa, 6-1-2023"
    assert vietnamese.startswith("Nổ (đốt) pháo trái phép, phường Ba Đình, 23:50 21/01/2023. Mức độ 3.")
    assert vietnamese.endswith("Thuộc phạm vi quy định: Chủ tịch UBND phường Ba Đình. Đề nghị xác nhận.")
    assert english.startswith("Illegal firecrackers set off / exploded, Ba Đình, 2023-01-21 23:50. Severity 3.")
    assert english.endswith("The rule applies: Chair of the People's Committee. Please acknowledge.")


def test_under_a_notice_stands_once_what_both_languages_share() -> None:
    due_at = NIGHT + timedelta(minutes=15)
    assert wording.references(ID(6), due_at, "https://x/1", "0237 385 0000") == [
        "Hạn/Due: 00:05 22/01",
        "Xác nhận / Acknowledge: https://x/1",
        "Số/No.: 2101-Q9X0Q",
        "Trực ban/Desk: 0237 385 0000",
    ]
    assert wording.references(None, None, None, None) == []


def test_a_message_cites_the_rule_once_and_says_its_due_time_once_with_its_day() -> None:
    for due_at in (NIGHT + timedelta(minutes=5), NIGHT + timedelta(hours=20)):
        _, body = to_chair(decided(facts()), subject=replace(SUBJECT, deadline=due_at))
        text = "\n".join([body, *wording.references(ID(6), due_at, None, None)])
        assert text.count("Rule: 2023-01-06.1, Báo Thanh Hóa, 6-1-2023") == text.count("2023-01-06.1") == 1
        assert text.count(f"{local(due_at):%H:%M %d/%m}") == 1
        assert text.count(f"{local(due_at):%H:%M}") == 1


@pytest.mark.parametrize(
    ("purpose", "vi", "en"),
    [
        ("reminder", "Nhắc lại: đề nghị xác nhận.", "Reminder: please acknowledge."),
        ("still_open", "Chưa kết thúc, đề nghị xác nhận lại.", "Still open, please acknowledge again."),
    ],
)
def test_who_is_asked_again_is_told_why(purpose: Purpose, vi: str, en: str) -> None:
    vietnamese, english, *_ = to_chair(decided(facts()), purpose)[1].splitlines()
    assert vietnamese.endswith(vi)
    assert english.endswith(en)


def test_a_notice_without_a_deadline_asks_for_nothing() -> None:
    vietnamese, english, *_ = to_chair(decided(facts()), subject=replace(SUBJECT, deadline=None))[1].splitlines()
    assert "Đề nghị" not in vietnamese
    assert "Please" not in english


def test_what_is_not_verified_says_so_and_what_is_does_not() -> None:
    assert to_chair(decided(facts()))[0] == "Nổ pháo, P.Ba Đình, mức ? · chưa xác minh · cần xác nhận"
    assert "chưa xác minh" not in to_chair(decided(facts(kind="officer")))[0]


def test_an_exercise_says_so_first() -> None:
    title, _ = to_chair(decided(facts(), exercise=True))
    assert title == "DIỄN TẬP Nổ pháo, P.Ba Đình, mức ? · chưa xác minh · cần xác nhận"
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
    assert ("Đề nghị xác nhận." in body) == (purpose == "not_acknowledged"), "who has to acknowledge is asked to"
    assert ("Đề nghị xác minh." in body) == (purpose in {"review", "not_reviewed"})
    assert len(title) <= 80


def test_the_leadership_is_asked_to_acknowledge_and_to_have_the_desk_review_since_only_the_desk_can() -> None:
    _, body = words(decided(facts()), Notice(LEADERSHIP, "not_reviewed"), SUBJECT, POSTS)
    vietnamese, english = body.splitlines()
    assert vietnamese.endswith("Quá hạn xác minh. Đề nghị xác nhận, đôn đốc trực ban xác minh.")
    assert english.endswith("Not reviewed in time. Please acknowledge and see that the duty desk reviews it.")


def test_the_desk_is_told_how_many_reports_came_after_the_end_and_what_they_add() -> None:
    subject = replace(SUBJECT, late=Late(3, ("severity", "applies"), 3, applies=True))
    vietnamese, english = words(decided(facts()), Notice(DESK, "late_reports"), subject, POSTS)[1].splitlines()
    assert vietnamese.endswith("Tin báo sau kết thúc: 3, mức độ 3, thuộc quy định. Đề nghị mở lại, hoặc giữ kết thúc.")
    assert english.endswith(
        "Reports after the end: 3, severity 3, the rule would apply. Please reopen it or say that the end stands."
    )


def test_every_purpose_has_its_words() -> None:
    assert set(PURPOSES) == {*TASKS, *ASKING}
    for purpose in PURPOSES:
        assert all(to_chair(decided(facts()), purpose))


# --- the title ---


UNITS = sorted({(ward.kind, ward.name) for ward in (*wards(), *wards("wards-2025.csv"))})
LONGEST = [max((u for u in UNITS if u[0] == kind), key=lambda u: len(u[1])) for kind in sorted({u[0] for u in UNITS})]
"""Of each kind of unit."""


def happening() -> list[tuple[tuple[str, str], str]]:
    """Units and categories: at full depth all pairs. Otherwise each of both, in pairs that have the longest text: it is
    the sum of what the two are called.
    """
    known = sorted(categories())
    if settings.get_current_profile_name() == "full":
        return list(product(UNITS, known))
    return [*product(LONGEST, known), *((unit, known[n % len(known)]) for n, unit in enumerate(UNITS))]


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("exercise", [False, True])
def test_a_title_says_what_where_and_how_grave_in_what_a_telephone_shows_of_it(
    purpose: Purpose, exercise: bool
) -> None:
    sample = decided(facts(kind="officer"))
    for (kind, name), category in happening():
        unit = UnitRef(code="1", valid_from=date(2021, 2, 1), name=name)
        for severity in (None, 1, 4):
            told = {"unit": unit, "exercise": exercise, "severity": severity, "standing": "provisional"}
            subject = replace(SUBJECT, unit_kind=kind, category=category, corrected=("unit", "exercise"))
            title, _ = words(sample.model_copy(update=told), Notice(DESK, purpose, (CHAIR,)), subject, POSTS)
            mark = "DIỄN TẬP " if exercise else ""
            says = f"{mark}{TITLE_LABELS[category]}, {kind[0].upper()}.{name}, mức {severity or '?'}"
            assert len(says) <= TITLE, says
            assert title.startswith(f"{says} · chưa xác minh · đính chính · ")


def test_every_category_has_its_name_in_titles_and_no_two_share_one() -> None:
    assert TITLE_LABELS.keys() == categories().keys()
    assert len(set(TITLE_LABELS.values())) == len(TITLE_LABELS)


@pytest.mark.parametrize(
    ("place", "short"),
    [
        ("phường Ba Đình", "P.Ba Đình"),
        ("xã Đông Vinh", "X.Đông Vinh"),
        ("thị trấn Xã", "TT.Xã"),
        ("đặc khu Phú Quý", "ĐK.Phú Quý"),
        ("Ba Đình", "Ba Đình"),
    ],
)
def test_a_place_in_a_title_is_short(place: str, short: str) -> None:
    assert wording.short_place(place) == short


# --- how long ---


def test_whatever_happens_in_whichever_ward_one_language_fits_into_three_parts_of_a_text_message() -> None:
    longest: dict[str, int] = {"vi": 0, "en": 0, "whole": 0}
    harmed = facts(kind="officer", harm=Harm(deaths=2))
    sample = decided(harmed)
    for (kind, name), category in happening():
        unit = UnitRef(code="14776", valid_from=date(2021, 2, 1), name=name)
        for outcome in ("applies", "undetermined"):
            decision = sample.model_copy(
                update={"unit": unit, "outcome": outcome, "standing": "provisional", "incident": ID(6)}
            )
            for recipient, purpose in product((DESK, LEADERSHIP), PURPOSES):
                notice = Notice(recipient, purpose, (CHAIR, SECRETARY))
                deadline = NIGHT + timedelta(days=1)
                late = EVERYTHING if purpose == "late_reports" else None
                subject = Subject(kind, category, deadline, SOURCE, late=late)
                title, body = words(decision, notice, subject, POSTS)
                vi, en, *_ = body.splitlines()
                body = "\n".join([body, *wording.references(ID(6), deadline, None, "0237 385 0000")])
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
    text = "\n".join([title, body, *wording.references(ID(6), SUBJECT.deadline, None, "0237 385 0000")])
    assert parts(text) <= 7


def test_short_names_are_of_categories_that_exist_and_shorter() -> None:
    for category, short in SHORT_LABELS.items():
        for name, label in zip(short, wording.labels(category), strict=True):
            assert len(name) < len(label)


# --- several in one message ---


def test_templates_are_where_a_wheel_takes_them_from() -> None:
    folder = Path(wording.__file__).parent / "templates"
    assert {path.suffix for path in folder.iterdir()} == {".j2"}

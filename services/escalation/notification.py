"""Who is told what about a decision, and in which words. Pure.

Words stay with facts: that the rule applies ("thuộc phạm vi quy định"), never that somebody is at fault.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.escalation.accountability import Decision, Party
from services.escalation.rulebook import Post
from shared.clock import local
from shared.taxonomy import categories

DESK = "desk"
Purpose = Literal["accountable", "review", "vacancy", "unreachable", "undeliverable", "not_acknowledged"]


@dataclass(frozen=True)
class Notice:
    """What one person is told for one purpose. One person in both posts: two parties, one notice."""

    recipient: str
    """A holder id, or `desk`."""
    purpose: Purpose
    posts: tuple[str, ...] = ()


def plan(decision: Decision, already: Collection[tuple[str, str]]) -> list[Notice]:
    """The notices that `decision` calls for beyond those `already` issued for its incident, as (recipient, purpose)."""
    wanted: list[Notice] = []
    if _holders_are_told(decision):
        wanted += _to_holders(decision.parties)
        vacant = tuple(sorted(p.post for p in decision.parties if p.accountable is None or p.present is None))
        if vacant:
            wanted.append(Notice(DESK, "vacancy", vacant))
    if desk_reviews(decision):
        wanted.append(Notice(DESK, "review"))
    return [n for n in wanted if (n.recipient, n.purpose) not in already]


def _holders_are_told(decision: Decision) -> bool:
    if decision.outcome == "applies":
        return decision.immediate or decision.standing == "confirmed"
    return decision.outcome == "undetermined" and decision.immediate


def desk_reviews(decision: Decision) -> bool:
    untold = decision.standing == "provisional" and not _holders_are_told(decision)
    return untold or decision.outcome == "undetermined" or decision.clock_ahead or decision.disputed


def _to_holders(parties: Collection[Party]) -> list[Notice]:
    posts_of: dict[str, list[str]] = {}
    for party in parties:
        if party.present is not None:
            posts_of.setdefault(party.present.holder_id, []).append(party.post)
    return [Notice(holder, "accountable", tuple(sorted(posts))) for holder, posts in posts_of.items()]


@dataclass(frozen=True)
class Subject:
    """What the words need to know of an incident beside its decision."""

    unit_kind: str
    category: str
    deadline: datetime | None


DESK_TASKS: dict[str, tuple[str, str]] = {
    "review": ("Cần xác minh, phân loại", "To be verified and classified"),
    "vacancy": ("Khuyết người giữ chức vụ", "Post vacant"),
    "unreachable": ("Người giữ chức vụ không có kênh liên lạc", "Post-holder has no contact channel"),
    "undeliverable": ("Không gửi được thông báo", "Notice could not be delivered"),
    "not_acknowledged": ("Quá hạn xác nhận", "Not acknowledged in time"),
}


def words(decision: Decision, notice: Notice, subject: Subject, posts: Collection[Post]) -> tuple[str, str]:
    """Title and body, Vietnamese first then English, each short enough for a text message."""
    category = categories()[subject.category]
    place = f"{subject.unit_kind} {decision.unit.name}"
    when = local(decision.time_of_occurrence)
    titles = [p for p in posts if p.key in notice.posts]
    vi = [f"{category.label_vi}, {place}, {when:%H:%M %d/%m/%Y}."]
    en = [f"{category.label_en}, {decision.unit.name}, {when:%Y-%m-%d %H:%M}."]
    if decision.severity is not None:
        vi.append(f"Mức độ {decision.severity}.")
        en.append(f"Severity {decision.severity}.")
    if notice.purpose == "accountable":
        version = decision.rulebook.version if decision.rulebook else ""
        applies = decision.outcome == "applies"
        vi_rule = "Thuộc phạm vi quy định" if applies else "Đang xem xét theo quy định"
        en_rule = "applies to this incident" if applies else "may apply, under review"
        vi.append(f"{vi_rule} {version}: {', '.join(p.title_vi for p in titles)} {place}.")
        en.append(f"Rule {version} {en_rule}: {', '.join(p.title_en for p in titles)}.")
        if subject.deadline is not None:
            vi.append(f"Đề nghị xác nhận trước {local(subject.deadline):%H:%M}.")
            en.append(f"Please acknowledge by {local(subject.deadline):%H:%M}.")
    else:
        task_vi, task_en = DESK_TASKS[notice.purpose]
        suffix_vi = f": {', '.join(p.title_vi for p in titles)}" if titles else ""
        suffix_en = f": {', '.join(p.title_en for p in titles)}" if titles else ""
        vi.append(f"{task_vi}{suffix_vi}.")
        en.append(f"{task_en}{suffix_en}.")
    marks = ["DIỄN TẬP"] if decision.exercise else []
    marks += ["chưa xác minh"] if decision.standing == "provisional" else []
    title = " · ".join([*marks, f"Trực ban: {category.label_vi} – {place}"])
    return title, " ".join(vi) + "\n" + " ".join(en) + f"\n#{decision.incident}"

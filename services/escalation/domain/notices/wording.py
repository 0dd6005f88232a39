"""The texts of notices, Vietnamese first. Pure, except that templates are read from disk once.

Texts state facts: that the rule applies to an incident, never that anybody is guilty. `templates/` holds them. This
module decides what they may mention, and how long they may be.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.notification import FOR_HOLDERS, Notice, Subject
from services.escalation.domain.notices.pacing import UNKNOWN_SEVERITY
from services.escalation.domain.rules.record import Decision
from services.escalation.domain.rules.rulebook import Post
from shared.clock import local
from shared.taxonomy import categories
from shared.unit_kinds import unit_kinds

SMS = 67
"""Characters in one part of a long text message in Vietnamese (UCS-2; 3GPP TS 23.040)."""
SHORT = 3 * SMS
"""Longest part of a notice in one language. A longer one is rendered in its brief form."""
SHORT_BUNDLE = 10 * SMS
"""Longest text of a bundle on a channel for short texts."""
TITLE = 40
"""Characters of a title that a telephone shows: within them it says what, where, and how grave."""
SHORT_LABELS = {
    "EXPLOSION": ("Vụ nổ", "Explosion"),
    "VIOLENT_CRIME": ("Tội phạm bạo lực", "Violent crime"),
    "PUBLIC_ORDER_HARM": ("Gây rối trật tự công cộng", "Public-order disturbance"),
    "OTHER_SERIOUS": ("Vụ việc nghiêm trọng khác", "Other serious incident"),
}
"""Vietnamese and English labels for texts that would be too long with the label of the taxonomy."""
TITLE_LABELS = {
    "FIRECRACKER_SET_OFF": "Nổ pháo",
    "FIRECRACKER_POSSESSION": "Giữ pháo",
    "FIRECRACKER_TRADE": "Bán pháo",
    "FIRECRACKER_MANUFACTURE": "Làm pháo",
    "FIRE": "Cháy",
    "EXPLOSION": "Vụ nổ",
    "TRAFFIC_ACCIDENT": "Tai nạn",
    "CONGESTION": "Ùn tắc",
    "ILLEGAL_RACING": "Đua xe",
    "THEFT_ROBBERY": "Trộm cướp",
    "VIOLENT_CRIME": "Bạo lực",
    "PUBLIC_ORDER_HARM": "Gây rối",
    "OTHER_SERIOUS": "Vụ khác",
}
"""What a title calls a category, in few letters. The body says it in full."""
SETTING_OFF = "FIRECRACKER_SET_OFF"


def words(decision: Decision, notice: Notice, subject: Subject, posts: Collection[Post]) -> tuple[str, str]:
    """Return the title and body of one notice.

    The body has Vietnamese and English, each on a line, and to a ward the rule. `references` are added when it is sent.
    """
    place = f"{subject.unit_kind} {decision.unit.name}"
    titles = [p for p in posts if p.key in notice.posts]
    said = {
        "purpose": notice.purpose,
        "to_desk": notice.recipient == DESK,
        "occurred": local(decision.time_of_occurrence),
        "severity": decision.severity,
        "applies": decision.outcome == "applies",
        "was_exercise": "exercise" in subject.corrected,
        "was_elsewhere": "unit" in subject.corrected,
        "time_disputed": bool(decision.time_disputed),
        "is_due": subject.deadline is not None,
        "late": subject.late,
    }
    vi = _full_or_brief(
        "notice.vi", subject.category, 0, said | {"place": place, "posts": [p.title_vi for p in titles]}
    )
    name = decision.unit.name
    en = _full_or_brief("notice.en", subject.category, 1, said | {"place": name, "posts": [p.title_en for p in titles]})
    title = template("title").render(
        exercise=decision.exercise,
        provisional=decision.standing == "provisional",
        corrected=bool(subject.corrected),
        label=TITLE_LABELS.get(subject.category) or short_labels(subject.category)[0],
        place=short_place(place),
        severity=decision.severity,
        purpose=notice.purpose,
    )
    lines = [vi, en]
    if notice.purpose in FOR_HOLDERS and decision.rulebook:
        lines.append(f"Quy định/Rule: {decision.rulebook.version}, {subject.rule_source}")
    return title, "\n".join(lines)


def references(incident_id: str | None, due_at: datetime | None, link: str | None, telephone: str | None) -> list[str]:
    """Return the lines under the body of a message about one notice: what is the same in both languages, once each.

    `incident_id`: None for a notice without an incident. `due_at`: None if nothing is to be done by a time.
    """
    lines = [
        f"Hạn/Due: {clock_text(due_at)}" if due_at else "",
        f"Xác nhận / Acknowledge: {link}" if link else "",
        f"Số/No.: {number_of(incident_id)}" if incident_id else "",
        f"Trực ban/Desk: {telephone}" if telephone else "",
    ]
    return [line for line in lines if line]


def short_place(place: str) -> str:
    """Return a place with its kind abbreviated, as "P.Ba Đình" for "phường Ba Đình"."""
    found = (kind for kind in unit_kinds().values() if place.startswith(f"{kind.name} "))
    kind = next(found, None)
    return place.replace(f"{kind.name} ", f"{kind.short}.", 1) if kind else place


def _full_or_brief(name: str, category: str, language: int, said: Mapping[str, object]) -> str:
    """Return the full text, or the brief one where the full text is longer than SHORT."""
    text = template(name).render(said, label=labels(category)[language], brief=False)
    if len(text) <= SHORT:
        return text
    return template(name).render(said, label=short_labels(category)[language], brief=True)


def labels(category: str) -> tuple[str, str]:
    found = categories()[category]
    return found.label_vi, found.label_en


def short_labels(category: str) -> tuple[str, str]:
    return SHORT_LABELS.get(category) or labels(category)


@dataclass(frozen=True)
class Listed:
    """What a bundle says about one of its notices."""

    notice_id: str
    incident_id: str
    purpose: str
    category: str
    limb: str | None
    place: str
    occurred_at: datetime
    severity: int | None
    provisional: bool
    exercise: bool
    applies: bool
    """Whether the text says to its recipient that the rule applies, by `version` of the rulebook."""
    version: str | None
    due_at: datetime | None

    @property
    def spoken(self) -> str:
        """The category that the text names."""
        return SETTING_OFF if self.limb == "firecracker" else self.category


def bundle(
    items: Sequence[Listed], limit: int = SHORT_BUNDLE, details: Mapping[str, str | None] | None = None
) -> tuple[str, str]:
    """Return the title and body of one message about several notices, the most severe incident first.

    It lists as many incidents as fit into `limit` characters, and counts the rest. A time of another day than the last
    incident's has its day. `details`: a further line for each notice, by id. With it each incident is listed with the
    line of one of its notices.
    """
    by_incident: dict[str, list[Listed]] = {}
    for item in sorted(items, key=_rank):
        by_incident.setdefault(item.incident_id, []).append(item)
    incidents = list(by_incident.values())
    places = sorted({item.place for item in items})
    times = sorted(local(item.occurred_at) for item in items)
    day = times[-1].date()
    severities = [item.severity for item in items if item.severity]
    applying = [notices for notices in incidents if any(n.applies for n in notices)]
    said = {
        "count": len(incidents),
        "place": places[0] if len(places) == 1 else "",
        "first": "" if f"{times[0]:%H:%M %d}" == f"{times[-1]:%H:%M %d}" else clock_text(times[0], day),
        "last": times[-1],
        "applying": len(applying),
        "version": ", ".join(sorted({n.version or "" for notices in applying for n in notices if n.applies})),
        "due": clock_text(_earliest(items)),
    }
    kinds = Counter(short_labels(notices[0].spoken)[1] for notices in incidents)
    vi = template("bundle.vi").render(said)
    en = template("bundle.en").render(said, kinds=kinds.most_common())
    elsewhere = len(places) > 1
    lines = [_line(number, notices, day, elsewhere, details) for number, notices in enumerate(incidents, 1)]
    shown = _count_that_fit(lines, limit - len(vi) - len(en) - 2)
    rest = [template("bundle_rest").render(count=len(lines) - shown)] if shown < len(lines) else []
    title = template("bundle_title").render(
        exercise=all(item.exercise for item in items),
        count=len(incidents),
        place=short_place(places[0]) if len(places) == 1 else "",
        places=len(places),
        severity=max(severities, default=None),
    )
    return title, "\n".join([vi, *lines[:shown], *rest, en])


def _rank(item: Listed) -> tuple[int, datetime, str, str]:
    return -(item.severity or UNKNOWN_SEVERITY), item.occurred_at, item.incident_id, item.purpose


def _line(
    number: int, notices: Sequence[Listed], day: date, elsewhere: bool, details: Mapping[str, str | None] | None
) -> str:
    """Return the line of one incident, for all purposes for which it is notified. `day`: whose times need no day."""
    first = notices[0]
    line = template("bundle_line").render(
        number=number,
        incident_number=number_of(first.incident_id),
        occurred=clock_text(first.occurred_at, day),
        label=short_labels(first.spoken)[0],
        elsewhere=first.place if elsewhere else "",
        severity=first.severity,
        provisional=first.provisional,
        purposes=sorted({n.purpose for n in notices}),
        due=clock_text(_earliest(notices), day),
    )
    more = [detail for n in notices if (detail := (details or {}).get(n.notice_id))]
    return "\n".join([line, *more[:1]])


def _count_that_fit(lines: Sequence[str], room: int) -> int:
    """Return how many of the first lines fit into `room` characters, at least one.

    Room is kept for the line that counts the rest.
    """
    spare = len(template("bundle_rest").render(count=len(lines))) + 1
    used = 0
    for place, line in enumerate(lines):
        used += len(line) + 1
        if used + (spare if place < len(lines) - 1 else 0) > room:
            return max(place, 1)
    return len(lines)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - plain text, never HTML
    )


@cache
def template(name: str) -> Template:
    """Return a template of `templates/`, read once."""
    return _environment().get_template(f"{name}.j2")


def _earliest(items: Sequence[Listed]) -> datetime | None:
    return min((item.due_at for item in items if item.due_at), default=None)


def clock_text(at: datetime | None, day: date | None = None) -> str:
    """Return the time of day, with its day unless that is `day`; empty for None."""
    if at is None:
        return ""
    here = local(at)
    return f"{here:%H:%M}" if here.date() == day else f"{here:%H:%M %d/%m}"

"""The texts of notices, Vietnamese first. Pure, except that templates are read from disk once.

Texts state facts: that the rule applies to an incident, never that anybody is guilty. `templates/` holds them. This
module decides what they may mention, and how long they may be.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from services.escalation.domain.directory.model import DESK
from services.escalation.domain.notices.notification import Notice, Subject
from services.escalation.domain.notices.pacing import UNKNOWN_SEVERITY
from services.escalation.domain.rules.record import Decision
from services.escalation.domain.rules.rulebook import Post
from shared.clock import local
from shared.taxonomy import categories

SMS = 67
"""Characters in one part of a long text message in Vietnamese (UCS-2; 3GPP TS 23.040)."""
SHORT = 3 * SMS
"""Longest part of a notice in one language. A longer one is rendered in its brief form."""
SHORT_BUNDLE = 10 * SMS
"""Longest text of a bundle on a channel for short texts."""
ANOTHER_DAY = timedelta(hours=12)
"""A time that is so much later is shown with its day."""
SHORT_LABELS = {
    "EXPLOSION": ("Vụ nổ", "Explosion"),
    "VIOLENT_CRIME": ("Tội phạm bạo lực", "Violent crime"),
    "PUBLIC_ORDER_HARM": ("Gây rối trật tự công cộng", "Public-order disturbance"),
    "OTHER_SERIOUS": ("Vụ việc nghiêm trọng khác", "Other serious incident"),
}
"""Vietnamese and English labels for texts that would be too long with the label of the taxonomy."""
SETTING_OFF = "FIRECRACKER_SET_OFF"


def words(decision: Decision, notice: Notice, subject: Subject, posts: Collection[Post]) -> tuple[str, str]:
    """Return the title and body of one notice.

    The body has Vietnamese, English, and the incident's id, each on a line.
    """
    place = f"{subject.unit_kind} {decision.unit.name}"
    titles = [p for p in posts if p.key in notice.posts]
    occurred = local(decision.time_of_occurrence)
    said = {
        "purpose": notice.purpose,
        "to_desk": notice.recipient == DESK,
        "occurred": occurred,
        "severity": decision.severity,
        "applies": decision.outcome == "applies",
        "was_exercise": "exercise" in subject.corrected,
        "was_elsewhere": "unit" in subject.corrected,
        "time_disputed": bool(decision.time_disputed),
        "version": decision.rulebook.version if decision.rulebook else "",
        "due": clock_text(subject.deadline, occurred),
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
        label=labels(subject.category)[0],
        place=place,
    )
    return title, f"{vi}\n{en}\n#{decision.incident}"


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

    It lists as many incidents as fit into `limit` characters, and counts the rest. `details`: a further line for each
    notice, by id. With it each incident is listed with its id and with the line of one of its notices.
    """
    by_incident: dict[str, list[Listed]] = {}
    for item in sorted(items, key=_rank):
        by_incident.setdefault(item.incident_id, []).append(item)
    incidents = list(by_incident.values())
    places = sorted({item.place for item in items})
    times = sorted(local(item.occurred_at) for item in items)
    applying = [notices for notices in incidents if any(n.applies for n in notices)]
    said = {
        "count": len(incidents),
        "place": places[0] if len(places) == 1 else "",
        "exercise": all(item.exercise for item in items),
        "first": times[0],
        "last": times[-1],
        "applying": len(applying),
        "version": ", ".join(sorted({n.version or "" for notices in applying for n in notices if n.applies})),
        "due": clock_text(_earliest(items), times[0]),
    }
    kinds = Counter(short_labels(notices[0].spoken)[1] for notices in incidents)
    vi = template("bundle.vi").render(said)
    en = template("bundle.en").render(said, kinds=kinds.most_common())
    lines = [_line(number, notices, len(places) > 1, details) for number, notices in enumerate(incidents, 1)]
    shown = _count_that_fit(lines, limit - len(vi) - len(en) - 2)
    rest = [template("bundle_rest").render(count=len(lines) - shown)] if shown < len(lines) else []
    return template("bundle_title").render(said), "\n".join([vi, *lines[:shown], *rest, en])


def _rank(item: Listed) -> tuple[int, datetime, str, str]:
    return -(item.severity or UNKNOWN_SEVERITY), item.occurred_at, item.incident_id, item.purpose


def _line(number: int, notices: Sequence[Listed], elsewhere: bool, details: Mapping[str, str | None] | None) -> str:
    """Return the line of one incident, for all purposes for which it is notified."""
    first = notices[0]
    line = template("bundle_line").render(
        number=number,
        occurred=local(first.occurred_at),
        label=short_labels(first.spoken)[0],
        elsewhere=first.place if elsewhere else "",
        severity=first.severity,
        provisional=first.provisional,
        purposes=sorted({n.purpose for n in notices}),
        due=clock_text(_earliest(notices), local(first.occurred_at)),
    )
    if details is None:
        return line
    more = [detail for n in notices if (detail := details.get(n.notice_id))]
    return "\n".join([f"{line} #{first.incident_id}", *more[:1]])


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


def clock_text(at: datetime | None, since: datetime) -> str:
    """Return the time of day, with its day if it is ANOTHER_DAY or more after `since`; empty for None."""
    if at is None:
        return ""
    here = local(at)
    return f"{here:%H:%M}" if here - since < ANOTHER_DAY else f"{here:%H:%M %d/%m}"

"""Who is notified of a decision, for which purpose, and when a channel may be used. Pure.

The texts are in `wording`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK, Contact
from services.escalation.domain.rules.record import Decision, Party
from services.escalation.domain.rules.rulebook import Rulebook
from shared.clock import local

Purpose = Literal[
    "accountable",
    "duty",
    "reminder",
    "still_open",
    "review",
    "closure",
    "vacancy",
    "unreachable",
    "undeliverable",
    "not_acknowledged",
    "not_reviewed",
    "escalated",
    "exhausted",
    "prominence",
    "unit_split",
    "stand_down",
    "late_reports",
    "lost_notice",
]
EACH_ROUND: frozenset[str] = frozenset(
    {"reminder", "still_open", "not_acknowledged", "not_reviewed", "exhausted", "closure", "stand_down"}
    | {"late_reports", "lost_notice"}
)
"""Purposes that are notified again in a later round. All others are notified once an incident."""
Already = Mapping[tuple[str, str], frozenset[str]]
"""What was notified: posts by (recipient, purpose)."""
ASKING: frozenset[str] = frozenset({"accountable", "still_open"})
"""Purposes of notices that a post-holder must acknowledge by a deadline."""
FOR_HOLDERS: frozenset[Purpose] = frozenset({"accountable", "still_open", "reminder", "duty"})
"""Purposes of notices that tell people of a ward that the rule applies, or may apply."""
AFTER_THE_END: frozenset[Purpose] = frozenset({"undeliverable", "stand_down", "late_reports"})
"""Purposes of notices that are sent although their incident has ended."""
UNANSWERED: frozenset[str] = frozenset({"not_acknowledged", "not_reviewed", "exhausted"})
"""Purposes of notices that tell an office that others did not act."""


@dataclass(frozen=True)
class Notice:
    """What one person is told for one purpose (thông báo).

    A person who holds both posts gets one notice for both.
    """

    recipient: str
    """A holder id, `desk` or `leadership`."""
    purpose: Purpose
    posts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Late:
    """What the text says of reports that came after the end."""

    count: int
    """How many the desk has not seen."""
    adds: tuple[str, ...]
    severity: int | None
    """That they would give."""
    applies: bool
    """Whether the rule would apply with them, and not only might."""


@dataclass(frozen=True)
class Subject:
    """What the text needs to know about an incident beside its decision."""

    unit_kind: str
    category: str
    deadline: datetime | None
    rule_source: str
    """Where the rule was published."""
    corrected: Collection[str] = ()
    """What a person corrected just now: time, unit, exercise."""
    late: Late | None = None


def plan(
    decision: Decision, already: Already, on_duty: Iterable[str] = (), before: Decision | None = None
) -> list[Notice]:
    """Return the notices that `decision` calls for, without those `already` issued for its incident.

    `on_duty`: holder ids of people on the ward's duty roster; they are notified beside the post-holders. `before`: the
    decision before this one, if there is one. A gap or a disputed time that it did not have is reported again.
    """
    wanted: list[Notice] = []
    gaps: list[Notice] = []
    if holders_are_told(decision):
        asked = to_holders(decision.parties, "accountable")
        wanted += asked
        named = {n.recipient for n in asked}
        wanted += [Notice(holder, "duty") for holder in sorted(set(on_duty) - named)]
        gaps = _gaps(decision, already, before or decision)
    found = [n for n in wanted if (n.recipient, n.purpose) not in already]
    is_news = decision.time_disputed and not (before and before.time_disputed)
    if desk_reviews(decision) and (is_news or (DESK, "review") not in already):
        found.append(Notice(DESK, "review", tuple(sorted(p.post for p in decision.parties if p.contested))))
    return found + gaps


def _gaps(decision: Decision, already: Already, before: Decision) -> list[Notice]:
    """Return the notices that tell the desk that nobody acts: the unit is divided, or posts are vacant.

    Each is issued again if the decision `before` did not have that gap.
    """
    found: list[Notice] = []
    if decision.divided and not (before.divided and (DESK, "unit_split") in already):
        found.append(Notice(DESK, "unit_split"))
    if new := _vacant_posts(decision) - (_vacant_posts(before) & already.get((DESK, "vacancy"), frozenset())):
        found.append(Notice(DESK, "vacancy", tuple(sorted(new))))
    return found


def holders_are_told(decision: Decision) -> bool:
    """Return whether the post-holders are notified of this decision.

    They are if the rule applies and the incident is confirmed. If it is immediate, they are also notified while it is
    provisional or undetermined.
    """
    if decision.outcome == "applies":
        return decision.immediate or decision.standing == "confirmed"
    return decision.outcome == "undetermined" and decision.immediate


def desk_reviews(decision: Decision) -> bool:
    """Return whether the desk is asked at once to review the incident because of this decision."""
    untold = decision.standing == "provisional" and not holders_are_told(decision)
    return untold or decision.outcome == "undetermined" or decision.clock_ahead or decision.disputed


def to_holders(parties: Iterable[Party], purpose: Purpose) -> list[Notice]:
    """Return one notice for each person who acts for a post now. It names all posts of that person."""
    posts_of: dict[str, list[str]] = {}
    for party in parties:
        if party.acting is not None:
            posts_of.setdefault(party.acting.holder_id, []).append(party.post)
    return [Notice(holder, purpose, tuple(sorted(posts))) for holder, posts in posts_of.items()]


def _vacant_posts(decision: Decision) -> frozenset[str]:
    """Return the posts that nobody held at the time of occurrence, or for which nobody acts now."""
    return frozenset(
        p.post for p in decision.parties if p.accountable is None or (p.acting is None and not decision.divided)
    )


def rings_at(contact: Contact, now: datetime, *, may_wait: bool) -> datetime:
    """Return from when a channel may be used: now, or the end of its quiet hours.

    Quiet hours hold back only a notice that `may_wait`.
    """
    start, end = contact.quiet_from, contact.quiet_to
    if not may_wait or start is None or end is None or start == end:
        return now
    here = local(now)
    clock = here.time().replace(tzinfo=None)
    quiet = start <= clock < end if start < end else clock >= start or clock < end
    if not quiet:
        return now
    until = here.replace(hour=end.hour, minute=end.minute, second=0, microsecond=0)
    return until if until > here else until + timedelta(days=1)


def may_wait(decision: Decision, rulebook: Rulebook) -> bool:
    """Return whether notices of this decision may wait for the end of a contact's quiet hours.

    They may if the severity is known and low, and nothing is immediate.
    """
    return (
        not decision.immediate and decision.severity is not None and (decision.severity < rulebook.quiet.below_severity)
    )


def no_longer_waits(decision: Decision, before: Decision, rulebook: Rulebook) -> bool:
    """Return whether notices of `before` may be waiting for the end of quiet hours, but `decision` may not wait."""
    return holders_are_told(before) and may_wait(before, rulebook) and not may_wait(decision, rulebook)

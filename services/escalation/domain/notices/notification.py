"""Who is told what about a decision, and when a channel may ring. Pure. The words are in `wording`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK, Contact
from services.escalation.domain.rules.accountability import Decision, Party
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
    "exhausted",
    "prominence",
    "unit_split",
]
EACH_ROUND: frozenset[str] = frozenset(
    {"reminder", "still_open", "not_acknowledged", "not_reviewed", "exhausted", "closure"}
)
"""Told again in a later round; everything else once an incident."""
Already = Mapping[tuple[str, str], frozenset[str]]
"""Posts by (recipient, purpose) of what was told."""
ASKING: frozenset[str] = frozenset({"accountable", "still_open"})
"""What a post-holder has to acknowledge, by a deadline."""
UNANSWERED: frozenset[str] = frozenset({"not_acknowledged", "not_reviewed", "exhausted"})
"""What an office is told of others who do not answer."""


@dataclass(frozen=True)
class Notice:
    """What one person is told for one purpose. One person in both posts: two parties, one notice."""

    recipient: str
    """A holder id, `desk` or `leadership`."""
    purpose: Purpose
    posts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What the words need to know of an incident beside its decision."""

    unit_kind: str
    category: str
    deadline: datetime | None


def plan(
    decision: Decision, already: Already, on_duty: Iterable[str] = (), before: Decision | None = None
) -> list[Notice]:
    """The notices that `decision` calls for beyond those `already` issued for its incident.

    `on_duty`: holder ids of those on the ward's duty roster, who are told beside the post-holders. `before`: the
    decision that stood until now; what holds again since then is told again.
    """
    wanted: list[Notice] = []
    gaps: list[Notice] = []
    if holders_are_told(decision):
        asked = to_holders(decision.parties, "accountable")
        wanted += asked
        named = {n.recipient for n in asked}
        wanted += [Notice(holder, "duty") for holder in sorted(set(on_duty) - named)]
        gaps = _gaps(decision, already, before or decision)
    if desk_reviews(decision):
        wanted.append(Notice(DESK, "review"))
    return [n for n in wanted if (n.recipient, n.purpose) not in already] + gaps


def _gaps(decision: Decision, already: Already, before: Decision) -> list[Notice]:
    """Who should answer, and nobody does: of a unit that is divided, and of posts that are vacant, each time anew."""
    found: list[Notice] = []
    if decision.divided and not (before.divided and (DESK, "unit_split") in already):
        found.append(Notice(DESK, "unit_split"))
    if new := _vacant(decision) - (_vacant(before) & already.get((DESK, "vacancy"), frozenset())):
        found.append(Notice(DESK, "vacancy", tuple(sorted(new))))
    return found


def holders_are_told(decision: Decision) -> bool:
    if decision.outcome == "applies":
        return decision.immediate or decision.standing == "confirmed"
    return decision.outcome == "undetermined" and decision.immediate


def desk_reviews(decision: Decision) -> bool:
    untold = decision.standing == "provisional" and not holders_are_told(decision)
    return untold or decision.outcome == "undetermined" or decision.clock_ahead or decision.disputed


def to_holders(parties: Iterable[Party], purpose: Purpose) -> list[Notice]:
    """One notice for each person who answers for a post now."""
    posts_of: dict[str, list[str]] = {}
    for party in parties:
        if party.acting is not None:
            posts_of.setdefault(party.acting.holder_id, []).append(party.post)
    return [Notice(holder, purpose, tuple(sorted(posts))) for holder, posts in posts_of.items()]


def _vacant(decision: Decision) -> frozenset[str]:
    return frozenset(
        p.post for p in decision.parties if p.accountable is None or (p.acting is None and not decision.divided)
    )


def rings_at(contact: Contact, now: datetime, *, may_wait: bool) -> datetime:
    """When a channel may be used: now, or at the end of its quiet hours for what may wait."""
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
    """For the end of a contact's quiet hours: only what is known to be slight, and not immediate."""
    return (
        not decision.immediate and decision.severity is not None and (decision.severity < rulebook.quiet.below_severity)
    )


def no_longer_waits(decision: Decision, before: Decision, rulebook: Rulebook) -> bool:
    """What post-holders were told may have waited for the end of quiet hours, and is too grave for that now."""
    return holders_are_told(before) and may_wait(before, rulebook) and not may_wait(decision, rulebook)

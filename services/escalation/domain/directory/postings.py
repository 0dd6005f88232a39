"""What recording where officers and devices are posted adds, and what it supersedes. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.escalation.domain.directory.diff import Ended, NewId, Plan
from services.escalation.domain.directory.model import Posting, day_start
from services.escalation.domain.directory.schemas import Note, Numbered, PostingRow
from shared.clock import local


def plan_postings(
    rows: Sequence[Numbered[PostingRow]], recorded: Sequence[Posting], now: datetime, new_id: NewId
) -> Plan[Posting]:
    """Plan what the rows change. Postings may overlap. `recorded`: what is recorded now for the subjects they name."""
    plan = Plan[Posting]()
    same = {_stay(posting): posting for posting in recorded}
    for line, row in rows:
        new = posting_of(row, new_id(), now)
        old = same.get(_stay(new))
        if row.withdrawn:
            if old is None:
                plan.notes.append(Note("no such posting is recorded: there is nothing to withdraw", line, "postings"))
            else:
                plan.ended.append(Ended(("postings", line), old))
        elif old is None or shown_posting(old) != shown_posting(new):
            plan.added.append((("postings", line), new))
            plan.ended += [Ended(("postings", line), old, by=new)] if old is not None else []
    return plan


def posting_of(row: PostingRow, posting_id: str, now: datetime) -> Posting:
    taken = ("unit_code", "unit_valid_from", "subject", "document", "sample")
    return Posting(
        posting_id=posting_id,
        valid_from=day_start(row.valid_from),
        valid_to=day_start(row.valid_to) if row.valid_to else None,
        recorded_at=now,
        **{name: getattr(row, name) for name in taken},
    )


def _stay(posting: Posting) -> tuple[Any, ...]:
    return (posting.unit_key, posting.subject, posting.valid_from)


def shown_posting(posting: Posting) -> dict[str, Any]:
    return {
        "unit_code": posting.unit_code,
        "unit_valid_from": posting.unit_valid_from.isoformat(),
        "subject": posting.subject,
        "valid_from": _day(posting.valid_from),
        "valid_to": _day(posting.valid_to) if posting.valid_to else None,
        "document": posting.document,
        "sample": posting.sample,
    }


def _day(at: datetime) -> str:
    return local(at).date().isoformat()

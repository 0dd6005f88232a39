"""What whoever comes on duty is told (giao ca): one message with what is open and waits for them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.escalation.domain.notices.wording import SHORT_BUNDLE, clock_text, short_labels, template
from shared.clock import local

SHIFT = "shift"
"""Purpose of the notices that tell whoever comes on duty."""
OFFICE_NAMES = {
    "desk": ("trực ban thành phố", "the city duty desk"),
    "leadership": ("lãnh đạo thành phố", "the city leadership"),
}


@dataclass(frozen=True)
class WaitingIncident:
    """An open incident that waits for whoever comes on duty."""

    number: str
    """Its short number."""
    category: str
    place: str
    occurred_at: datetime
    severity: int | None
    tasks: tuple[str, ...]
    """What they have to do, as obligations name it. For a ward: what its post-holders have to."""
    due_at: datetime
    """By when the first of it has to be done."""


@dataclass(frozen=True)
class Counts:
    open: int
    """How many incidents are open, whoever they wait for."""
    waiting: int
    """How many of them wait for whoever comes on duty."""


def words(
    level: str, ward: tuple[str, str], incidents: Sequence[WaitingIncident], counts: Counts, now: datetime
) -> tuple[str, str]:
    """Return the title and body. `ward`: kind and name. `incidents`: the first that wait, the soonest due first.

    As many incidents are listed as fit; the rest is counted.
    """
    vi, en = OFFICE_NAMES.get(level) or (" ".join(ward), ward[1])
    today = local(now).date()
    said = {"counts": counts, "now": local(now), "due": clock_text(incidents[0].due_at, today)}
    first = template("shift.vi").render(said, office=vi)
    last = template("shift.en").render(said, office=en)
    room = SHORT_BUNDLE - len(first) - len(last) - 2
    lines: list[str] = []
    for number, incident in enumerate(incidents, 1):
        line = template("shift_line").render(
            number=number,
            label=short_labels(incident.category)[0],
            occurred=local(incident.occurred_at),
            incident=incident,
            due=clock_text(incident.due_at, today),
        )
        if lines and len(line) + 1 > room:
            break
        lines.append(line)
        room -= len(line) + 1
    if len(lines) < counts.waiting:
        lines.append(template("bundle_rest").render(count=counts.waiting - len(lines)))
    return template("shift_title").render(said, office=vi), "\n".join([first, *lines, last])

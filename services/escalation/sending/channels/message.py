"""What every channel is given, and how it reports a failure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from services.escalation.domain.directory.model import DESK, LEADERSHIP
from services.escalation.domain.incidents.obligations import TASK_OF
from services.escalation.domain.notices import wording
from services.escalation.domain.notices.channel_test import CHANNEL_TEST
from services.escalation.domain.notices.message import DueDelivery, Message

SendOutcome = Literal["sent", "delivered"]
"""`sent`: handed over. `delivered`: the peer says that it has received it."""
LONG = 10_000
"""Characters of a text on a channel that does not limit them."""
ROOMY = 2_000
"""A channel that takes fewer characters is one for short texts."""
ACKNOWLEDGED = frozenset({"accountable", "reminder", "still_open", "not_acknowledged", "escalated", CHANNEL_TEST})
"""Purposes of notices that ask their recipient for an acknowledgement."""


def asks_to_acknowledge(delivery: DueDelivery) -> bool:
    """Return whether the notice asks its recipient for an acknowledgement.

    Of a task that is overdue the desk is asked for the task, and an office above it for an acknowledgement.
    """
    is_overdue_task = delivery.purpose in TASK_OF and delivery.recipient == LEADERSHIP
    return delivery.purpose in ACKNOWLEDGED or is_overdue_task


class DeliveryError(Exception):
    """A channel did not take a message. The text shows only the scheme.

    `final`: it never will. `retry_after`: no attempt before that.
    """

    def __init__(self, text: str, *, final: bool = False, retry_after: timedelta | None = None) -> None:
        super().__init__(text)
        self.final, self.retry_after = final, retry_after


@dataclass(frozen=True)
class Outgoing:
    """A message, the links at which its notices can be acknowledged, by notice id, and the desk's telephone."""

    message: Message
    links: Mapping[str, str]
    desk_telephone: str | None = None

    @property
    def message_id(self) -> str:
        return self.message.message_id

    @property
    def deliveries(self) -> tuple[DueDelivery, ...]:
        return self.message.deliveries

    def text(self, room: int = LONG) -> tuple[str, str]:
        """Return the title and body. `room`: how many characters the channel takes.

        A bundle lists as many incidents as fit, with links if there are at least ROOMY characters.
        """
        first, *others = self.deliveries
        telephone = None if first.recipient == DESK else self.desk_telephone
        if not others:
            due_at = first.listed.due_at if first.listed else None
            lines = wording.references(first.incident_id, due_at, self.links.get(first.notice_id), telephone)
            return first.title, "\n".join([first.body, *lines])
        listed = [d.listed for d in self.deliveries if d.listed]
        under = wording.references(None, None, None, telephone)
        limit = min(room, wording.SHORT_BUNDLE if room < ROOMY else LONG) - sum(len(line) + 1 for line in under)
        title, body = wording.bundle(listed, limit, None if room < ROOMY else self._link_lines())
        return title, "\n".join([body, *under])

    def _link_lines(self) -> dict[str, str]:
        return {n: line for n, link in self.links.items() for line in wording.references(None, None, link, None)}

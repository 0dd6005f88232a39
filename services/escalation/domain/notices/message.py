"""A message to one contact: the deliveries that it carries, and how an attempt to send it ended. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.escalation.domain.notices.delivery_state import AttemptOutcome
from services.escalation.domain.notices.wording import Listed

LEASE = timedelta(seconds=20)
"""How long a sender has. After that the outcome counts as unknown, and the delivery is sent again."""


@dataclass(frozen=True)
class DueDelivery:
    """A delivery that was claimed, with all that its message needs."""

    delivery_id: str
    notice_id: str
    incident_id: str | None
    """None for a test of a channel, and for what whoever comes on duty is told."""
    recipient: str
    purpose: str
    posts: list[str]
    channel: str
    title: str
    body: str
    exercise: bool
    issued_at: datetime
    attempts: int
    """Number of attempts, with the one that this claim begins."""
    listed: Listed | None
    """What a bundle says about it. Without an incident it is never in one."""
    notice_event: str | None
    """Id of the event that recorded the notice."""
    bundle_id: str | None = None
    due_at: datetime | None = None
    person: str | None = None
    """Of a notice to an office: whose channel it is, if it is that of one person on duty there."""


@dataclass(frozen=True)
class Message:
    """What is sent to one contact at once: one notice, or several that share a bundle.

    Once it was tried it is sent again as it was, until it is taken or given up, or nothing in it need be sent.
    """

    deliveries: tuple[DueDelivery, ...]
    """Those that are still to be brought. A retry of a bundle may carry others too, which were answered meanwhile."""
    content: bytes | None = None
    """What is sent under its id each time. None on a channel whose messages have no id, or before it is composed."""

    @property
    def channel(self) -> str:
        return self.deliveries[0].channel

    @property
    def bundle_id(self) -> str | None:
        return self.deliveries[0].bundle_id

    @property
    def message_id(self) -> str:
        """An id that is the same each time, and that stands for one content."""
        return self.bundle_id or self.deliveries[0].delivery_id

    @property
    def attempts(self) -> int:
        return max(d.attempts for d in self.deliveries)


@dataclass(frozen=True)
class Attempt:
    """How one attempt to send a message ended."""

    message: Message
    outcome: AttemptOutcome
    at: datetime
    error: str | None = None
    wait: timedelta = timedelta(0)
    """After a failed attempt: how long until the next one."""

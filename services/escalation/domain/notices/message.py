"""A message to one contact: the deliveries that it carries, and how an attempt to send it ended. Pure."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.escalation.domain.notices.delivery_state import AttemptOutcome
from services.escalation.domain.notices.wording import Listed

LEASE = timedelta(seconds=20)
"""How long a delivery may be under way before its outcome counts as unknown and it is sent again."""


@dataclass(frozen=True)
class DueDelivery:
    delivery_id: str
    notice_id: str
    incident_id: str
    recipient: str
    purpose: str
    posts: list[str]
    channel: str
    title: str
    body: str
    exercise: bool
    issued_at: datetime
    attempts: int
    """Including the one that this claim begins."""
    listed: Listed
    bundle_id: str | None = None


@dataclass(frozen=True)
class Message:
    """What goes out at once to one contact: one notice, or several that share a bundle."""

    deliveries: tuple[DueDelivery, ...]

    @property
    def channel(self) -> str:
        return self.deliveries[0].channel

    @property
    def bundle_id(self) -> str | None:
        return self.deliveries[0].bundle_id

    @property
    def message_id(self) -> str:
        """The same whenever the same is sent again. Not the bundle's: who got it whole drops no part of it unread."""
        ids = sorted(d.delivery_id for d in self.deliveries)
        return ids[0] if len(ids) == 1 else f"bundle-{hashlib.sha256(','.join(ids).encode()).hexdigest()[:32]}"

    @property
    def attempts(self) -> int:
        return max(d.attempts for d in self.deliveries)


@dataclass(frozen=True)
class Attempt:
    """How the sending of a message ended."""

    message: Message
    outcome: AttemptOutcome
    at: datetime
    error: str | None = None
    wait: timedelta = timedelta(0)
    """Of a failed one: until it is tried again."""

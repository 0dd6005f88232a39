"""A message to one contact: the deliveries that it carries, and how an attempt to send it ended. Pure."""

import hashlib
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
    """Number of attempts, with the one that this claim begins."""
    listed: Listed
    bundle_id: str | None = None


@dataclass(frozen=True)
class Message:
    """What is sent to one contact at once: one notice, or several that share a bundle."""

    deliveries: tuple[DueDelivery, ...]

    @property
    def channel(self) -> str:
        return self.deliveries[0].channel

    @property
    def bundle_id(self) -> str | None:
        return self.deliveries[0].bundle_id

    @property
    def message_id(self) -> str:
        """An id that is the same whenever the same deliveries are sent again.

        It is not the bundle's id. A retry may carry only a part of the bundle, and a receiver that drops ids it knows
        must not drop that part.
        """
        ids = sorted(d.delivery_id for d in self.deliveries)
        return ids[0] if len(ids) == 1 else f"bundle-{hashlib.sha256(','.join(ids).encode()).hexdigest()[:32]}"

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

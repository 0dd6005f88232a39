"""The states of a delivery, which brings one notice over one channel. Pure.

queued → sending → sent | delivered | failed | given_up. A failed one is sent again. A queued or failed one may be
cancelled.
"""

from typing import Literal

DeliveryState = Literal["queued", "sending", "failed", "sent", "delivered", "given_up", "cancelled"]
AttemptOutcome = Literal["sent", "delivered", "failed", "given_up"]
"""How one attempt to send a message ends."""

QUEUED: DeliveryState = "queued"
SENDING: DeliveryState = "sending"
FAILED: DeliveryState = "failed"
"""The last attempt failed, and another one follows."""
GIVEN_UP: DeliveryState = "given_up"
CANCELLED: DeliveryState = "cancelled"
WAITING: tuple[DeliveryState, ...] = (QUEUED, FAILED)
"""States in which a delivery may still be cancelled."""
UNFINISHED: tuple[DeliveryState, ...] = (QUEUED, SENDING, FAILED)
GOT_THROUGH: tuple[DeliveryState, ...] = ("sent", "delivered")

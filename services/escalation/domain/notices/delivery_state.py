"""The states of a delivery, which brings one notice over one channel. Pure.

queued → sending → sent or delivered; → failed → sending again, or given_up; queued or failed → cancelled.
"""

from typing import Literal

DeliveryState = Literal["queued", "sending", "failed", "sent", "delivered", "given_up", "cancelled"]
AttemptOutcome = Literal["sent", "delivered", "failed", "given_up"]
"""How the sending of a message ends."""

QUEUED: DeliveryState = "queued"
SENDING: DeliveryState = "sending"
FAILED: DeliveryState = "failed"
"""To be tried again."""
GIVEN_UP: DeliveryState = "given_up"
CANCELLED: DeliveryState = "cancelled"
WAITING: tuple[DeliveryState, ...] = (QUEUED, FAILED)
"""May still be called off."""
UNFINISHED: tuple[DeliveryState, ...] = (QUEUED, SENDING, FAILED)
GOT_THROUGH: tuple[DeliveryState, ...] = ("sent", "delivered")

"""Messages to send over a channel, and a sender that does not wait long."""

import base64
from collections.abc import Awaitable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation.domain.notices.message import DueDelivery, Message
from services.escalation.domain.notices.wording import Listed
from services.escalation.sending.channels import DeliveryError, Sender
from services.escalation.sending.channels.mail import Mail
from services.escalation.sending.channels.webhook import Webhooks
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.support import CHAIR, NIGHT, new_id

SECRET = base64.b64encode(bytes(range(24))).decode()
CHAIR_ID = "mau-14776-chu-tich"


def due(channel: str, **changes: Any) -> DueDelivery:
    """One notice to the chair of Ba Đình, as it is leased."""
    notice_id, incident_id = new_id(), changes.pop("incident_id", None) or new_id()
    purpose = changes.pop("purpose", "accountable")
    listed = Listed(
        notice_id=notice_id,
        incident_id=incident_id,
        purpose=purpose,
        category="FIRE",
        limb="serious",
        place="phường Ba Đình",
        occurred_at=NIGHT,
        severity=3,
        provisional=False,
        exercise=False,
        applies=True,
        version="2023-01-06.1",
        due_at=NIGHT + timedelta(minutes=10),
    )
    plain: dict[str, Any] = {
        "delivery_id": new_id(),
        "notice_id": notice_id,
        "incident_id": incident_id,
        "recipient": CHAIR_ID,
        "purpose": purpose,
        "posts": [CHAIR],
        "channel": channel,
        "title": "Cháy, P.Ba Đình, mức 3 · cần xác nhận",
        "body": "Cháy, phường Ba Đình.\nFire, Ba Đình.",
        "exercise": False,
        "issued_at": NIGHT,
        "attempts": 1,
        "listed": listed,
        "notice_event": new_id(),
    }
    return DueDelivery(**(plain | changes))


def single(channel: str, **changes: Any) -> Message:
    return Message((due(channel, **changes),))


def bundled(channel: str, count: int) -> Message:
    return Message(tuple(due(channel, bundle_id="goi-1") for _ in range(count)))


def sender(**more: Any) -> Sender:
    return Sender(Path("unused"), TO_THIS_MACHINE, webhooks=Webhooks(seconds=0.2), mail=Mail(seconds=0.2), **more)


def link(notice_id: str, recipient: str, issued_at: datetime) -> str:
    assert issued_at == NIGHT
    return f"https://trucban/{notice_id}/{recipient}"


async def refused(sending: Awaitable[object]) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await sending
    return caught.value

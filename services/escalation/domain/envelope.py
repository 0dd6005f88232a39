"""What every event of this service carries around its data (CloudEvents 1.0)."""

from datetime import datetime
from typing import TypedDict

SOURCE = "/trucban/escalation"


class Envelope(TypedDict):
    """The attributes of a CloudEvent beside its type and data."""

    id: str
    source: str
    subject: str
    time: datetime


def envelope(event_id: str, subject: str, now: datetime) -> Envelope:
    return {"id": event_id, "source": SOURCE, "subject": subject, "time": now}

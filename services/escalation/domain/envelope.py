"""The CloudEvents 1.0 attributes that every event of this service carries beside its data."""

from datetime import datetime
from typing import TypedDict

SOURCE = "/trucban/escalation"


class Envelope(TypedDict):
    """The attributes of a CloudEvent except its type and data."""

    id: str
    source: str
    subject: str
    time: datetime


def envelope(event_id: str, subject: str, now: datetime) -> Envelope:
    return {"id": event_id, "source": SOURCE, "subject": subject, "time": now}

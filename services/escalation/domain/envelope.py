"""What every event of this service carries around its data (CloudEvents 1.0)."""

from datetime import datetime
from typing import Any

SOURCE = "/trucban/escalation"


def envelope(event_id: str, subject: str, now: datetime) -> dict[str, Any]:
    return {"id": event_id, "source": SOURCE, "subject": subject, "time": now}

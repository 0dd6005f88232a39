"""Events of intake."""

from typing import Literal

from pydantic import (
    AwareDatetime,
)

from shared.commitment import Committed
from shared.events.common import Data, Envelope, Evidence, Firecracker, Harm, Source


class ReportReceivedData(Data):
    report_id: str
    received_at: AwareDatetime
    captured_at: AwareDatetime | None = None
    from_source: Source
    harm: Harm | None = None
    firecracker: Firecracker | None = None
    evidence: tuple[Evidence, ...] = ()
    neighbourhood: Committed | None = None
    location: Committed | None = None
    """JSON text `{"latitude", "longitude", "accuracy_m"?}`, degrees WGS 84 and metres."""
    description: Committed | None = None
    reporter_commitment: str | None = None
    """Commitment to the reporter's name and phone number. Value and salt stay encrypted in intake."""
    exercise: bool = False
    clock_ahead: bool = False
    """At receipt `occurred_at` was later than our clock allows: the sender's clock is wrong."""


class ReportReceived(Envelope):
    type: Literal["vn.trucban.report.received.v1"] = "vn.trucban.report.received.v1"
    data: ReportReceivedData

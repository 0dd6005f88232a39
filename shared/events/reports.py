"""Events of intake."""

from typing import Literal

from pydantic import (
    AwareDatetime,
)

from shared.commitment import Committed
from shared.events.common import Data, Envelope, Evidence, Firecracker, Harm, Source


class ReportReceivedData(Data):
    report_id: str
    """`.v1`: the id that the sender gave. `.v2`: ours."""
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


class ReportReceivedV2Data(ReportReceivedData):
    """`report_id` is ours, and `from_source` has the sender's pseudonym."""

    sender_report_id: Committed | None = None
    """The id that the sender gave. They may have put anything into it, a telephone number too."""


class ReportReceivedV2(Envelope):
    type: Literal["vn.trucban.report.received.v2"] = "vn.trucban.report.received.v2"
    data: ReportReceivedV2Data


AnyReport = ReportReceived | ReportReceivedV2
"""A report in each form that intake ever sent."""

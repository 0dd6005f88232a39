"""Events of what people looked at, where looking is to be answered for."""

from typing import Literal

from shared.commitment import Committed
from shared.events.common import Data, Envelope


class AccessRecordedData(Data):
    """`who` was shown something that is shown with a reason only."""

    what: Literal["senders"]
    """senders: the credentials of those who reported an incident, and of officers who found more about it."""
    reason: Committed


class AccessRecorded(Envelope):
    type: Literal["vn.trucban.access.recorded.v1"] = "vn.trucban.access.recorded.v1"
    data: AccessRecordedData

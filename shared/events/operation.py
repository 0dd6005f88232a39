"""Events of what an operator did to the system itself."""

from typing import Annotated, Literal

from pydantic import Field

from shared.commitment import Committed
from shared.events.common import Data, Envelope


class DeadLetterDiscardedData(Data):
    """An event that a group could not handle will not be handled by it. `cause` is that event's id, if it has one."""

    group: str
    """The service that could not handle it."""
    stream: str
    event_type: str | None = None
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the event as it was sent. Its body is not kept."""
    author: str
    """The operator, by the account of the machine on which the command was given, unless another name was given."""
    reason: Committed


class DeadLetterDiscarded(Envelope):
    type: Literal["vn.trucban.dead_letter.discarded.v1"] = "vn.trucban.dead_letter.discarded.v1"
    data: DeadLetterDiscardedData

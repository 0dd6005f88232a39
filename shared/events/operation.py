"""Events of what an operator did to the system itself."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

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


class DataRestoredData(Data):
    """Database, keys and streams were replaced by a backup. What was recorded after it was made is not there."""

    backup_made_at: AwareDatetime
    ledger_size: Annotated[int, Field(ge=0)]
    """Entries in the ledger of the backup."""
    known_size: Annotated[int, Field(ge=0)] | None = None
    """Entries that the ledger is known to have had: by the installation that was replaced, or a checkpoint that
    somebody kept. Above `ledger_size`, the entries in between are lost."""
    known_root: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The root of that checkpoint."""


class DataRestored(Envelope):
    type: Literal["vn.trucban.data.restored.v1"] = "vn.trucban.data.restored.v1"
    data: DataRestoredData

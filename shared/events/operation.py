"""Events of what an operator did to the system itself."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from shared.commitment import Committed
from shared.events.common import Data, Envelope, Frozen


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


class StreamNumbers(Frozen):
    """The numbers (`seq`) of one stream where an epoch ends. The next epoch's begin after `last`, without a gap.

    An event counts once, under whichever number the ledger got it first: of those above `handled` up to `last`, some
    were recorded under these numbers, and the others under a `moved` one.
    """

    service: str
    """The service that adds to the stream."""
    partition: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]
    """The last number that was given."""
    handled: Annotated[int, Field(ge=0)]
    """Everything up to this number had been handled by every service that reads the stream."""
    moved: Annotated[int, Field(ge=0)] = 0
    """How many events that were still owed came to this partition, as the first of the next epoch."""


class PartitionsChangedData(Data):
    """The streams were divided anew among partitions, by ward, while the services were stopped."""

    before: Annotated[int, Field(ge=1)]
    after: Annotated[int, Field(ge=1)]
    epoch: Annotated[int, Field(ge=2)]
    """The number of the epoch that begins with it."""
    streams: tuple[StreamNumbers, ...]
    """Of every stream that there was or is. What left one for another adds up: the sum of `last` less `handled` is the
    sum of `moved`, for each service."""
    author: str
    """The operator, by the account of the machine on which the command was given, unless another name was given."""


class PartitionsChanged(Envelope):
    type: Literal["vn.trucban.partitions.changed.v1"] = "vn.trucban.partitions.changed.v1"
    data: PartitionsChangedData


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
    epoch: Annotated[int, Field(ge=2)] | None = None
    """The number of the epoch that begins with it. A number above a stream's `last` may have been given once before, to
    an event that is lost."""
    streams: tuple[StreamNumbers, ...] = ()
    """Of every stream. What is still owed keeps its numbers."""


class DataRestored(Envelope):
    type: Literal["vn.trucban.data.restored.v1"] = "vn.trucban.data.restored.v1"
    data: DataRestoredData

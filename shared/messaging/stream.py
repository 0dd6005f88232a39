"""What the relay, and whoever asks how far the groups are, need of a broker."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True)
class GroupState:
    """How far one group is, in entry numbers."""

    delivered: int
    """The highest number that was handed to the group."""
    pending: int
    """How many entries were handed to the group and are not acknowledged."""
    first_pending: int | None
    """The lowest number among those; None if there are none."""
    handled: int | None
    """Every entry up to this number was acknowledged by a consumer of the group that had handled it. None: no relay
    has said yet where the numbers begin."""

    @property
    def passed(self) -> int:
        """The broker owes the group nothing up to this number: it was acknowledged, or it was lost."""
        return self.delivered if self.first_pending is None else self.first_pending - 1

    def has_all(self, last: int) -> bool:
        """Whether nothing up to the number `last` is owed to the group."""
        return not self.pending and self.delivered >= last and (self.handled is None or self.handled >= last)


class StoredEntry(NamedTuple):
    """An entry as it lies in a stream, whoever appended it."""

    number: int | None
    """None if its id is not one that a relay gives."""
    body: bytes
    mac: bytes


@dataclass(frozen=True)
class StreamState:
    """A stream and its groups at one moment. A stream that does not exist ends at number 0 and has no groups."""

    last_id: str
    last_number: int
    """The number in `last_id`. Two ids may share a number when somebody else has written to the stream."""
    last_entry: StoredEntry | None
    """The last entry. None if it was deleted."""
    groups: Mapping[str, GroupState]
    """Those that exist."""


class OutboxRow(NamedTuple):
    """An event as a relay publishes it."""

    number: int
    body: bytes
    since: int
    """When it was stored, in milliseconds since 1970, by the clock of the database."""
    mac: bytes


class Stream(Protocol):
    """One stream and the groups that must acknowledge its entries. Methods raise what the broker's client raises."""

    @property
    def name(self) -> str: ...

    @property
    def groups(self) -> Sequence[str]: ...

    async def create_groups(self) -> None:
        """Create the groups that are missing, and the stream. A new group begins with the stream's first entry."""
        ...

    async def state(self) -> StreamState: ...

    async def append(self, after: str, rows: Sequence[OutboxRow]) -> str | None:
        """Append events to the stream whose last id is `after`.

        Returns the new last id. Returns None, with nothing appended, if the last id was another. If this raises, the
        first of the events may have been appended, never one without those before it.
        """
        ...

    async def missing(self, numbers: Sequence[int]) -> bool:
        """Whether the stream lacks the entry of one of these numbers."""
        ...

    async def raise_handled(self, number: int) -> None:
        """Nothing up to this number is owed to any group. A group that has handled more keeps that."""
        ...

    async def restart(self, last_id: str) -> None:
        """Empty the stream, if its last id is this one. Each group then begins after what it has handled."""
        ...

    async def trim(self, up_to: int) -> None:
        """Delete all entries up to this number."""
        ...

    async def count_dead(self) -> int:
        """Dead letters of this stream that the broker holds, of all groups."""
        ...

    async def idle_ms(self, group: str) -> int:
        """Since the group's oldest pending entry was last handed out; 0 if nothing is pending."""
        ...


class Broker(Protocol):
    def stream(self, name: str, groups: Sequence[str]) -> Stream:
        """The stream of this name, whether it exists or not. Asks the broker nothing."""
        ...

    async def ring(self, outbox: str) -> None:
        """Tell all processes that follow `rings` of this outbox that it has new rows. Nothing is kept for others."""
        ...

    def rings(self, outbox: str) -> AsyncIterator[None]:
        """Yields when somebody has rung, and first when it begins to listen. Does not end by itself."""
        ...

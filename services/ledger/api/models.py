"""What the ledger's routes take and answer."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.ledger.domain.projection import short_kind
from services.ledger.store.queries import Filter
from shared.http import cursor as cursors
from shared.http.cursor import Instant
from shared.http.fields import Answer, Category, Page, Sha256

# U+0000 is no text for PostgreSQL
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class EntriesQuery(BaseModel):
    """An unknown parameter is refused: a mistyped filter must not look like a complete answer."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    incident: Name | None = None
    ward: Name | None = None
    category: Name | None = None
    official: Name | None = None
    kind: Name | None = None
    """`report.received`, with or without prefix and version."""
    occurred_from: Instant | None = None
    occurred_to: Instant | None = None
    recorded_from: Instant | None = None
    recorded_to: Instant | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: cursors.Limit = 50
    cursor: str | None = None

    def wanted(self) -> Filter:
        return Filter(
            incident=self.incident,
            ward=self.ward,
            category=self.category,
            official=self.official,
            kind=short_kind(self.kind) if self.kind else None,
            occurred_from=self.occurred_from,
            occurred_to=self.occurred_to,
            recorded_from=self.recorded_from,
            recorded_to=self.recorded_to,
        )


class EntryBody(Answer):
    """The event as the log keeps it: canonical JSON (RFC 8785). What an event does not have is absent."""

    v: Literal[1]
    log: str
    """Origin of the log, as in its checkpoints."""
    event_id: str
    kind: str
    """Type of the event, such as `vn.trucban.report.received.v1`."""
    source: str
    subject: str
    time: AwareDatetime
    occurred_at: AwareDatetime
    recorded_at: AwareDatetime
    cause: str | None = None
    """Id of the event that caused it."""
    incident: str | None = None
    ward: str | None = None
    category: Category | None = None
    officials: list[str]
    """Ids of the holders that it names."""
    data: dict[str, Any]
    """Open: the event's data by its `kind`, as docs/schemas describes them, without personal values."""
    commit: dict[str, Sha256]
    """Commitments to the personal values, by their dotted path in `data`."""


class EntryItem(Answer):
    """One entry; the bytes of `body`, as they are in this answer, are what is hashed."""

    index: int
    """From 0, without a gap."""
    leaf_hash: Sha256
    """SHA-256 of 0x00 and the body's bytes."""
    body: EntryBody


class EntryPage(Page[EntryItem]):
    """Entries by index."""

    size: Annotated[int, Field(description="Entries in the log at the newest checkpoint.")]


class InclusionProof(Answer):
    """That an entry is in the log of `size` (RFC 9162, 2.1.3); hashes in hex."""

    index: int
    size: int
    leaf_hash: Sha256
    path: list[Sha256]
    root: Sha256
    checkpoint: str | None
    """The signed note of that size; null where none was signed."""


class ConsistencyProof(Answer):
    """That the log of size `first` is a prefix of that of size `second` (RFC 9162, 2.1.4); hashes in hex."""

    first: int
    second: int
    first_root: Sha256
    second_root: Sha256
    path: list[Sha256]

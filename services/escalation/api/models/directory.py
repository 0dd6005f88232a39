"""The directory as it was known, and what a change of it adds and supersedes."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Row

from services.escalation.application.record_directory import ImportSummary
from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.directory.differences import Difference, RecordKind
from services.escalation.domain.directory.model import Duty, Posting, Tenure
from services.escalation.domain.directory.schemas import ContactRow, PostingRow, RosterRow, TenureRow
from shared.events import UnitRef
from shared.http.fields import Answer, Page, Stored, UnitKind

MAX_ROWS = 5_000


class Recorded(Answer):
    """Rows are superseded, never changed: what was known at any time can be asked for."""

    recorded_at: AwareDatetime
    superseded_at: AwareDatetime | None


class TenureItem(Recorded):
    """One person's time in one post (nhiệm kỳ), with the document that appointed them."""

    kind: Literal["tenure"] = "tenure"
    tenure_id: str
    unit: UnitRef
    post: str
    holder_id: str
    holder_name: str
    acting: bool
    capacity: Literal["holder", "deputy"]
    """A deputy (người được ủy quyền) is told in the holder's place; the holder stays accountable."""
    reason: str | None
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    sample: bool
    """Made up, for the sample."""


class RosterItem(Recorded):
    """One person's turn of duty (lịch trực)."""

    kind: Literal["roster"] = "roster"
    roster_id: str
    level: Literal["ward", "desk", "leadership"]
    unit_code: str | None
    """Of the ward; null for the desk and the leadership."""
    unit_valid_from: date | None
    holder_id: str
    holder_name: str
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime
    sample: bool
    """Made up, for the sample."""


class PostingItem(Recorded):
    """Where an officer or a device is posted."""

    kind: Literal["posting"] = "posting"
    posting_id: str
    unit_code: str
    unit_valid_from: date
    subject: str
    """Of their credential."""
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    sample: bool
    """Made up, for the sample."""


class UnitItem(Recorded):
    """A ward or commune."""

    kind: Literal["unit"] = "unit"
    type: UnitKind
    code: str
    valid_from: date
    valid_to: date | None
    name: str
    successors: list[Annotated[dict[str, Any], Stored(UnitRef)]]
    """Of a unit that ended: one took its place whole, several took parts of it."""
    legal_act: str | None


class ContactItem(Recorded):
    """A channel at which a person is told."""

    kind: Literal["contact"] = "contact"
    channel: str
    """Its scheme only: the rest is an address or a secret."""
    holder_id: str
    quiet_from: str | None
    """HH:MM of the city; the quiet hours may pass midnight."""
    quiet_to: str | None


Item = TenureItem | RosterItem | PostingItem | UnitItem | ContactItem


class DirectoryPage(Page[Annotated[Item, Field(discriminator="kind")]]):
    """What was so at `as_of`, as it was known at `known_at`: one kind of record."""


def tenure_item(tenure: Tenure) -> TenureItem:
    return TenureItem(**{name: getattr(tenure, name) for name in TenureItem.model_fields if name != "kind"})


def roster_item(duty: Duty) -> RosterItem:
    return RosterItem(**{name: getattr(duty, name) for name in RosterItem.model_fields if name != "kind"})


def posting_item(posting: Posting) -> PostingItem:
    return PostingItem(**{name: getattr(posting, name) for name in PostingItem.model_fields if name != "kind"})


def unit_item(row: Row[Any]) -> UnitItem:
    names = (name for name in UnitItem.model_fields if name not in ("kind", "type"))
    return UnitItem(type=row.kind, **{name: getattr(row, name) for name in names})


def contact_item(row: Row[Any]) -> ContactItem:
    names = (name for name in ContactItem.model_fields if name not in ("kind", "channel"))
    return ContactItem(channel=scheme(row.channel), **{name: getattr(row, name) for name in names})


class Rows(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TenureRows(Rows):
    rows: Annotated[list[TenureRow], Field(min_length=1, max_length=MAX_ROWS)]


class RosterRows(Rows):
    rows: Annotated[list[RosterRow], Field(min_length=1, max_length=MAX_ROWS)]


class PostingRows(Rows):
    rows: Annotated[list[PostingRow], Field(min_length=1, max_length=MAX_ROWS)]


class ContactRows(Rows):
    """All channels of each person that is named."""

    rows: Annotated[list[ContactRow], Field(min_length=1, max_length=MAX_ROWS)]


class UnitRecord(Answer):
    """A unit, as a wards file has it."""

    code: str
    valid_from: date
    name: str
    type: UnitKind
    valid_to: date | None
    successors: str | None
    """`CODE/VALID_FROM`, several with a space between."""
    legal_act: str | None


class TenureRecord(Answer):
    """A tenure, as its row has it."""

    unit_code: str
    unit_valid_from: date
    post: str
    capacity: Literal["holder", "deputy"]
    holder_id: str
    holder_name: str
    acting: bool
    reason: str | None
    document: str
    valid_from: date
    valid_to: date | None
    sample: bool


class RosterRecord(Answer):
    """A turn of duty, as its row has it."""

    level: Literal["ward", "desk", "leadership"]
    unit_code: str | None
    unit_valid_from: date | None
    holder_id: str
    holder_name: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime
    document: str
    sample: bool


class PostingRecord(Answer):
    """A posting, as its row has it."""

    unit_code: str
    unit_valid_from: date
    subject: str
    valid_from: date
    valid_to: date | None
    document: str
    sample: bool


class ContactRecord(Answer):
    """A channel of a person, by its scheme: the rest is an address or a secret."""

    holder_id: str
    channel: str
    quiet_from: str | None
    quiet_to: str | None


Record = Annotated[dict[str, Any], Stored(UnitRecord | TenureRecord | RosterRecord | PostingRecord | ContactRecord)]


class Added(Answer):
    """A record that a row adds."""

    kind: RecordKind
    row: int
    """Place of the row in the request, from 0."""
    record: Record


class Superseded(Added):
    """A record that a row supersedes."""

    became: list[dict[str, tuple[Any, Any]]]
    """For each record in its place, what is other there: old, new. Empty: nothing is in its place."""


class Remark(Answer):
    """What is not wrong, but should be looked at."""

    row: int | None
    """Null where it is about no single row."""
    detail: str


class Changed(Answer):
    """What was recorded, or would be."""

    dry_run: bool
    rows: int
    recorded: int
    """Rows that change something."""
    unchanged: int
    added: list[Added]
    superseded: list[Superseded]
    notes: list[Remark]


def changed(done: ImportSummary) -> Changed:
    return Changed(
        dry_run=done.dry_run,
        rows=done.lines,
        recorded=done.recorded,
        unchanged=done.unchanged,
        added=[Added(**_shown(d)) for d in done.differences if d.change == "added"],
        superseded=[
            Superseded(**_shown(d), became=list(d.became)) for d in done.differences if d.change == "superseded"
        ],
        notes=[Remark(row=n.line, detail=n.detail) for n in done.notes],
    )


def _shown(difference: Difference) -> dict[str, Any]:
    return {"kind": difference.kind, "row": difference.place[1], "record": difference.record}

"""Rows of the directory, as a line of a file or an item of a request gives them. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from services.escalation.domain.directory.channel_form import form_error, is_file
from services.escalation.domain.directory.model import OFFICES, Contact, UnitKey
from shared.clock import HO_CHI_MINH
from shared.text import clean_line, kind_of_unit
from shared.unit_kinds import unit_kinds

Table = Literal["units", "tenures", "rosters", "postings", "contacts"]
Place = tuple[Table, int]
"""(table, number): the number of a line in a file, or the index of a row in a request, from 0."""
YEARS = range(1900, 2201)
"""A day outside of these years is a typing error, and some such days have no date in UTC."""
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):[0-5][0-9]")


def _code(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{5}", value.strip()):
        raise ValueError("not a code of five digits: a spreadsheet drops leading zeros, so make the column text")
    return value


def _day(value: Any) -> Any:
    """Accept one notation only. Then a day is never confused with a month, nor a number with a day."""
    if isinstance(value, datetime):
        if value.time() != time.min:
            raise ValueError("a day, not a time of day: leave the time out")
        return value.date()
    if not isinstance(value, date) and not (isinstance(value, str) and _DAY.fullmatch(value.strip())):
        raise ValueError("write the day as YYYY-MM-DD, such as 2023-01-22")
    return value


def _plausible(value: date) -> date:
    if value.year not in YEARS:
        raise ValueError(f"the year is {value.year}: use one from {YEARS[0]} to {YEARS[-1]}")
    return value


def _instant(value: Any) -> Any:
    if isinstance(value, str):
        if not _INSTANT.fullmatch(value.strip()):
            raise ValueError("write the time as 2023-01-21 18:00, which is the city's, or with an offset")
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(f"no such time: {error}") from error
    if not isinstance(value, datetime):
        raise ValueError("write the time as 2023-01-21 18:00, which is the city's, or with an offset")
    return value if value.tzinfo else value.replace(tzinfo=HO_CHI_MINH)


def _time_of_day(value: Any) -> Any:
    if isinstance(value, timedelta):  # under some formats a spreadsheet stores a time of day as a duration
        midnight = datetime.combine(date.min, time.min)
        value = (midnight + value).time() if timedelta(0) <= value < timedelta(days=1) else str(value)
    if isinstance(value, str):
        if not _TIME.fullmatch(value.strip()):
            raise ValueError("write the time of day as HH:MM, such as 22:00")
        hour, _, minute = value.strip().partition(":")
        return time(int(hour), int(minute))
    return value


def _channel(value: str) -> str:
    """Check a channel. An error never quotes it: beyond the scheme it is an address or a secret."""
    if (error := form_error(value)) is not None:
        raise ValueError(error)
    return value


def _successors(value: Any) -> Any:
    """Parse `CODE/VALID_FROM`, several with a space between them."""
    if not isinstance(value, str):
        return value
    found: list[UnitKey] = []
    for word in value.split():
        code, _, day = word.partition("/")
        if not re.fullmatch(r"[0-9]{5}", code) or not _DAY.fullmatch(day):
            raise ValueError("write successors as CODE/VALID_FROM, such as 14758/2025-07-01, with a space between")
        found.append((code, date.fromisoformat(day)))
    return tuple(found)


def _kind(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = kind_of_unit(value)
    if found is None:
        raise ValueError(f"{value[:40]!r} is no kind of unit: use one of {', '.join(unit_kinds())}")
    return found


def _lower(value: Any) -> Any:
    """Accept capitals in a word of ours, as in the name of a place."""
    return value.strip().lower() if isinstance(value, str) else value


def _person(value: str) -> str:
    if value in OFFICES:
        raise ValueError(f"{value} is an office, not a person: choose another id")
    return value


Code = Annotated[str, Field(pattern=r"^[0-9]{5}$"), BeforeValidator(_code)]
Day = Annotated[date, BeforeValidator(_day), AfterValidator(_plausible)]
Instant = Annotated[datetime, BeforeValidator(_instant), AfterValidator(_plausible)]
TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]
Channel = Annotated[str, Field(max_length=500), AfterValidator(_channel)]
"""Where a person is notified: `mailto:ADDRESS`, `sms:NUMBER`, or a URL."""
HolderId = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_person)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
UnitKind = Annotated[str, BeforeValidator(_kind)]
Level = Annotated[Literal["ward", "desk", "leadership"], BeforeValidator(_lower)]
Capacity = Annotated[Literal["holder", "deputy"], BeforeValidator(_lower)]
Document = Annotated[str, Field(min_length=1, max_length=300)]


class Row(BaseModel):
    """A row. It has no unknown fields, and its text has no invisible characters."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @field_validator("*", mode="before")
    @classmethod
    def _printable(cls, value: Any) -> Any:
        return clean_line(value) if isinstance(value, str) else value


R = TypeVar("R", bound=Row)
Numbered = tuple[int, R]
"""(number, row): the number of a line in a file, or the index of a row in a request."""


class UnitRow(Row):
    """A line of a wards file. A column that the file does not have keeps its recorded value."""

    code: Code
    valid_from: Day
    name: Annotated[str, Field(min_length=1, max_length=100)]
    type: UnitKind
    valid_to: Day | None = None
    successors: Annotated[tuple[UnitKey, ...] | None, BeforeValidator(_successors)] = None
    """For a unit that ended: one successor took its place whole, or several took parts of it."""
    legal_act: Document | None = None
    name_ascii: str | None = None

    @property
    def key(self) -> UnitKey:
        return (self.code, self.valid_from)


def _to_a_person(channel: str | None, *, sample: bool) -> None:
    """Raises ValueError."""
    if channel is not None and is_file(channel) and not sample:
        raise ValueError("outbox: not a channel to a person, but a file: only rows of a sample may have it")


class TenureRow(Row):
    """Who holds a post. Days are the city's. `valid_to` is the first day on which they no longer hold it.

    A row for the same person in the same post from the same day is the same tenure: it replaces the recorded one.
    """

    unit_code: Code
    unit_valid_from: Day
    post: Annotated[str, Field(pattern=r"^[a-z_]+$", max_length=50), BeforeValidator(_lower)]
    holder_id: HolderId
    holder_name: Name
    acting: bool = False
    capacity: Capacity = "holder"
    """A deputy (người được ủy quyền) is notified in the holder's place; the holder stays accountable."""
    reason: Document | None = None
    valid_from: Day
    valid_to: Day | None = None
    document: Document
    channel: Channel | None = None
    """A person's rows give all channels of that person. Rows without a channel leave the recorded ones."""
    sample: bool = False
    """It is invented. Only then may the channel be a file."""
    withdrawn: bool = False
    """The tenure never existed. Its record is withdrawn."""

    @model_validator(mode="after")
    def _channel_is_to_a_person(self) -> Self:
        _to_a_person(self.channel, sample=self.sample)
        return self

    @property
    def unit_key(self) -> UnitKey:
        return (self.unit_code, self.unit_valid_from)


class RosterRow(Row):
    """A turn of duty (lịch trực). A time without an offset is the city's. Several people may be on duty at once."""

    level: Level
    unit_code: Code | None = None
    unit_valid_from: Day | None = None
    holder_id: HolderId
    holder_name: Name
    valid_from: Instant
    valid_to: Instant
    document: Document
    channel: Channel | None = None
    sample: bool = False
    withdrawn: bool = False
    """The record of the turn is withdrawn."""

    @model_validator(mode="after")
    def _channel_is_to_a_person(self) -> Self:
        _to_a_person(self.channel, sample=self.sample)
        return self

    @model_validator(mode="after")
    def _ward_has_a_unit(self) -> Self:
        if self.level == "ward" and self.unit_key is None:
            raise ValueError("a turn of a ward needs unit_code and unit_valid_from")
        if self.level != "ward" and (self.unit_code or self.unit_valid_from):
            raise ValueError(f"a turn of the {self.level} has no unit: leave unit_code and unit_valid_from empty")
        return self

    @property
    def unit_key(self) -> UnitKey | None:
        return (self.unit_code, self.unit_valid_from) if self.unit_code and self.unit_valid_from else None


class PostingRow(Row):
    """Where an officer or a device is posted. Days are the city's. `valid_to` is the first day on which they are not.

    A row for the same subject in the same unit from the same day is the same posting: it replaces the recorded one.
    """

    unit_code: Code
    unit_valid_from: Day
    subject: HolderId
    """Of their credential, as `trucban token issue --subject` has it."""
    valid_from: Day
    valid_to: Day | None = None
    document: Document
    sample: bool = False
    withdrawn: bool = False
    """The posting never existed. Its record is withdrawn."""

    @property
    def unit_key(self) -> UnitKey:
        return (self.unit_code, self.unit_valid_from)


class ContactRow(Row):
    """A channel of a person. A person's rows give all channels of that person.

    A single row without a channel says that there are none.
    """

    holder_id: HolderId
    channel: Channel | None = None
    quiet_from: TimeOfDay | None = None
    """Quiet hours are the city's, and may pass midnight."""
    quiet_to: TimeOfDay | None = None
    sample: bool = False
    """It is invented, and may be a file. This is not recorded."""

    @model_validator(mode="after")
    def _channel_is_to_a_person(self) -> Self:
        _to_a_person(self.channel, sample=self.sample)
        return self

    @model_validator(mode="after")
    def _quiet_hours_are_whole(self) -> Self:
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValueError("quiet hours need quiet_from and quiet_to")
        if self.quiet_from is not None and self.quiet_from == self.quiet_to:
            raise ValueError("quiet hours of no length: leave both empty, or let them differ")
        if self.channel is None and self.quiet_from is not None:
            raise ValueError("quiet hours are of a channel, and there is none")
        return self

    @property
    def contact(self) -> Contact | None:
        return Contact(self.channel, self.quiet_from, self.quiet_to) if self.channel else None


@dataclass(frozen=True)
class LineError:
    """An error in a line. The text names the thing, the value and the way out, but never a channel."""

    line: int
    detail: str
    field: str | None = None
    table: Table | None = None
    also: tuple[int, ...] = ()
    """Further lines with the same error."""


@dataclass(frozen=True)
class Note:
    """Something that is not wrong, but should be checked. `line`: the row that it is about, if there is one."""

    detail: str
    line: int | None = None
    table: Table | None = None


@dataclass(frozen=True)
class Tables:
    """The rows that are to be recorded."""

    units: Sequence[Numbered[UnitRow]] = ()
    tenures: Sequence[Numbered[TenureRow]] = ()
    rosters: Sequence[Numbered[RosterRow]] = ()
    postings: Sequence[Numbered[PostingRow]] = ()
    contacts: Sequence[Numbered[ContactRow]] = ()

    def __len__(self) -> int:
        return sum(map(len, (self.units, self.tenures, self.rosters, self.postings, self.contacts)))

    def without(self, errors: Sequence[LineError]) -> "Tables":
        """Return the tables without the lines that have an error."""
        bad = {(e.table, e.line) for e in errors}
        return Tables(
            units=[row for row in self.units if ("units", row[0]) not in bad],
            tenures=[row for row in self.tenures if ("tenures", row[0]) not in bad],
            rosters=[row for row in self.rosters if ("rosters", row[0]) not in bad],
            postings=[row for row in self.postings if ("postings", row[0]) not in bad],
            contacts=[row for row in self.contacts if ("contacts", row[0]) not in bad],
        )


@dataclass(frozen=True)
class RequestedChanges:
    """What a file or a request asks to record.

    `lines`: how many lines it had. `errors`: of the lines that could not be read.
    """

    tables: Tables = field(default_factory=Tables)
    lines: int = 0
    errors: Sequence[LineError] = ()
    notes: Sequence[Note] = ()


@dataclass(frozen=True)
class Read(Generic[R]):
    """One table, as it was read."""

    rows: Sequence[Numbered[R]]
    errors: Sequence[LineError]

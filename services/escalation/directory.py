"""Who holds which post, in two times: valid time (when it was so) and recorded time (when we knew it). Pure."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.clock import HO_CHI_MINH
from shared.events import UnitRef
from shared.text import nfc


class Tenure(BaseModel):
    """One person's time in one post (nhiệm kỳ) of one unit, with the document that appointed them."""

    model_config = ConfigDict(frozen=True)

    tenure_id: str
    unit: UnitRef
    post: str
    holder_id: str
    holder_name: str
    acting: bool
    capacity: Literal["holder", "deputy"] = "holder"
    """A deputy (người được ủy quyền) is told in the holder's place; the holder stays accountable."""
    reason: str | None = None
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    sample: bool
    recorded_at: AwareDatetime
    superseded_at: AwareDatetime | None = None

    def covers(self, at: datetime, known_at: datetime) -> bool:
        valid = self.valid_from <= at and (self.valid_to is None or at < self.valid_to)
        known = self.recorded_at <= known_at and (self.superseded_at is None or known_at < self.superseded_at)
        return valid and known


class Duty(BaseModel):
    """One person's turn on a duty roster (lịch trực), of a ward, of the desk or of the leadership. Always bounded."""

    model_config = ConfigDict(frozen=True)

    roster_id: str
    level: Literal["ward", "desk", "leadership"]
    unit_code: str | None = None
    unit_valid_from: date | None = None
    holder_id: str
    holder_name: str
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime
    sample: bool
    recorded_at: AwareDatetime
    superseded_at: AwareDatetime | None = None

    @property
    def unit_key(self) -> "UnitKey | None":
        return (self.unit_code, self.unit_valid_from) if self.unit_code and self.unit_valid_from else None


@dataclass(frozen=True)
class Contact:
    """An Apprise URL, `mailto(s)://` or `webhook(s)://` at which a person is told, and when it is not to ring."""

    channel: str
    quiet_from: time | None = None
    """Local time of day; the quiet hours may pass midnight."""
    quiet_to: time | None = None


@dataclass(frozen=True)
class Directory:
    """What escalation needs to know of the units of one transaction and their successors, as recorded now."""

    tenures: tuple[Tenure, ...] = ()
    duties: tuple[Duty, ...] = ()
    """Turns that end after now."""
    contacts: Mapping[str, tuple[Contact, ...]] = field(default_factory=dict[str, tuple[Contact, ...]])
    """By holder id."""
    units: Mapping["UnitKey", "Unit"] = field(default_factory=dict["UnitKey", "Unit"])


UnitKey = tuple[str, date]


def key_of(unit: UnitRef) -> UnitKey:
    return (unit.code, unit.valid_from)


@dataclass(frozen=True)
class Unit:
    """A ward or commune, and what took its place."""

    ref: UnitRef
    kind: str
    valid_to: date | None = None
    successors: tuple[UnitRef, ...] = ()

    @property
    def ends_at(self) -> datetime | None:
        return day_start(self.valid_to) if self.valid_to is not None else None

    def ended(self, at: datetime) -> bool:
        return self.ends_at is not None and self.ends_at <= at


def holder_at(
    tenures: Iterable[Tenure],
    post: str,
    at: datetime,
    known_at: datetime,
    *,
    unit: UnitRef | None = None,
    capacity: str = "holder",
) -> Tenure | None:
    """The tenure of `post` at `at` as known at `known_at`; None is a vacancy. `unit`: of that unit only."""
    return next(
        (
            t
            for t in tenures
            if t.post == post
            and t.capacity == capacity
            and (unit is None or (t.unit.code, t.unit.valid_from) == (unit.code, unit.valid_from))
            and t.covers(at, known_at)
        ),
        None,
    )


def overlap(a: Tenure, b: Tenure) -> bool:
    starts_before = b.valid_to is None or a.valid_from < b.valid_to
    return starts_before and (a.valid_to is None or b.valid_from < a.valid_to)


def remainders(old: Tenure, new: Tenure) -> list[Tenure]:
    """What stays true of `old` beside an overlapping `new`: the parts before and after it."""
    left: list[Tenure] = []
    if old.valid_from < new.valid_from:
        left.append(old.model_copy(update={"valid_to": new.valid_from}))
    if new.valid_to is not None and (old.valid_to is None or new.valid_to < old.valid_to):
        left.append(old.model_copy(update={"valid_from": new.valid_to}))
    return left


def day_start(day: date) -> datetime:
    """A day of the directory begins at midnight in the city, not at midnight UTC."""
    return datetime.combine(day, time.min, HO_CHI_MINH)


class Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    @field_validator("*", mode="before")
    @classmethod
    def _printable(cls, value: Any) -> Any:
        """No control character gets in: PostgreSQL has no text with U+0000, and none belongs in a name."""
        if isinstance(value, str) and any(unicodedata.category(c) == "Cc" for c in value):
            raise ValueError("holds a control character: leave it out")
        return value


R = TypeVar("R", bound=Row)


class UnitRow(Row):
    """A line of a wards file: `code,valid_from,name,type[,valid_to][,name_ascii]`."""

    code: Annotated[str, Field(pattern=r"^\d{5}$")]
    valid_from: date
    name: Annotated[str, Field(min_length=1, max_length=100)]
    type: Literal["phường", "xã"]
    valid_to: date | None = None
    name_ascii: str | None = None


class TenureRow(Row):
    """A line of a directory file. Days are the city's; `valid_to` is the first day on which it no longer holds."""

    unit_code: Annotated[str, Field(pattern=r"^\d{5}$")]
    unit_valid_from: date
    post: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    holder_id: Annotated[str, Field(min_length=1, max_length=100)]
    holder_name: Annotated[str, Field(min_length=1, max_length=200)]
    acting: bool = False
    valid_from: date
    valid_to: date | None = None
    document: Annotated[str, Field(min_length=1, max_length=300)]
    channel: Annotated[str, Field(pattern=r"^[a-z0-9]+://", max_length=500)] | None = None
    """Apprise URL at which this person is told; none is allowed, and loud when a notice is due."""
    sample: bool = False


@dataclass(frozen=True)
class LineError:
    line: int
    detail: str


def read_rows(content: bytes, model: type[R]) -> tuple[list[tuple[int, R]], list[LineError]]:
    """Rows of a CSV file (UTF-8, with or without a byte order mark) with their line numbers, and what is wrong."""
    try:
        text = nfc(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return [], [LineError(1, f"byte {error.start} is not UTF-8: save the file as CSV UTF-8")]
    good: list[tuple[int, R]] = []
    bad: list[LineError] = []
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            read = _read_row(row, model)
            if isinstance(read, str):
                bad.append(LineError(reader.line_num, read))
            else:
                good.append((reader.line_num, read))
    except csv.Error as error:
        bad.append(LineError(reader.line_num + 1, f"not CSV, and not read from here on: {error}"))
    return good, bad


def _read_row(row: Mapping[str | None, Any], model: type[R]) -> R | str:
    """The row, or what is wrong with it."""
    if None in row:
        return "more cells than the header has columns: put text that holds a comma in quotation marks"
    filled = {key: value for key, value in row.items() if value not in (None, "")}
    try:
        return model.model_validate(filled)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"


def check_units(rows: Sequence[tuple[int, UnitRow]]) -> list[LineError]:
    """Units that a file names twice, and empty periods, line by line."""
    errors: list[LineError] = []
    seen: dict[tuple[str, date], int] = {}
    for line, row in rows:
        earlier = seen.setdefault((row.code, row.valid_from), line)
        if earlier != line:
            detail = f"unit {row.code} of {row.valid_from} is on line {earlier} already: name it once"
            errors.append(LineError(line, detail))
        if row.valid_to is not None and row.valid_to <= row.valid_from:
            errors.append(LineError(line, f"valid_to {row.valid_to} is not after valid_from {row.valid_from}"))
    return errors


def check_tenures(
    rows: Sequence[tuple[int, TenureRow]], units: Iterable[UnitRef], posts: Iterable[str]
) -> list[LineError]:
    """Unknown units and posts, empty periods, and two holders of one post at once, line by line."""
    known_units = {(u.code, u.valid_from) for u in units}
    known_posts = set(posts)
    errors: list[LineError] = []
    seen: dict[tuple[str, date, str], list[tuple[int, TenureRow]]] = {}
    for line, row in rows:
        if (row.unit_code, row.unit_valid_from) not in known_units:
            detail = f"unit {row.unit_code} of {row.unit_valid_from} is unknown: import its ward first"
            errors.append(LineError(line, detail))
        if row.post not in known_posts:
            errors.append(LineError(line, f"post {row.post} is unknown: use {' or '.join(sorted(known_posts))}"))
        if row.valid_to is not None and row.valid_to <= row.valid_from:
            errors.append(LineError(line, f"valid_to {row.valid_to} is not after valid_from {row.valid_from}"))
        same_post = seen.setdefault((row.unit_code, row.unit_valid_from, row.post), [])
        errors += [
            LineError(line, f"overlaps line {other} for {row.post} of {row.unit_code}: one holder at a time")
            for other, earlier in same_post
            if _overlap(earlier, row)
        ]
        same_post.append((line, row))
    return errors


def _overlap(a: TenureRow, b: TenureRow) -> bool:
    return a.valid_from < (b.valid_to or date.max) and b.valid_from < (a.valid_to or date.max)

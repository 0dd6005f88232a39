"""What the services have stored, as tests look at it: one class a table, with the columns that some test asks for.

Which tables and columns these are is known in this package, and to no test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import orjson
from sqlalchemy import ColumnElement, FromClause, Select, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.domain.incidents.lifecycle import FINAL, State
from services.escalation.domain.incidents.report_summary import ReportSummary
from services.escalation.store import tables
from services.intake import store as intake
from services.ledger.store import tables as ledger


@dataclass(frozen=True)
class Record:
    """A row; its fields are columns of `source`, the first of that name where it joins two tables."""

    source: ClassVar[FromClause]
    order: ClassVar[Sequence[str]]


R = TypeVar("R", bound=Record)


async def every(connection: AsyncConnection, kind: type[R], /, **equal: object) -> tuple[R, ...]:
    """All records of a kind in their order; of those, the ones whose columns equal what is given."""
    return tuple(kind(*row) for row in await connection.execute(query_of(kind, equal)))


def query_of(kind: type[Record], equal: Mapping[str, object] = MappingProxyType({})) -> Select[Any]:
    """The query of all records of a kind in their order, with the columns in the order of its fields."""
    query = _query_of_all(kind)
    return query.where(*(_column(kind, name) == value for name, value in equal.items())) if equal else query


@cache  # tests look thousands of times: to make the query takes as long as to ask it
def _query_of_all(kind: type[Record]) -> Select[Any]:
    query = select(*(_column(kind, field.name) for field in fields(kind))).select_from(kind.source)
    return query.order_by(*(_column(kind, name) for name in kind.order))


def _column(kind: type[Record], name: str) -> ColumnElement[Any]:
    return next(column for column in kind.source.c if column.name == name)


async def dead_letters(connection: AsyncConnection) -> list[str]:
    """The service's name for each event that a service could not handle."""
    places = {"intake": intake.dead_letter, "escalation": tables.dead_letter, "ledger": ledger.dead_letter}
    asked = (select(literal(name)).select_from(table) for name, table in places.items())
    return list(await connection.scalars(union_all(*asked)))


# --- escalation: incidents and what was decided ---


@dataclass(frozen=True)
class Incident(Record):
    source = tables.incident
    order = ("incident_id",)

    incident_id: str
    unit_code: str
    unit_valid_from: date
    unit_name: str
    unit_kind: str
    successor: Mapping[str, str] | None = field(hash=False)
    family: str
    category: str
    exercise: bool
    occurred_at: datetime
    latitude: float | None
    longitude: float | None
    state: State
    outcome: str
    standing: str
    limb: str | None
    severity: int | None
    sequence: int
    opened_at: datetime
    round: int
    level: int
    merged_into: str | None
    digest: str = field(compare=False)

    @property
    def is_waited_for(self) -> bool:
        """Whether it is open, or the desk is asked about reports that came after its end."""
        late = ReportSummary.model_validate_json(self.digest).late
        return self.state not in FINAL or (late is not None and late.asked)

    @property
    def place(self) -> str:
        """As texts name it."""
        return f"{self.unit_kind} {self.unit_name}"

    @property
    def acting_unit(self) -> tuple[str, date]:
        """Whose post-holders answer for it now."""
        if self.successor is None:
            return self.unit_code, self.unit_valid_from
        return self.successor["code"], date.fromisoformat(self.successor["valid_from"])


@dataclass(frozen=True)
class Report(Record):
    source = tables.report
    order = ("incident_id", "position")

    report_id: str
    event_id: str
    incident_id: str
    position: int
    facts: Mapping[str, Any]
    personal: Mapping[str, Any] | None


@dataclass(frozen=True)
class Finding(Record):
    source = tables.finding
    order = ("incident_id", "position")

    finding_id: str
    incident_id: str
    position: int
    kind: str
    author: str
    role: str
    reason: str | None
    made_at: datetime


@dataclass(frozen=True)
class Link(Record):
    """Two incidents that are related, the later first."""

    source = tables.link
    order = ("incident_id", "other_id")

    incident_id: str
    other_id: str


@dataclass(frozen=True)
class Decision(Record):
    source = tables.decision
    order = ("incident_id", "number")

    decision_id: str
    incident_id: str
    number: int
    previous_id: str | None
    record: bytes
    inputs: Mapping[str, Any]
    made_at: datetime

    @cached_property
    def said(self) -> dict[str, Any]:
        """The record, read."""
        return orjson.loads(self.record)


@dataclass(frozen=True)
class Event(Record):
    """What the timeline holds of an event."""

    source = tables.timeline
    order = ("transaction", "position")

    event_id: str
    incident_id: str | None
    unit_code: str | None
    type: str
    body: bytes
    transaction: int
    position: int

    @cached_property
    def data(self) -> dict[str, Any]:
        return orjson.loads(self.body)["data"]


@dataclass(frozen=True)
class Outgoing(Record):
    """An event that escalation still owes to somebody."""

    source = tables.outbox.rows
    order = ("stream", "number")

    event_id: str


# --- escalation: who is told, and when what falls due ---


@dataclass(frozen=True)
class Notice(Record):
    source = tables.notice
    order = ("issued_at", "notice_id")

    notice_id: str
    incident_id: str
    decision_id: str | None
    recipient: str
    purpose: str
    posts: Sequence[str]
    title: str
    body: str
    exercise: bool
    issued_at: datetime
    due_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    withdrawn_at: datetime | None
    round: int


@dataclass(frozen=True)
class Delivery(Record):
    """With what its notice says of whom it is for."""

    source = tables.delivery.join(tables.notice)
    order = ("delivery_id",)

    delivery_id: str
    notice_id: str
    incident_id: str
    recipient: str
    purpose: str
    channel: str
    state: str
    attempts: int
    next_at: datetime
    error: str | None
    finished_at: datetime | None


ASKING = frozenset({"accountable", "still_open"})
"""Purposes of a notice that its recipient is to acknowledge."""
WAITING = frozenset({"queued", "sending", "failed"})
"""States of a delivery that is still to go out."""


@dataclass(frozen=True)
class DueTime(Record):
    """With whom and what its notice is for, where it has one."""

    source = tables.deadline.outerjoin(tables.notice)
    order = ("due_at", "deadline_id")

    deadline_id: str
    incident_id: str
    notice_id: str | None
    kind: str
    due_at: datetime
    state: str
    level: int
    recipient: str | None
    purpose: str | None


@dataclass(frozen=True)
class Pace(Record):
    source = tables.pace
    order = ("key",)

    key: str


# --- escalation: the directory ---


@dataclass(frozen=True)
class Unit(Record):
    source = tables.unit
    order = ("code", "recorded_at", "valid_from")

    code: str
    valid_from: date
    valid_to: date | None
    name: str
    superseded_at: datetime | None


@dataclass(frozen=True)
class Tenure(Record):
    source = tables.tenure
    order = ("recorded_at", "valid_from", "tenure_id")

    tenure_id: str
    unit_code: str
    unit_valid_from: date
    post: str
    holder_id: str
    holder_name: str
    capacity: str
    valid_from: datetime
    valid_to: datetime | None
    recorded_at: datetime
    superseded_at: datetime | None

    def covers(self, at: datetime, known_at: datetime) -> bool:
        """Asked of the columns alone, not of the code that picks who is told."""
        was_so = self.valid_from <= at and (self.valid_to is None or at < self.valid_to)
        was_known = self.recorded_at <= known_at and (self.superseded_at is None or known_at < self.superseded_at)
        return was_so and was_known


@dataclass(frozen=True)
class Turn(Record):
    """Of duty."""

    source = tables.roster
    order = ("valid_from", "roster_id")

    level: str
    unit_code: str | None
    unit_valid_from: date | None
    holder_id: str
    valid_from: datetime
    valid_to: datetime
    superseded_at: datetime | None


@dataclass(frozen=True)
class Channel(Record):
    """Of a person."""

    source = tables.contact
    order = ("holder_id", "channel", "recorded_at")

    holder_id: str
    channel: str
    superseded_at: datetime | None


@dataclass(frozen=True)
class Rulebook(Record):
    source = tables.rulebook
    order = ("version",)

    version: str

"""What intake's routes take and answer."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime

from services.intake.api.body import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, MAX_REPORT_BYTES
from services.intake.domain.submission import Submission
from shared.http.fields import Answer, Category, Page, Stored, UnitKind
from shared.http.openapi import REFERENCE, RawBody
from shared.http.schemas import Problem

EXAMPLE = {
    "report_id": "0185d4f2-7c00-7b1e-9c3a-2f6f1b0f4c11",
    "category": "FIRECRACKER_SET_OFF",
    "ward": "P. Ba Đình",
    "occurred_at": "2023-01-21T23:58:00+07:00",
    "description": "Nghe tiếng pháo nổ liên tiếp ở đầu phố",
    "firecracker": {"explosion_sound": True},
}
_REPORT = {"$ref": REFERENCE.format(model="Submission")}
REPORT_BODY = RawBody(
    MAX_REPORT_BYTES,
    {"application/json": {"schema": _REPORT, "example": EXAMPLE}},
    [Submission],
)
BATCH_BODY = RawBody(
    MAX_BATCH_BYTES,
    {
        "application/json": {"schema": {"type": "array", "items": _REPORT, "maxItems": MAX_BATCH_ITEMS}},
        "application/x-ndjson": {"schema": {"type": "string", "description": "One report a line."}},
    },
    [Submission],
)
Outcome = Literal["accepted", "duplicate"]
State = Literal["accepted", "routed"]


class IncidentRef(Answer):
    """The incident that a report is about."""

    id: str
    outcome: Literal["new", "merged", "late"]
    """new: the report opened it; merged: the report joined it; late: the report joined it after it had ended."""


class ReportAnswer(Answer):
    """The report is stored, and will be routed."""

    report_id: str
    receipt: str
    """With it anybody may ask what became of the report."""
    received_at: AwareDatetime
    """By our clock."""
    outcome: Outcome
    """duplicate: the same was sent before."""
    incident: IncidentRef | None = None
    """Only where `Prefer: wait=N` was sent, and it was routed in that time; else absent."""


class AcceptedItem(Answer):
    """An item that is stored; `status` is 200 where the same was sent before."""

    report_id: str
    status: Literal[200, 201]
    outcome: Outcome
    receipt: str
    received_at: AwareDatetime


class RejectedItem(Answer):
    """An item that is not stored, and why."""

    report_id: str | None
    """Null where none could be read."""
    status: int
    problem: Annotated[dict[str, Any], Stored(Problem)]


class BatchAnswer(Answer):
    """What became of each item, in the order of the batch."""

    accepted: int
    duplicate: int
    rejected: int
    results: list[AcceptedItem | RejectedItem]


class ReceiptAnswer(Answer):
    """What became of a report, without personal data."""

    receipt: str
    received_at: AwareDatetime
    state: State
    incident: IncidentRef | None = None
    """Absent until it is routed."""


class OwnReport(Answer):
    """A report of the caller."""

    report_id: str
    receipt: str
    category: Category
    ward: str
    """Code of the ward, as of the time of occurrence."""
    occurred_at: AwareDatetime
    received_at: AwareDatetime
    exercise: bool
    state: State
    incident: IncidentRef | None
    """Null until it is routed."""


class OwnReportPage(Page[OwnReport]):
    """The caller's reports, the last that was received first."""


class Ward(Answer):
    """A ward or commune (phường, xã). Codes are reused over the years: `code` and `valid_from` are the key."""

    code: str
    valid_from: date
    name: str
    kind: UnitKind


class WardPage(Page[Ward]):
    """Wards by code."""

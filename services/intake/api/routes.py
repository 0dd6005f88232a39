"""Routes under `/intake/v1`: parse, authorise, call, answer."""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from services.intake import store
from services.intake.api import body
from services.intake.application.accept_reports import Accepted, ReportAcceptance
from services.intake.application.intake import Intake
from services.intake.domain import wards
from services.intake.domain.submission import Submission
from shared.clock import monotonic
from shared.http import cursor as cursors
from shared.http.body import read
from shared.http.cursor import Limit
from shared.http.guard import require
from shared.http.identity import Principal
from shared.http.problem import Problem

router = APIRouter()
MAX_WAIT_SECONDS = 10.0
WAIT_POLL_SECONDS = 0.05


async def _intake(request: Request) -> Intake:
    return request.app.state.intake


async def _acceptance(request: Request) -> ReportAcceptance:
    return request.app.state.acceptance


Wired = Annotated[Intake, Depends(_intake)]
Acceptance = Annotated[ReportAcceptance, Depends(_acceptance)]
Sender = Annotated[Principal, Depends(require("officer", "device", "desk", "admin"))]
EXAMPLE = {
    "report_id": "0185d4f2-7c00-7b1e-9c3a-2f6f1b0f4c11",
    "category": "FIRECRACKER_SET_OFF",
    "ward": "P. Ba Đình",
    "occurred_at": "2023-01-21T23:58:00+07:00",
    "description": "Nghe tiếng pháo nổ liên tiếp ở đầu phố",
    "firecracker": {"explosion_sound": True},
}
PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}
_SUBMISSION = Submission.model_json_schema(ref_template="#/components/schemas/{model}")
SCHEMAS: dict[str, Any] = _SUBMISSION.pop("$defs") | {"Submission": _SUBMISSION}
"""For the OpenAPI document: the bodies are read here and not by FastAPI, which therefore does not know their models."""
REPORT_SCHEMA = {"$ref": "#/components/schemas/Submission"}
REPORT_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": REPORT_SCHEMA, "example": EXAMPLE}},
    }
}
BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": REPORT_SCHEMA, "maxItems": 1000}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


class IncidentRef(BaseModel):
    id: str
    outcome: str
    """new: the report opened it; merged: the report joined it."""


class ReportAnswer(BaseModel):
    report_id: str
    receipt: str
    received_at: datetime
    outcome: str
    incident: IncidentRef | None = None


class BatchAnswer(BaseModel):
    accepted: int
    duplicate: int
    rejected: int
    results: list[dict[str, Any]]


class ReceiptAnswer(BaseModel):
    receipt: str
    received_at: datetime
    state: str
    incident: IncidentRef | None = None


class Ward(BaseModel):
    code: str
    valid_from: str
    name: str
    kind: str


class WardPage(BaseModel):
    items: list[Ward]
    next: str | None


@router.post(
    "/reports",
    status_code=201,
    response_model_exclude_none=True,
    openapi_extra=REPORT_BODY,
    responses=dict.fromkeys((400, 401, 403, 409, 413, 422, 503), PROBLEM),
)
async def post_report(
    intake: Wired, acceptance: Acceptance, caller: Sender, request: Request, response: Response
) -> ReportAnswer:
    """One report: 201 when it is new, 200 when the same was sent before, 409 when its id was used otherwise."""
    value = body.json_of(await read(request, body.MAX_REPORT_BYTES))
    draft = await acceptance.prepare(body.submission_of(value), caller)
    accepted = await acceptance.accept(draft)
    response.status_code = 201 if accepted.is_new else 200
    response.headers["location"] = f"/intake/v1/receipts/{accepted.receipt}"
    answer = ReportAnswer(
        report_id=accepted.report_id,
        receipt=accepted.receipt,
        received_at=accepted.received_at,
        outcome=_outcome(accepted),
    )
    wait = _wait_seconds(request.headers.get("prefer", ""))
    if wait:
        answer.incident = await _routed(intake, accepted.receipt, wait)
        response.headers["preference-applied"] = f"wait={wait:g}"
    return answer


def _outcome(accepted: Accepted) -> str:
    return "accepted" if accepted.is_new else "duplicate"


def _wait_seconds(prefer: str) -> float:
    """`Prefer: wait=N` (RFC 7240), at most ten seconds; anything else is ignored, as that RFC says."""
    for part in prefer.split(","):
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "wait" and re.fullmatch("[0-9]{1,9}", value.strip()):
            return min(float(value), MAX_WAIT_SECONDS)
    return 0.0


async def _routed(intake: Intake, receipt: str, seconds: float) -> IncidentRef | None:
    until = monotonic() + seconds
    while True:
        async with intake.database.connect() as connection:
            row = await store.receipt(connection, receipt)
        if row is not None and row.incident is not None:
            return IncidentRef(id=row.incident, outcome=row.routed)
        if monotonic() >= until:
            return None
        await asyncio.sleep(WAIT_POLL_SECONDS)


@router.post(
    "/reports:batch",
    openapi_extra=BATCH_BODY,
    responses=dict.fromkeys((400, 401, 403, 413, 503), PROBLEM),
)
async def post_batch(acceptance: Acceptance, caller: Sender, request: Request) -> BatchAnswer:
    """Up to 1,000 reports; the good ones are taken, and each bad one is told why."""
    content = await read(request, body.MAX_BATCH_BYTES)
    items = body.items_of(content, request.headers.get("content-type", ""))
    results = await asyncio.gather(*(_one_of_batch(acceptance, caller, item) for item in items))
    return BatchAnswer(
        accepted=_count(results, "accepted"),
        duplicate=_count(results, "duplicate"),
        rejected=sum("problem" in r for r in results),
        results=results,
    )


def _count(results: Sequence[dict[str, Any]], outcome: str) -> int:
    return sum(r.get("outcome") == outcome for r in results)


async def _one_of_batch(acceptance: ReportAcceptance, caller: Principal, item: Any) -> dict[str, Any]:
    report_id = item.get("report_id") if isinstance(item, dict) else None
    try:
        if isinstance(item, Problem):
            raise item
        draft = await acceptance.prepare(body.submission_of(item), caller)
        accepted = await acceptance.accept(draft)
    except Problem as problem:
        named = report_id if isinstance(report_id, str) else None
        return {"report_id": named, "status": problem.status, "problem": problem.body()}
    return {
        "report_id": accepted.report_id,
        "status": 201 if accepted.is_new else 200,
        "outcome": _outcome(accepted),
        "receipt": accepted.receipt,
        "received_at": accepted.received_at,
    }


@router.get("/receipts/{receipt}", response_model_exclude_none=True, responses={404: PROBLEM})
async def get_receipt(intake: Wired, receipt: str) -> ReceiptAnswer:
    """What became of a report. Public: whoever holds the receipt may ask; it tells nothing personal."""
    row = None
    if receipt.isascii() and receipt.isprintable():
        async with intake.database.connect() as connection:
            row = await store.receipt(connection, receipt.upper())
    if row is None:
        raise Problem(404, "there is no such receipt: check each letter of it")
    incident = IncidentRef(id=row.incident, outcome=row.routed) if row.incident else None
    state = "routed" if incident else "accepted"
    return ReceiptAnswer(receipt=row.receipt, received_at=row.received_at, state=state, incident=incident)


@router.get("/wards", responses={422: PROBLEM})
async def get_wards(intake: Wired, q: str = "", limit: Limit = 50, cursor: str | None = None) -> WardPage:
    """Wards in force now whose name or code holds `q`, diacritics optional: candidates, never one guess. Public."""
    units = wards.in_force(await intake.units(), intake.clock.now())
    found = wards.search(q, units) or wards.candidates(q, units)
    by_code = sorted(found, key=lambda u: u.code)
    page, following = cursors.page(by_code, lambda u: [u.code], limit, cursor)
    items = [Ward(code=u.code, valid_from=u.valid_from.isoformat(), name=u.name, kind=u.kind) for u in page]
    return WardPage(items=items, next=following)

"""Routes under `/intake/v1`: parse, authorise, call, answer."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy import Row

from services.intake import store
from services.intake.api import body
from services.intake.api.models import (
    BATCH_BODY,
    REPORT_BODY,
    AcceptedItem,
    BatchAnswer,
    IncidentRef,
    Outcome,
    OwnReport,
    OwnReportPage,
    ReceiptAnswer,
    RejectedItem,
    ReportAnswer,
    State,
    Ward,
    WardPage,
)
from services.intake.api.turns import Turns
from services.intake.application.accept_reports import Accepted, ReportAcceptance
from services.intake.application.intake import Intake
from services.intake.domain import wards
from services.intake.domain.submission import LONGEST_ID, REPORT_ID
from shared.clock import local, monotonic
from shared.database import reading
from shared.http import cursor as cursors
from shared.http.cursor import Limit
from shared.http.guard import Caller
from shared.http.identity import Principal
from shared.http.openapi import problems
from shared.http.problem import Problem
from shared.http.query import refuse_unknown_parameters
from shared.http.rate import Rate

router = APIRouter(tags=["reports"])
MAX_WAIT_SECONDS = 10.0
WAIT_POLL_SECONDS = 0.05
BATCHES_AT_ONCE = 2
"""Of one sender."""
BYTES_A_TURN = 40_000
"""Of a batch, about so much is checked before other requests have their turn."""
ITEM_ERRORS = 10
"""Shown for each item of a batch, which may have a thousand."""


async def _intake(request: Request) -> Intake:
    return request.app.state.intake


async def _acceptance(request: Request) -> ReportAcceptance:
    return request.app.state.acceptance


Wired = Annotated[Intake, Depends(_intake)]
Acceptance = Annotated[ReportAcceptance, Depends(_acceptance)]
PREFER = (
    "`wait=N` (RFC 7240): wait up to N seconds, ten at the most, until the report is routed, and add `incident`."
    " Any other preference is ignored."
)
UNKNOWN = "it is not known whether the report was stored, or no wards are known yet: send the same again"
TOO_MANY = f"more than {body.MAX_BATCH_BYTES} bytes or {body.MAX_BATCH_ITEMS} items"
HEADERS = {
    "Location": {"description": "where its receipt is shown", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "how long was waited", "schema": {"type": "string"}},
}


@router.post(
    "/reports",
    status_code=201,
    response_model_exclude_none=True,
    responses={
        200: {"model": ReportAnswer, "description": "the same was sent before", "headers": HEADERS},
        201: {"headers": HEADERS},
        **problems(
            {
                409: "the sender used the id for another report",
                422: "a field is wrong; `errors` names each",
                503: UNKNOWN,
            }
        ),
    },
)
async def post_report(
    acceptance: Acceptance,
    caller: Caller,
    content: Annotated[bytes, Depends(REPORT_BODY)],
    response: Response,
    prefer: Annotated[str | None, Header(description=PREFER)] = None,
) -> ReportAnswer:
    """One report: 201 when it is new, 200 when the same was sent before, 409 when its id was used otherwise.

    An id is its sender's: that another sender uses it too changes nothing.
    """
    draft = await acceptance.prepare(body.submission_of(body.json_of(content)), caller)
    accepted = await acceptance.accept(draft)
    response.status_code = 201 if accepted.is_new else 200
    response.headers["location"] = f"/intake/v1/receipts/{accepted.receipt}"
    answer = ReportAnswer(
        report_id=accepted.report_id,
        receipt=accepted.receipt,
        received_at=accepted.received_at,
        outcome=_outcome(accepted),
    )
    wait = _wait_seconds(prefer or "")
    if wait:
        answer.incident = await _routed(acceptance.intake, accepted.receipt, wait)
        response.headers["preference-applied"] = f"wait={wait:g}"
    return answer


def _outcome(accepted: Accepted) -> Outcome:
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
        if row is not None and (incident := _incident(row)) is not None:
            return incident
        if monotonic() >= until:
            return None
        await asyncio.sleep(WAIT_POLL_SECONDS)


async def _turn(request: Request, caller: Caller) -> AsyncGenerator[None]:
    """Before the body is read: what waits for its turn holds no memory."""
    turns: Turns = request.app.state.turns
    async with turns.of(caller.subject):
        yield


@router.post("/reports:batch", responses=problems({413: TOO_MANY}))
async def post_batch(
    acceptance: Acceptance,
    caller: Caller,
    _: Annotated[None, Depends(_turn)],
    content: Annotated[bytes, Depends(BATCH_BODY)],
    request: Request,
) -> BatchAnswer:
    """Up to 1,000 reports; the good ones are taken, and each bad one is told why."""
    items = body.items_of(content, request.headers.get("content-type", ""))
    rate: Rate = request.app.state.rate
    rate.take(caller.subject, len(items) - 1)
    items_a_turn = 1 + BYTES_A_TURN * len(items) // (len(content) or 1)
    works: list[asyncio.Task[AcceptedItem | RejectedItem]] = []
    for place, item in enumerate(items, 1):
        works.append(asyncio.create_task(_one_of_batch(acceptance, caller, item)))
        if place % items_a_turn == 0:
            await asyncio.sleep(0)  # others have their turn
    results = await asyncio.gather(*works)
    return BatchAnswer(
        accepted=_count(results, "accepted"),
        duplicate=_count(results, "duplicate"),
        rejected=sum(isinstance(r, RejectedItem) for r in results),
        results=results,
    )


def _count(results: Sequence[AcceptedItem | RejectedItem], outcome: Outcome) -> int:
    return sum(isinstance(r, AcceptedItem) and r.outcome == outcome for r in results)


async def _one_of_batch(acceptance: ReportAcceptance, caller: Principal, item: Any) -> AcceptedItem | RejectedItem:
    report_id = item.get("report_id") if isinstance(item, dict) else None
    try:
        if isinstance(item, Problem):
            raise item
        draft = await acceptance.prepare(body.submission_of(item, ITEM_ERRORS), caller)
        accepted = await acceptance.accept(draft)
    except Problem as problem:
        named = report_id if isinstance(report_id, str) and len(report_id) <= LONGEST_ID else None
        return RejectedItem(report_id=named, status=problem.status, problem=problem.body(ITEM_ERRORS))
    return AcceptedItem(
        report_id=accepted.report_id,
        status=201 if accepted.is_new else 200,
        outcome=_outcome(accepted),
        receipt=accepted.receipt,
        received_at=accepted.received_at,
    )


@router.get("/reports", dependencies=[Depends(refuse_unknown_parameters)])
async def get_reports(
    intake: Wired,
    caller: Caller,
    report_id: Annotated[str | None, Query(pattern=REPORT_ID, description="only the one with this id")] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> OwnReportPage:
    """What the caller has sent, the last that was received first, and what became of it."""
    before = str(cursors.decode(cursor, 1)[0]).replace("\0", "") if cursor is not None else None
    async with reading(intake.database).connect() as connection:
        rows = await store.reports_of(connection, caller.subject, limit + 1, report_id=report_id, before=before)
    following = cursors.encode([rows[limit - 1].event_id]) if len(rows) > limit else None
    return OwnReportPage(items=[_own_report(row) for row in rows[:limit]], next=following)


def _own_report(row: Row[Any]) -> OwnReport:
    incident = _incident(row)
    return OwnReport(
        report_id=row.report_id,
        receipt=row.receipt,
        category=row.category,
        ward=row.ward,
        occurred_at=row.occurred_at,
        received_at=row.received_at,
        exercise=row.exercise,
        state=_state(incident),
        incident=incident,
    )


def _incident(row: Row[Any]) -> IncidentRef | None:
    return IncidentRef(id=row.incident, outcome=row.routed) if row.incident is not None else None


def _state(incident: IncidentRef | None) -> State:
    return "accepted" if incident is None else "routed"


@router.get("/receipts/{receipt}", response_model_exclude_none=True)
async def get_receipt(intake: Wired, receipt: str) -> ReceiptAnswer:
    """What became of a report. Public: whoever holds the receipt may ask; it tells nothing personal."""
    row = None
    if receipt.isascii() and receipt.isprintable():
        async with intake.database.connect() as connection:
            row = await store.receipt(connection, receipt.upper())
    if row is None:
        raise Problem(404, "there is no such receipt: check each letter of it")
    incident = _incident(row)
    return ReceiptAnswer(receipt=row.receipt, received_at=row.received_at, state=_state(incident), incident=incident)


@router.get("/wards")
async def get_wards(
    intake: Wired, q: Annotated[str, Query(max_length=100)] = "", limit: Limit = 50, cursor: str | None = None
) -> WardPage:
    """Wards in force now whose name or code holds `q`, diacritics optional: candidates, never one guess. Public.

    For the name of a ward that has ended: what followed it.
    """
    known, now = await intake.units(), intake.clock.now()
    units = wards.in_force(known, now)
    found = wards.search(q, units)
    if not found:
        day = local(now).date()
        other = wards.of_another_time(q, known, day)
        found = wards.candidates(q, units) if other is None else wards.followers(other, known, day)
    by_code = sorted(found, key=lambda u: u.code)
    page, following = cursors.page(by_code, lambda u: [u.code], limit, cursor)
    items = [Ward.model_validate(u, from_attributes=True) for u in page]
    return WardPage(items=items, next=following)

"""Routes under `/escalation/v1`: parse, authorise, call, answer."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from services.escalation import handlers, views
from services.escalation.accountability import Inputs, decide, record_bytes
from services.escalation.directory import Tenure
from services.escalation.handlers import Escalation
from services.escalation.store import directory, incidents
from shared import cursor as cursors
from shared.cursor import Instant, Limit
from shared.identity import Principal, require
from shared.problem import FieldError, Problem, invalid

router = APIRouter()


async def _escalation(request: Request) -> Escalation:
    return request.app.state.escalation


Wired = Annotated[Escalation, Depends(_escalation)]
Severity = Annotated[int, Query(ge=1, le=4)]
Reader = Annotated[Principal, Depends(require("officer", "official", "desk", "leader"))]
Official = Annotated[Principal, Depends(require("official"))]
DirectoryReader = Annotated[Principal, Depends(require("official", "desk", "leader", "auditor", "admin"))]


def _own_ward(caller: Principal, ward: str | None) -> str | None:
    """The ward to look at: an officer or official sees their own only. Raises Problem 403."""
    if caller.role not in {"officer", "official"}:
        return ward
    if ward is not None and ward != caller.ward:
        raise Problem(403, f"ward {ward} is not yours; your token is for ward {caller.ward}")
    return caller.ward or ""


class Page(BaseModel):
    items: list[dict[str, Any]]
    next: str | None


@router.get("/incidents")
async def list_incidents(
    escalation: Wired,
    caller: Reader,
    ward: str | None = None,
    category: str | None = None,
    state: str | None = None,
    severity: Severity | None = None,
    occurred_from: Instant | None = None,
    occurred_to: Instant | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Page:
    """Incidents, newest first."""
    filters = {
        "unit_code": _own_ward(caller, ward),
        "category": category,
        "state": state,
        "severity": severity,
    }
    after = _incident_key(cursor) if cursor else None
    async with escalation.engine.connect() as connection:
        rows = await incidents.page(connection, filters, (occurred_from, occurred_to), after, limit + 1)
    items = [views.incident(row) for row in rows[:limit]]
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    next_ = cursors.encode([last.opened_at.isoformat(), last.incident_id]) if last else None
    return Page(items=items, next=next_)


def _incident_key(cursor: str) -> tuple[datetime, str]:
    opened_at, incident_id = cursors.decode(cursor, 2)
    try:
        return datetime.fromisoformat(opened_at).astimezone(UTC), str(incident_id).replace("\0", "")
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid([FieldError("#/cursor", "not a cursor of this list: start again without one")]) from error


@router.get("/incidents/{incident_id}")
async def get_incident(escalation: Wired, caller: Reader, incident_id: str) -> dict[str, Any]:
    """One incident with its reports, decision, parties, notices, deliveries and deadlines."""
    async with escalation.engine.connect() as connection:
        whole = await incidents.one(connection, incident_id)
    if whole is None or _own_ward(caller, None) not in (None, whole["incident"].unit_code):
        raise Problem(404, f"there is no incident {incident_id} that you may see")
    return views.whole_incident(whole, shows_senders=caller.role == "desk", shows_texts=caller.role != "leader")


class AcknowledgementAnswer(BaseModel):
    incident: str
    state: str
    acknowledged: list[str]


@router.post("/incidents/{incident_id}/acknowledgements", status_code=201)
async def acknowledge(
    escalation: Wired, caller: Official, incident_id: str, response: Response
) -> AcknowledgementAnswer:
    """Say that the holder of the token's post has seen the notice; 200 when that was said before."""
    done = await handlers.acknowledge(escalation, incident_id, caller)
    response.status_code = 201 if done.is_new else 200
    return AcknowledgementAnswer(incident=done.incident, state=done.state, acknowledged=list(done.notices))


@router.get("/directory")
async def get_directory(
    escalation: Wired,
    caller: DirectoryReader,
    as_of: Instant | None = None,
    known_at: Instant | None = None,
    ward: str | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Page:
    """Who held each post at `as_of`, as it was known at `known_at`; both now if not given."""
    now = escalation.clock.now()
    async with escalation.engine.connect() as connection:
        found = await directory.tenures(connection, known_at or now, as_of=as_of or now)
    wanted = sorted((t for t in found if ward in (None, t.unit.code)), key=_tenure_key)
    page, following = cursors.page(wanted, _tenure_key, limit, cursor)
    return Page(items=[t.model_dump(mode="json") for t in page], next=following)


def _tenure_key(tenure: Tenure) -> list[str | int]:
    return [tenure.unit.code, tenure.unit.valid_from.isoformat(), tenure.post, tenure.tenure_id]


@router.get("/rulebooks")
async def list_rulebooks(
    escalation: Wired, caller: DirectoryReader, limit: Limit = 50, cursor: str | None = None
) -> Page:
    """The adopted versions of the rule."""
    async with escalation.engine.connect() as connection:
        books = await directory.rulebooks(connection)
    page, following = cursors.page(books, lambda b: [b.rulebook.version], limit, cursor)
    return Page(items=[views.rulebook(book) for book in page], next=following)


@router.get("/rulebooks/{version}")
async def get_rulebook(escalation: Wired, caller: DirectoryReader, version: str) -> dict[str, Any]:
    async with escalation.engine.connect() as connection:
        books = await directory.rulebooks(connection)
    for book in books:
        if book.rulebook.version == version:
            return views.rulebook(book) | {"rulebook": book.rulebook.model_dump(mode="json")}
    raise Problem(404, f"there is no rulebook {version}; GET /escalation/v1/rulebooks lists them")


class DecisionAnswer(BaseModel):
    decision_id: str
    incident: str
    number: int
    previous: str | None
    made_at: datetime
    record: dict[str, Any]


DecisionReader = Annotated[Principal, Depends(require("officer", "official", "desk", "leader", "auditor"))]


async def _decision(escalation: Escalation, caller: Principal, decision_id: str) -> Any:
    async with escalation.engine.connect() as connection:
        row = await incidents.decision_by_id(connection, decision_id)
    if row is None or _own_ward(caller, None) not in (None, row.unit_code):
        raise Problem(404, f"there is no decision {decision_id} that you may see")
    return row


@router.get("/decisions/{decision_id}")
async def get_decision(escalation: Wired, caller: DecisionReader, decision_id: str) -> DecisionAnswer:
    row = await _decision(escalation, caller, decision_id)
    return DecisionAnswer(
        decision_id=row.decision_id,
        incident=row.incident_id,
        number=row.number,
        previous=row.previous_id,
        made_at=row.made_at,
        record=orjson.loads(row.record),
    )


class Replay(BaseModel):
    decision_id: str
    equal: bool
    computed: dict[str, Any]


@router.get("/decisions/{decision_id}/replay")
async def replay_decision(escalation: Wired, caller: DecisionReader, decision_id: str) -> Replay:
    """The same decision computed again from its recorded inputs, and whether it is equal byte for byte."""
    row = await _decision(escalation, caller, decision_id)
    inputs = Inputs.model_validate(row.inputs)
    async with escalation.engine.connect() as connection:
        books = {b.rulebook.version: b for b in await directory.rulebooks(connection)}
    adopted = books[inputs.rulebook_version] if inputs.rulebook_version else None
    computed = record_bytes(decide(inputs, adopted))
    return Replay(decision_id=decision_id, equal=computed == row.record, computed=orjson.loads(computed))

"""Routes on rulebooks and decisions, with replay."""

from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel

from services.escalation.api import views
from services.escalation.api.common import DecisionReader, DirectoryReader, Page, Wired
from services.escalation.application.access import require_ward
from services.escalation.application.escalation import Escalation
from services.escalation.domain.rules.replay import replay
from services.escalation.store import directory, incident_queries
from shared.http import cursor as cursors
from shared.http.cursor import Limit
from shared.http.identity import Principal
from shared.http.problem import Problem

router = APIRouter()


@router.get("/rulebooks")
async def list_rulebooks(
    escalation: Wired, caller: DirectoryReader, limit: Limit = 50, cursor: str | None = None
) -> Page:
    """The adopted versions of the rule."""
    async with escalation.database.connect() as connection:
        books = await directory.rulebooks(connection)
    page, following = cursors.page(books, lambda b: [b.rulebook.version], limit, cursor)
    return Page(items=[views.rulebook(book) for book in page], next=following)


@router.get("/rulebooks/{version}")
async def get_rulebook(escalation: Wired, caller: DirectoryReader, version: str) -> dict[str, Any]:
    async with escalation.database.connect() as connection:
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


async def _decision(escalation: Escalation, caller: Principal, decision_id: str) -> Any:
    async with escalation.database.connect() as connection:
        row = await incident_queries.decision_by_id(connection, decision_id)
    if row is None:
        raise Problem(404, f"there is no decision {decision_id}")
    require_ward(caller, views.wards_of(row))
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
    computed: dict[str, Any] | None
    """None where it could not be computed."""
    differences: list[str]
    """Place by place, what was recorded and what was computed."""


@router.get("/decisions/{decision_id}/replay")
async def replay_decision(escalation: Wired, caller: DecisionReader, decision_id: str) -> Replay:
    """The same decision computed again from its recorded inputs, and whether it is equal byte for byte."""
    row = await _decision(escalation, caller, decision_id)
    async with escalation.database.connect() as connection:
        books = {b.rulebook.version: b for b in await directory.rulebooks(connection)}
    done = replay(decision_id, row.inputs, row.record, books)
    return Replay(decision_id=decision_id, equal=done.equal, computed=done.computed, differences=list(done.differences))

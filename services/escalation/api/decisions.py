"""Routes on rulebooks and decisions, with replay."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import Row

from services.escalation.api.common import Wired
from services.escalation.api.models.decisions import (
    DecisionAnswer,
    Replay,
    RulebookAnswer,
    RulebookPage,
    decision_answer,
    replay_answer,
    rulebook_answer,
    rulebook_item,
)
from services.escalation.application.access import insist_on_office, insist_on_sight, sight_of, unknown
from services.escalation.application.escalation import Escalation
from services.escalation.domain.rules.replay import replay
from services.escalation.store import directory, incident_queries
from shared.http import cursor as cursors
from shared.http.cursor import Limit
from shared.http.guard import Caller
from shared.http.identity import Principal
from shared.http.problem import Problem

router = APIRouter()


@router.get("/rulebooks")
async def list_rulebooks(
    escalation: Wired, caller: Caller, limit: Limit = 50, cursor: str | None = None
) -> RulebookPage:
    """The adopted versions of the rule."""
    async with escalation.database.connect() as connection:
        await insist_on_office(connection, escalation, caller)
        books = await directory.rulebooks(connection)
    page, following = cursors.page(books, lambda b: [b.rulebook.version], limit, cursor)
    return RulebookPage(items=[rulebook_item(book) for book in page], next=following)


@router.get("/rulebooks/{version}")
async def get_rulebook(escalation: Wired, caller: Caller, version: str) -> RulebookAnswer:
    """One version of the rule in full."""
    async with escalation.database.connect() as connection:
        await insist_on_office(connection, escalation, caller)
        books = await directory.rulebooks(connection)
    for book in books:
        if book.rulebook.version == version:
            return rulebook_answer(book)
    raise Problem(404, f"there is no rulebook {version}; GET /escalation/v1/rulebooks lists them")


async def _decision(escalation: Escalation, caller: Principal, decision_id: str) -> Row[Any]:
    async with escalation.database.connect() as connection:
        row = await incident_queries.decision_by_id(connection, decision_id)
        sight = await sight_of(connection, escalation, caller)
        if row is None:
            raise unknown(sight, f"decision {decision_id}")
        await insist_on_sight(connection, sight, row.incident_id, incident_queries.units_of(row))
    return row


@router.get("/decisions/{decision_id}")
async def get_decision(escalation: Wired, caller: Caller, decision_id: str) -> DecisionAnswer:
    """One evaluation of the rule, as the ledger keeps it."""
    return decision_answer(await _decision(escalation, caller, decision_id))


@router.get("/decisions/{decision_id}/replay")
async def replay_decision(escalation: Wired, caller: Caller, decision_id: str) -> Replay:
    """The same decision computed again from its recorded inputs, and whether it is equal byte for byte."""
    row = await _decision(escalation, caller, decision_id)
    async with escalation.database.connect() as connection:
        books = {b.rulebook.version: b for b in await directory.rulebooks(connection)}
    return replay_answer(replay(decision_id, row.inputs, row.record, books))

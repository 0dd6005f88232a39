"""Routes on incidents: list, one, acknowledge."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.api.common import Severity, Ward, Wired, place_in_sight
from services.escalation.api.models.commands import AcknowledgementAnswer
from services.escalation.api.models.incidents import (
    Handover,
    IncidentDetails,
    IncidentPage,
    incident_details,
    incident_page,
)
from services.escalation.application.access import insist_on_sight, sight_of, unknown
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.begin_shifts import asked_of_turn
from services.escalation.domain.directory.model import OFFICE_OF
from services.escalation.domain.directory.places import Sight
from services.escalation.domain.incidents.lifecycle import OPEN, STATES, State
from services.escalation.domain.notices.incident_number import read_number
from services.escalation.store import directory, incident_queries, obligations, timeline
from services.escalation.store.incident_queries import Asked
from shared.clock import local
from shared.http import cursor as cursors
from shared.http.cursor import Instant, Limit
from shared.http.fields import KnownCategory
from shared.http.guard import Caller
from shared.http.identity import Principal
from shared.http.problem import FieldError, invalid

router = APIRouter()
States = Annotated[
    Sequence[str],
    Query(description="`open`, or names of states: repeated, or several separated by commas"),
]
WaitsFor = Annotated[
    str | None, Query(max_length=200, description="a holder's id, `desk` or `leadership`: whoever has to act next")
]


Number = Annotated[
    str | None,
    Query(
        max_length=40,
        description="short number, such as `2201-K4T7M`, however it is written; of the last such day",
    ),
]


@router.get("/incidents")
async def list_incidents(
    escalation: Wired,
    caller: Caller,
    ward: Ward = None,
    category: KnownCategory | None = None,
    state: States = (),
    severity: Severity | None = None,
    number: Number = None,
    occurred_from: Instant | None = None,
    occurred_to: Instant | None = None,
    waits_for: WaitsFor = None,
    vacancy: bool | None = None,
    divided: bool | None = None,
    chain_ended: bool | None = None,
    order: Literal["newest", "due"] = "newest",
    limit: Limit = 50,
    cursor: str | None = None,
) -> IncidentPage:
    """Incidents, the newest first; or open ones in the order in which somebody has to act (`order=due`)."""
    async with escalation.database.connect() as connection:
        sight = await sight_of(connection, escalation, caller)
        asked = Asked(
            place=await place_in_sight(connection, sight, ward),
            sight=sight,
            ids=await _numbered(connection, number, escalation.clock.now()),
            states=_states(state),
            category=category,
            severity=severity,
            occurred_from=occurred_from,
            occurred_to=occurred_to,
            waits_for=waits_for,
            vacancy=vacancy,
            divided=divided,
            chain_ended=chain_ended,
        )
        return await _page(connection, asked, order, limit, cursor)


@router.get("/handover")
async def get_handover(escalation: Wired, caller: Caller, limit: Limit = 50, cursor: str | None = None) -> Handover:
    """What is open and waits for the caller, the soonest due first: for whoever comes on duty.

    For the desk also what has ended and had reports after that which it has to weigh.

    For the desk and the leadership what waits for their office; for an official what waits for the token's holder; for
    whoever has a turn of duty in a ward now, what waits for somebody of the ward.
    """
    async with escalation.database.connect() as connection:
        sight = await sight_of(connection, escalation, caller)
        asked = await _asked_of(connection, caller, sight, escalation.clock.now())
        page = await _page(connection, asked, "due", limit, cursor)
        is_open = await incident_queries.count(connection, Asked(sight=sight, states=OPEN))
        waiting = await incident_queries.count(connection, asked)
    return Handover(items=page.items, next=page.next, open=is_open, waiting=waiting)


async def _asked_of(connection: AsyncConnection, caller: Principal, sight: Sight | None, now: datetime) -> Asked:
    if (office := OFFICE_OF.get(caller.role)) is not None:
        return asked_of_turn(office, None)
    duties = await directory.duties(connection, now, holders=[caller.subject], as_of=now)
    on_duty = frozenset(duty.unit_key for duty in duties if duty.unit_key) & (sight.units if sight else frozenset())
    if on_duty:
        return replace(asked_of_turn("ward", None), sight=Sight(on_duty))
    return Asked(sight=sight, states=OPEN, waits_for=caller.subject)


async def _page(
    connection: AsyncConnection, asked: Asked, order: Literal["newest", "due"], limit: int, cursor: str | None
) -> IncidentPage:
    after = cursors.decode_instant(cursor) if cursor else None
    find = incident_queries.newest if order == "newest" else incident_queries.soonest_due
    found = await find(connection, asked, after, limit + 1)
    rows = found[:limit]
    obliged = await obligations.of_incidents(connection, rows)
    last = rows[-1] if len(found) > limit else None
    at = "opened_at" if order == "newest" else "due_at"
    next_ = cursors.encode([getattr(last, at).isoformat(), last.incident_id]) if last else None
    return incident_page(rows, obliged, next_)


async def _numbered(connection: AsyncConnection, given: str | None, now: datetime) -> set[str] | None:
    """The ids of the incidents with this number; none if nothing has it. Raises Problem 422 for what is no number."""
    if given is None:
        return None
    if (number := read_number(given)) is None:
        way_out = "give day and month and five characters, such as 2201-K4T7M"
        raise invalid([FieldError("#/number", f"{given!r} is no number of an incident: {way_out}")])
    return await incident_queries.with_number(connection, number, local(now).date())


def _states(given: Sequence[str]) -> set[State]:
    """The states that the parameter names: each once or more, also several in one, separated by commas."""
    found: set[State] = set()
    for name in (name.strip() for text in given for name in text.split(",")):
        if name == "open":
            found |= OPEN
        elif name in STATES:
            found.add(name)
        else:
            known = ", ".join(f"'{state}'" for state in STATES)
            raise invalid([FieldError("#/state", f"{name!r} is no state: 'open', {known}")])
    return found


@router.get("/incidents/{incident_id}")
async def get_incident(escalation: Wired, caller: Caller, incident_id: str) -> IncidentDetails:
    """One incident with its reports, decision, parties, findings, notices, deliveries, deadlines and timeline."""
    async with escalation.database.connect() as connection:
        whole = await incident_queries.one(connection, incident_id)
        sight = await sight_of(connection, escalation, caller)
        if whole is None:
            raise unknown(sight, f"incident {incident_id}")
        await insist_on_sight(connection, sight, incident_id, incident_queries.units_of(whole["incident"]))
        told = await timeline.of_incident(connection, incident_id)
        obliged = await obligations.of_incidents(connection, [whole["incident"]])
    return incident_details(
        whole,
        told,
        obliged.get(incident_id, []),
        caller,
        for_desk=caller.role == "desk",
        shows_texts=caller.role != "leader",
    )


@router.post(
    "/incidents/{incident_id}/acknowledgements",
    status_code=201,
    responses={200: {"model": AcknowledgementAnswer, "description": "the same had been said before"}},
)
async def post_acknowledgement(
    escalation: Wired, caller: Caller, incident_id: str, response: Response
) -> AcknowledgementAnswer:
    """Say that the holder of the token's post, or the office, has seen the notice; 200 when that was said before."""
    done = await acknowledge(escalation, incident_id, caller)
    response.status_code = 201 if done.is_new else 200
    return AcknowledgementAnswer.model_validate(
        {"incident": done.incident, "state": done.state, "acknowledged": done.notices}
    )

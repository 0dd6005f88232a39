"""Routes on incidents: list, one, acknowledge."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.escalation.api.common import Reader, Severity, Ward, Wired, own_incidents, wards_of
from services.escalation.api.models.commands import AcknowledgementAnswer
from services.escalation.api.models.incidents import (
    IncidentDetails,
    IncidentPage,
    incident_details,
    incident_page,
)
from services.escalation.application.access import require_ward
from services.escalation.application.acknowledge import acknowledge
from services.escalation.domain.incidents.lifecycle import State
from services.escalation.store import incident_queries, timeline
from shared.http import cursor as cursors
from shared.http.cursor import Instant, Limit
from shared.http.fields import KnownCategory
from shared.http.guard import require
from shared.http.identity import Principal
from shared.http.problem import FieldError, Problem, invalid

router = APIRouter()
Asked = Annotated[Principal, Depends(require("official", "desk", "leader"))]


@router.get("/incidents")
async def list_incidents(
    escalation: Wired,
    caller: Reader,
    ward: Ward = None,
    category: KnownCategory | None = None,
    state: State | None = None,
    severity: Severity | None = None,
    occurred_from: Instant | None = None,
    occurred_to: Instant | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> IncidentPage:
    """Incidents, newest first."""
    filters = {
        "category": category,
        "state": state,
        "severity": severity,
    }
    after = _incident_key(cursor) if cursor else None
    async with escalation.database.connect() as connection:
        place = await own_incidents(connection, caller, ward)
        rows = await incident_queries.page(connection, place, filters, (occurred_from, occurred_to), after, limit + 1)
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    next_ = cursors.encode([last.opened_at.isoformat(), last.incident_id]) if last else None
    return incident_page(rows[:limit], next_)


def _incident_key(cursor: str) -> tuple[datetime, str]:
    opened_at, incident_id = cursors.decode(cursor, 2)
    try:
        return datetime.fromisoformat(opened_at).astimezone(UTC), str(incident_id).replace("\0", "")
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid([FieldError("#/cursor", "not a cursor of this list: start again without one")]) from error


@router.get("/incidents/{incident_id}")
async def get_incident(escalation: Wired, caller: Reader, incident_id: str) -> IncidentDetails:
    """One incident with its reports, decision, parties, findings, notices, deliveries, deadlines and timeline."""
    async with escalation.database.connect() as connection:
        whole = await incident_queries.one(connection, incident_id)
        told = await timeline.of_incident(connection, incident_id)
    if whole is None:
        raise Problem(404, f"there is no incident {incident_id}")
    require_ward(caller, wards_of(whole["incident"]))
    return incident_details(whole, told, shows_senders=caller.role == "desk", shows_texts=caller.role != "leader")


@router.post(
    "/incidents/{incident_id}/acknowledgements",
    status_code=201,
    responses={200: {"model": AcknowledgementAnswer, "description": "the same had been said before"}},
)
async def post_acknowledgement(
    escalation: Wired, caller: Asked, incident_id: str, response: Response
) -> AcknowledgementAnswer:
    """Say that the holder of the token's post, or the office, has seen the notice; 200 when that was said before."""
    done = await acknowledge(escalation, incident_id, caller)
    response.status_code = 201 if done.is_new else 200
    return AcknowledgementAnswer.model_validate(
        {"incident": done.incident, "state": done.state, "acknowledged": done.notices}
    )

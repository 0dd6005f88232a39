"""What the routes share: the wired core, who may call, whose ward it is."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from sqlalchemy import Row

from services.escalation.application.escalation import Escalation
from shared.http.guard import require
from shared.http.identity import Principal
from shared.http.problem import Problem


async def _escalation(request: Request) -> Escalation:
    return request.app.state.escalation


Wired = Annotated[Escalation, Depends(_escalation)]
Severity = Annotated[int, Query(ge=1, le=4)]
Reader = Annotated[Principal, Depends(require("officer", "official", "desk", "leader"))]
DirectoryReader = Annotated[Principal, Depends(require("official", "desk", "leader", "auditor", "admin"))]
DecisionReader = Annotated[Principal, Depends(require("officer", "official", "desk", "leader", "auditor"))]


def own_ward(caller: Principal, ward: str | None) -> str | None:
    """The ward to look at: an officer or official sees their own only. Raises Problem 403."""
    if caller.role not in {"officer", "official"}:
        return ward
    if ward is not None and ward != caller.ward:
        raise Problem(403, f"ward {ward} is not yours; your token is for ward {caller.ward}")
    return caller.ward or ""


def wards_of(row: Row[Any]) -> set[str]:
    """Codes of the wards whose people may see the incident: its own, and the one that took its place."""
    return {row.unit_code} | ({row.successor["code"]} if row.successor else set[str]())

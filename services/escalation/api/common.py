"""What the routes share: the wired core, who may call, whose ward it is."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.access import not_one_ward
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.places import Place, find_place
from services.escalation.store import directory
from shared.http.identity import Principal
from shared.http.problem import Problem


async def _escalation(request: Request) -> Escalation:
    return request.app.state.escalation


Wired = Annotated[Escalation, Depends(_escalation)]
Severity = Annotated[int, Query(ge=1, le=4)]
Ward = Annotated[
    str | None,
    Query(
        description="code, `CODE@VALID_FROM`, or name with or without diacritics; a name of several wards is answered"
        " with candidates"
    ),
]


async def asked_ward(connection: AsyncConnection, ward: str | None) -> Place | None:
    """The units that a parameter means. Raises Problem 422 with candidates if it is not exactly one ward."""
    if ward is None:
        return None
    found = find_place(ward, await directory.units(connection))
    if isinstance(found, Place):
        return found
    raise not_one_ward("#/ward", ward, found)


async def own_incidents(connection: AsyncConnection, caller: Principal, ward: str | None) -> Place | None:
    """The units whose incidents are asked for: an officer or official sees those of their own only.

    Raises Problem 403 for another ward, also for one that there is not; for everybody else 422.
    """
    if caller.role not in {"officer", "official"} or ward is None:
        own = own_ward(caller, None)
        return Place(own) if own is not None else await asked_ward(connection, ward)
    found = find_place(ward, await directory.units(connection))
    own_ward(caller, found.code if isinstance(found, Place) else ward)
    return found if isinstance(found, Place) else Place(ward)


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

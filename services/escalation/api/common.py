"""What the routes share: the wired core, who may call, whose ward it is."""

from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.access import not_one_ward
from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.places import Place, Sight, find_place
from services.escalation.store import directory
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


async def place_in_sight(connection: AsyncConnection, sight: Sight | None, ward: str | None) -> Place | None:
    """The units that are asked for. Raises Problem 422 for what is not exactly one ward.

    Whoever sees some wards only gets Problem 403 for another, also for one that there is not.
    """
    if sight is None or ward is None:
        return await asked_ward(connection, ward)
    found = find_place(ward, await directory.units(connection))
    if not isinstance(found, Place) or not any(found.holds(*unit) for unit in sight.units):
        raise Problem(403, f"ward {ward} is not one where you are posted now")
    return found

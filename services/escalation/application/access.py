"""Which incidents a caller may see and act on: those of the wards where they are posted, and what they were told of."""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import UnitKey
from services.escalation.domain.directory.places import Sight
from services.escalation.store import incident_queries, postings
from shared.http.identity import Principal
from shared.http.problem import Problem

BOUND = frozenset({"officer", "official"})
"""Roles that see their own ward only. Every other sees all wards, where the table of rights lets it in at all."""


async def sight_of(connection: AsyncConnection, escalation: Escalation, caller: Principal) -> Sight | None:
    """Return what the caller may see now; None for all wards.

    An official is where they have a tenure or a turn of duty now. An officer is where they are posted now; where none
    of their postings was ever recorded, in the unit that their token names.
    """
    if caller.role not in BOUND:
        return None
    now = escalation.clock.now()
    if caller.role == "official":
        return Sight(await postings.units_held(connection, caller.subject, now), told=caller.subject)
    posted = await postings.units_posted(connection, caller.subject, now)
    if posted is not None or caller.ward is None:
        return Sight(posted or frozenset())
    own = await postings.unit_named(connection, caller.ward, caller.issued(now))
    return Sight(frozenset({own} if own is not None and await postings.is_in_force(connection, own, now) else ()))


async def insist_on_sight(
    connection: AsyncConnection, sight: Sight | None, incident_id: str, units: frozenset[UnitKey] = frozenset()
) -> None:
    """Raise Problem 403 unless an incident of these `units` is one that they may see. No units: there is none."""
    if sight is None or sight.units & units:
        return
    if sight.told and units and await incident_queries.was_told(connection, incident_id, sight.told):
        return
    raise Problem(403, f"incident {incident_id} is not of a ward where you are posted now")


async def insist_on_office(connection: AsyncConnection, escalation: Escalation, caller: Principal) -> None:
    """Raise Problem 403 for an official who has no post and no turn of duty anywhere now."""
    if caller.role == "official" and not await postings.units_held(connection, caller.subject, escalation.clock.now()):
        raise Problem(403, f"{caller.subject} holds no post now")

"""Which incidents a caller may see and act on, and which ward they mean.

They see those of the wards where they are posted, and what they were told of.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import Unit, UnitKey
from services.escalation.domain.directory.places import Sight
from services.escalation.store import incident_queries, postings
from shared.http.identity import Principal
from shared.http.problem import FieldError, Problem, invalid

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
    connection: AsyncConnection, sight: Sight | None, incident_id: str, units: frozenset[UnitKey]
) -> None:
    """Raise Problem 403 unless an incident of these `units` is one that they may see."""
    if sight is None or sight.units & units:
        return
    if sight.told and await incident_queries.was_told(connection, incident_id, sight.told):
        return
    raise _not_yours()


def unknown(sight: Sight | None, what: str) -> Problem:
    """Return the refusal of an id that there is not.

    For whoever sees some wards only it is the one of another ward's id: they do not learn which ids there are.
    """
    return Problem(404, f"there is no {what}") if sight is None else _not_yours()


def _not_yours() -> Problem:
    return Problem(403, "this is not of a ward where you are posted now")


async def insist_on_office(connection: AsyncConnection, escalation: Escalation, caller: Principal) -> None:
    """Raise Problem 403 for an official who has no post and no turn of duty anywhere now."""
    if caller.role == "official" and not await postings.units_held(connection, caller.subject, escalation.clock.now()):
        raise Problem(403, f"{caller.subject} holds no post now")


def not_one_ward(pointer: str, text: str, candidates: Sequence[Unit]) -> Problem:
    """Return Problem 422: the text is not exactly one ward, but perhaps one of the candidates."""
    choices = [
        {"code": u.ref.code, "valid_from": u.ref.valid_from.isoformat(), "name": u.ref.name, "kind": u.kind}
        for u in candidates
    ]
    names = ", ".join(f"{u.ref.name} ({u.ref.code}@{u.ref.valid_from})" for u in candidates)
    advice = f"did you mean {names}?" if candidates else "GET /escalation/v1/directory?kind=units lists them"
    return invalid([FieldError(pointer, f"{text!r} is not exactly one ward: {advice}", candidates=choices)])

"""The desk corrects when or where an incident occurred, or whether it was an exercise."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import orjson

from services.escalation.application.access import not_one_ward
from services.escalation.application.command_context import CommandContext, CommandResult, command_context, insist
from services.escalation.application.escalation import Escalation, salted
from services.escalation.domain.directory.model import Unit, UnitKey, followers, key_of
from services.escalation.domain.directory.places import unit_of
from services.escalation.domain.incidents import correcting, grouping, lifecycle
from services.escalation.domain.incidents.correcting import BEGINS_ANEW, MOVES, Correction
from services.escalation.domain.incidents.correlation import Point
from services.escalation.domain.incidents.engine import IncidentEngine
from services.escalation.domain.incidents.finding import Finding
from services.escalation.domain.incidents.incident import Case
from services.escalation.store import correlation, directory, incident_queries
from shared.clock import local
from shared.events import CorrectedFacts, IncidentCorrected, IncidentCorrectedData
from shared.http.identity import Principal
from shared.http.problem import FieldError, Problem, invalid


async def correct(
    escalation: Escalation,
    incident_id: str,
    caller: Principal,
    reason: str,
    *,
    occurred_at: datetime | None = None,
    unit: UnitKey | str | None = None,
    exercise: bool | None = None,
    point: Point | None = None,
) -> CommandResult:
    """Record what holds instead of what reports say, and evaluate the incident anew. None leaves a fact as it is.

    The time that holds already may be given where it is disputed: then it is no more. Raises Problem 409 where all is
    so already, and 422 for a time or a ward that cannot be. Whoever the new decision names may not give the command.
    `unit`: a code or a name means the ward that had it at the time of the incident.
    """
    if isinstance(unit, str):
        unit = await _named(escalation, incident_id, unit, occurred_at)
    async with command_context(escalation, incident_id, caller, "correct", (), *([unit] if unit else [])) as command:
        command.allow()
        case, occurred_at = command.case, occurred_at.astimezone(UTC) if occurred_at else None
        said = {"occurred_at": occurred_at.isoformat() if occurred_at else None, "exercise": exercise}
        said |= {"unit": [unit[0], unit[1].isoformat()] if unit else None, "location": asdict(point) if point else None}
        found = command.finding("correction", reason, **{name: v for name, v in said.items() if v is not None})
        if command.said_before(found):
            return CommandResult(case, is_new=False)
        there = _unit(command.engine, unit) if unit else None
        correction = Correction(occurred_at, there, exercise, point)
        _insist_it_can_be(command.engine, case, correction)
        changes = correction.changes(case)
        if not changes and not (occurred_at and case.standing.time_disputed):
            raise Problem(409, "the incident says so already: there is nothing to correct")
        if changes & BEGINS_ANEW:
            found = found.model_copy(update={"content": found.content | {"round": case.round + 1}})
        cause = _record(command, found, correction)
        correcting.correct(command.engine, case, correction, cause)
        insist(lifecycle.interested(caller.role, caller.subject, case.standing))
        if changes & MOVES:
            await _relate(command)
    return CommandResult(case, is_new=True)


async def _named(escalation: Escalation, incident_id: str, text: str, occurred_at: datetime | None) -> UnitKey:
    """Return the key of the ward. Raises Problem 404 for an unknown incident, and 422 if it is not exactly one ward."""
    async with escalation.database.connect() as connection:
        at = occurred_at or await incident_queries.occurred_at(connection, incident_id)
        units = await directory.units(connection)
    if at is None:
        raise Problem(404, f"there is no incident {incident_id}")
    found = unit_of(text, units, local(at).date())
    if isinstance(found, list):
        raise not_one_ward("#/unit", text, found)
    return key_of(found.ref)


def _unit(engine: IncidentEngine, key: UnitKey) -> Unit:
    """Return the unit. Raises Problem 422 if there is none."""
    found = engine.directory.units.get(key)
    if found is None:
        advice = "GET /escalation/v1/directory?kind=units lists them"
        raise invalid([FieldError("#/unit", f"there is no unit {key[0]} of {key[1]}: {advice}")])
    return found


def _insist_it_can_be(engine: IncidentEngine, case: Case, correction: Correction) -> None:
    """Raise Problem 422 unless it can have occurred then and there."""
    at = correction.occurred_at or case.anchor.at
    known = min(engine.now, *(r.received_at for r in case.reports))
    if correction.occurred_at is not None and at > known:
        detail = f"is later than the first report of it, which came at {local(known):%H:%M %d/%m/%Y}"
        advice = "give an earlier time, or split off what is about something else"
        raise invalid([FieldError("#/occurred_at", f"{detail}: {advice}")])
    unit, day = correction.unit or engine.directory.units.get(case.anchor.unit), local(at).date()
    if unit is None or (correction.occurred_at is None and correction.unit is None) or unit.in_force(day):
        return
    pointer = "#/unit" if correction.unit is not None else "#/occurred_at"
    name = f"{unit.ref.name} ({unit.ref.code} of {unit.ref.valid_from})"
    if day < unit.ref.valid_from:
        raise invalid([FieldError(pointer, f"{name} did not exist on {day}: give the unit of that day as well")])
    after = followers(engine.directory.units, unit, day)
    names = " or ".join(f"{u.ref.name} ({u.ref.code} of {u.ref.valid_from})" for u in after)
    raise invalid([FieldError(pointer, f"{name} ended on {unit.valid_to}: give {names or 'the unit of that day'}")])


def _record(command: CommandContext, found: Finding, correction: Correction) -> str:
    """Record the finding. The event has the ward and the time of before, and what holds instead."""
    point, unit = correction.point, correction.unit
    to = CorrectedFacts(
        occurred_at=correction.occurred_at, unit=unit.ref if unit else None, exercise=correction.exercise
    )
    location = salted(orjson.dumps(asdict(point)).decode()) if point else None
    return command.record(
        found,
        lambda head, data: IncidentCorrected(**head, data=IncidentCorrectedData(**data, to=to, location=location)),
    )


async def _relate(command: CommandContext) -> None:
    """Link the incident to those of its ward that are near in time. They may be about the same."""
    case, engine = command.case, command.engine
    window = timedelta(minutes=engine.policy_of(case).patterns.related_window_minutes)
    near = await correlation.neighbours(command.connection, [case.anchor], window)
    engine.neighbours[case.anchor.unit] = [
        n for n in near.get(case.anchor.unit, ()) if n.incident_id != case.incident_id
    ]
    grouping.relate(engine, case)

"""Routes by which people act on an incident: each a command, refused with the reason or recorded as a finding."""

from fastapi import APIRouter, Response

from services.escalation.api.common import Wired
from services.escalation.api.models.commands import (
    CommandAnswer,
    Correction,
    Designation,
    Handoff,
    Merge,
    Reasoned,
    ResponseText,
    Revision,
    Split,
    Transfer,
    UnitKeyBody,
    Verification,
    command_answer,
)
from services.escalation.api.models.incidents import Senders, senders
from services.escalation.application import commands
from services.escalation.application.command_context import CommandResult
from services.escalation.application.show_senders import show_senders
from services.escalation.domain.incidents.correlation import Point
from shared import events
from shared.http.body import bounded
from shared.http.guard import Caller
from shared.http.openapi import Responses, problems
from shared.http.problem import FieldError, invalid

MAX_BYTES = 1_000_000
router = APIRouter(prefix="/incidents/{incident_id}", route_class=bounded(MAX_BYTES))


def _answer(done: CommandResult, response: Response) -> CommandAnswer:
    """201 when it was recorded now, 200 when the same had been said before."""
    response.status_code = 201 if done.is_new else 200
    return command_answer(done)


_OTHERS: Responses = {
    200: {"model": CommandAnswer, "description": "the same had been said before"},
    **problems({409: "not in this state; the detail says why"}),
}


@router.post("/verifications", status_code=201, responses=_OTHERS)
async def post_verification(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Verification,
    response: Response,
) -> CommandAnswer:
    """The desk found out whether it happened; a `false` report is dismissed with the reason."""
    if body.verdict == "false":
        if said := body.model_dump(include={"firecrackers_exploded", "category"}, exclude_none=True):
            raise invalid([FieldError(f"#/{name}", "is of what did happen: leave it out, or confirm") for name in said])
        return _answer(await commands.dismiss(escalation, incident_id, caller, body.reason), response)
    done = await commands.verify(
        escalation,
        incident_id,
        caller,
        body.reason,
        firecrackers_exploded=body.firecrackers_exploded,
        reclassified=body.category,
    )
    return _answer(done, response)


@router.post("/designations", status_code=201, responses=_OTHERS)
async def post_designation(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Designation,
    response: Response,
) -> CommandAnswer:
    """Call it "nổi cộm" (prominent), or no longer, with the reason."""
    done = await commands.designate(escalation, incident_id, caller, body.reason, prominent=body.prominent)
    return _answer(done, response)


@router.post("/severity", status_code=201, responses=_OTHERS)
async def post_severity(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Revision,
    response: Response,
) -> CommandAnswer:
    """New figures of harm. A ward's own can only raise the severity."""
    harm = events.Harm(**body.harm.model_dump())
    return _answer(await commands.revise(escalation, incident_id, caller, body.reason, harm), response)


@router.post("/merges", status_code=201, responses=_OTHERS)
async def post_merge(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Merge,
    response: Response,
) -> CommandAnswer:
    """This incident is the same as `into`, which takes its reports."""
    return _answer(await commands.merge(escalation, incident_id, caller, body.reason, body.into), response)


@router.post("/splits", status_code=201, responses=_OTHERS)
async def post_split(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Split,
    response: Response,
) -> CommandAnswer:
    """These reports are about something else; `new_incident` takes them."""
    return _answer(await commands.split(escalation, incident_id, caller, body.reason, body.reports), response)


@router.post("/handoffs", status_code=201, responses=_OTHERS)
async def post_handoff(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Handoff,
    response: Response,
) -> CommandAnswer:
    """To the police, or to the unit that took this part of one that was divided."""
    if body.to == "police":
        if body.unit is not None:
            raise invalid([FieldError("#/unit", 'is not for the police: leave it out, or say "to": "unit"')])
        return _answer(await commands.hand_off(escalation, incident_id, caller, body.reason), response)
    if body.unit is None:
        raise invalid([FieldError("#/unit", 'is missing: say which unit, as {"code", "valid_from"}')])
    unit = (body.unit.code, body.unit.valid_from)
    return _answer(await commands.reassign(escalation, incident_id, caller, body.reason, unit), response)


@router.post("/transfers", status_code=201, responses=_OTHERS)
async def post_transfer(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Transfer,
    response: Response,
) -> CommandAnswer:
    """To the unit that took this part of one that was divided; `handoffs` to a unit is the same."""
    unit = (body.unit.code, body.unit.valid_from)
    return _answer(await commands.reassign(escalation, incident_id, caller, body.reason, unit), response)


@router.post("/corrections", status_code=201, responses=_OTHERS)
async def post_correction(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Correction,
    response: Response,
) -> CommandAnswer:
    """Reports were wrong about the time, the ward, the point, or whether it was an exercise.

    The rule is evaluated by what holds. Who was told in error is told so; who answers is asked anew.
    """
    unit = (body.unit.code, body.unit.valid_from) if isinstance(body.unit, UnitKeyBody) else body.unit
    point = Point(body.location.latitude, body.location.longitude) if body.location else None
    done = await commands.correct(
        escalation,
        incident_id,
        caller,
        body.reason,
        occurred_at=body.occurred_at,
        unit=unit,
        exercise=body.exercise,
        point=point,
    )
    return _answer(done, response)


@router.post("/senders")
async def post_senders(escalation: Wired, caller: Caller, incident_id: str, body: Reasoned) -> Senders:
    """Who sent the reports: with a reason only. That you looked, and why, is an event in the ledger."""
    return senders(await show_senders(escalation, incident_id, caller, body.reason))


@router.post("/responses", status_code=201, responses=_OTHERS)
async def post_response(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: ResponseText,
    response: Response,
) -> CommandAnswer:
    """What was done on the spot."""
    return _answer(await commands.respond(escalation, incident_id, caller, body.text), response)


@router.post("/escalations", status_code=201, responses=_OTHERS)
async def post_escalation(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Reasoned,
    response: Response,
) -> CommandAnswer:
    """Put it to the city leadership at once, whoever was asked so far. Ends nothing that others are asked."""
    return _answer(await commands.escalate(escalation, incident_id, caller, body.reason), response)


@router.post("/closure-proposals", status_code=201, responses=_OTHERS)
async def post_closure_proposal(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Reasoned,
    response: Response,
) -> CommandAnswer:
    """The ward holds it to be over; the desk decides."""
    return _answer(await commands.propose_closure(escalation, incident_id, caller, body.reason), response)


@router.post("/closures", status_code=201, responses=_OTHERS)
async def post_closure(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Reasoned,
    response: Response,
) -> CommandAnswer:
    """The city confirms that it is over."""
    return _answer(await commands.close(escalation, incident_id, caller, body.reason), response)


@router.post("/reopenings", status_code=201, responses=_OTHERS)
async def post_reopening(
    escalation: Wired,
    caller: Caller,
    incident_id: str,
    body: Reasoned,
    response: Response,
) -> CommandAnswer:
    """It is not over, or was not false: everybody is told again."""
    return _answer(await commands.reopen(escalation, incident_id, caller, body.reason), response)

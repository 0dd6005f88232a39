"""Routes by which people act on an incident: each a command, refused with the reason or recorded as a finding."""

from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.escalation.api.common import Wired
from services.escalation.application import commands
from services.escalation.application.command_context import CommandResult
from services.escalation.domain.directory.schemas import Code, Day
from shared import events, inputs
from shared.http.body import bounded
from shared.http.guard import require
from shared.http.identity import Principal
from shared.http.problem import FieldError, invalid

MAX_BYTES = 1_000_000
router = APIRouter(prefix="/incidents/{incident_id}", route_class=bounded(MAX_BYTES))
Text = Annotated[inputs.Text, Field(min_length=1, max_length=4000)]
Id = Annotated[inputs.Id, Field(min_length=1, max_length=200)]
Actor = Annotated[Principal, Depends(require("officer", "official", "desk"))]
"""Which of them may take which action is `lifecycle.WHO`, so that the refusal can say why."""


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Reasoned(Body):
    reason: Text


class Verification(Reasoned):
    """`false` dismisses the incident. The other two answer what reports leave open."""

    verdict: Literal["confirmed", "false"]
    firecrackers_exploded: bool | None = None
    category: inputs.KnownCategory | None = None


class Designation(Reasoned):
    prominent: bool = True


class Figures(inputs.Harm):
    """Whole numbers, at least one: the desk's figures replace what was known, so that none would take it away."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="after")
    def _has_any(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("holds no figure: give at least one, such as deaths")
        return self


class Revision(Reasoned):
    harm: Figures


class Merge(Reasoned):
    into: Id


class Split(Reasoned):
    reports: Annotated[list[Id], Field(min_length=1, max_length=500)]


class UnitKeyBody(Body):
    code: Code
    valid_from: Day


class Handoff(Reasoned):
    """To the police, or to `unit`, one of those that took parts of a unit that ended."""

    to: Literal["police", "unit"]
    unit: UnitKeyBody | None = None


class ResponseText(Body):
    text: Text


class Answer(BaseModel):
    """Where the incident stands after the command."""

    incident: str
    state: str
    outcome: str
    standing: str
    severity: int | None
    decision_id: str | None
    new_incident: str | None = None


def _answer(done: CommandResult, response: Response) -> Answer:
    """201 when it was recorded now, 200 when the same had been said before."""
    response.status_code = 201 if done.is_new else 200
    case, decision = done.case, done.case.standing
    return Answer(
        incident=case.incident_id,
        state=case.state,
        outcome=decision.outcome,
        standing=decision.standing,
        severity=decision.severity,
        decision_id=case.decision_id,
        new_incident=done.new_incident,
    )


_OTHERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "the same had been said before"},
    403: {"description": "not this role's, or not this ward's, to do"},
    404: {"description": "no incident that the caller may see"},
    409: {"description": "not in this state; the detail says why"},
    413: {"description": f"a body of more than {MAX_BYTES} bytes"},
}


@router.post("/verifications", status_code=201, responses=_OTHERS)
async def verify(escalation: Wired, caller: Actor, incident_id: str, body: Verification, response: Response) -> Answer:
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
async def designate(
    escalation: Wired, caller: Actor, incident_id: str, body: Designation, response: Response
) -> Answer:
    """Call it "nổi cộm" (prominent), or no longer, with the reason."""
    done = await commands.designate(escalation, incident_id, caller, body.reason, prominent=body.prominent)
    return _answer(done, response)


@router.post("/severity", status_code=201, responses=_OTHERS)
async def revise(escalation: Wired, caller: Actor, incident_id: str, body: Revision, response: Response) -> Answer:
    """New figures of harm. A ward's own can only raise the severity."""
    harm = events.Harm(**body.harm.model_dump())
    return _answer(await commands.revise(escalation, incident_id, caller, body.reason, harm), response)


@router.post("/merges", status_code=201, responses=_OTHERS)
async def merge(escalation: Wired, caller: Actor, incident_id: str, body: Merge, response: Response) -> Answer:
    """This incident is the same as `into`, which takes its reports."""
    return _answer(await commands.merge(escalation, incident_id, caller, body.reason, body.into), response)


@router.post("/splits", status_code=201, responses=_OTHERS)
async def split(escalation: Wired, caller: Actor, incident_id: str, body: Split, response: Response) -> Answer:
    """These reports are about something else; `new_incident` takes them."""
    return _answer(await commands.split(escalation, incident_id, caller, body.reason, body.reports), response)


@router.post("/handoffs", status_code=201, responses=_OTHERS)
async def hand_off(escalation: Wired, caller: Actor, incident_id: str, body: Handoff, response: Response) -> Answer:
    """To the police, or to the unit that took this part of one that was divided."""
    if body.to == "police":
        if body.unit is not None:
            raise invalid([FieldError("#/unit", 'is not for the police: leave it out, or say "to": "unit"')])
        return _answer(await commands.hand_off(escalation, incident_id, caller, body.reason), response)
    if body.unit is None:
        raise invalid([FieldError("#/unit", 'is missing: say which unit, as {"code", "valid_from"}')])
    unit = (body.unit.code, body.unit.valid_from)
    return _answer(await commands.reassign(escalation, incident_id, caller, body.reason, unit), response)


@router.post("/responses", status_code=201, responses=_OTHERS)
async def respond(escalation: Wired, caller: Actor, incident_id: str, body: ResponseText, response: Response) -> Answer:
    """What was done on the spot."""
    return _answer(await commands.respond(escalation, incident_id, caller, body.text), response)


@router.post("/closure-proposals", status_code=201, responses=_OTHERS)
async def propose_closure(
    escalation: Wired, caller: Actor, incident_id: str, body: Reasoned, response: Response
) -> Answer:
    """The ward holds it to be over; the desk decides."""
    return _answer(await commands.propose_closure(escalation, incident_id, caller, body.reason), response)


@router.post("/closures", status_code=201, responses=_OTHERS)
async def close(escalation: Wired, caller: Actor, incident_id: str, body: Reasoned, response: Response) -> Answer:
    """The city confirms that it is over."""
    return _answer(await commands.close(escalation, incident_id, caller, body.reason), response)


@router.post("/reopenings", status_code=201, responses=_OTHERS)
async def reopen(escalation: Wired, caller: Actor, incident_id: str, body: Reasoned, response: Response) -> Answer:
    """It is not over, or was not false: everybody is told again."""
    return _answer(await commands.reopen(escalation, incident_id, caller, body.reason), response)

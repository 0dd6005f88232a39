"""What people say about an incident, and where it stands after that."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from services.escalation.application.command_context import CommandResult
from services.escalation.domain.directory.schemas import Code, Day
from services.escalation.domain.incidents.lifecycle import State
from services.escalation.domain.rules.record import Outcome
from shared import inputs
from shared.http import fields

Text = Annotated[inputs.Text, Field(min_length=1, max_length=4000)]
Id = Annotated[inputs.Id, Field(min_length=1, max_length=200)]


MAX_NAME = 200
"""Characters of a ward's code or name."""


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, use_attribute_docstrings=True)


class Reasoned(Body):
    """A command with its reason."""

    reason: Text


class Verification(Reasoned):
    """`false` dismisses the incident. The other two answer what reports leave open."""

    verdict: Literal["confirmed", "false"]
    firecrackers_exploded: bool | None = None
    category: fields.KnownCategory | None = None


class Designation(Reasoned):
    """ "Nổi cộm" (prominent), or no longer."""

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
    """New figures of harm."""

    harm: Figures


class Merge(Reasoned):
    """This incident is the same as another."""

    into: Id
    """Id of the other, which takes the reports."""


class Split(Reasoned):
    """Some reports are about something else."""

    reports: Annotated[list[Id], Field(min_length=1, max_length=500)]
    """Their ids; at least one report stays."""


class UnitKeyBody(Body):
    code: Code
    valid_from: Day


def _text_or_key(value: Any, _: ValidatorFunctionWrapHandler) -> "UnitKeyBody | str":
    """Tell by its form what is meant, so that an error points to a field and not to one of two forms."""
    if not isinstance(value, str):
        return UnitKeyBody.model_validate(value)
    if not 0 < len(value.strip()) <= MAX_NAME:
        raise ValueError(f"is not 1 to {MAX_NAME} characters: give a ward's code or name")
    return value


class Handoff(Reasoned):
    """To the police, or to `unit`, one of those that took parts of a unit that ended."""

    to: Literal["police", "unit"]
    unit: UnitKeyBody | None = None


class Transfer(Reasoned):
    """To one of the units that took parts of a unit that ended."""

    unit: UnitKeyBody


class Location(Body):
    """Degrees WGS 84."""

    latitude: Annotated[inputs.Number, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[inputs.Number, Field(ge=-180, le=180, allow_inf_nan=False)]


class Correction(Reasoned):
    """What holds instead of what reports say: at least one of the four. What is left out stays."""

    occurred_at: inputs.Time | None = None
    """No later than the first report of it."""
    unit: Annotated[UnitKeyBody | str, WrapValidator(_text_or_key)] | None = None
    """The ward where it occurred: its key; or its code or name, as it was at that time."""
    location: Location | None = None
    exercise: bool | None = None
    """Whether it was an exercise (diễn tập)."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude={"reason"}, exclude_none=True):
            raise ValueError("corrects nothing: give occurred_at, unit, location or exercise")
        return self


class ResponseText(Body):
    """What was done on the spot."""

    text: Text


class CommandAnswer(fields.Answer):
    """Where the incident stands after the command."""

    incident: str
    state: State
    outcome: Outcome
    standing: Literal["provisional", "confirmed"]
    severity: fields.Severity | None
    decision_id: str | None
    new_incident: str | None = None
    """The incident that a split made."""


def command_answer(done: CommandResult) -> CommandAnswer:
    case, decision = done.case, done.case.standing
    return CommandAnswer(
        incident=case.incident_id,
        state=case.state,
        outcome=decision.outcome,
        standing=decision.standing,
        severity=decision.severity,
        decision_id=case.decision_id,
        new_incident=done.new_incident,
    )


class AcknowledgementAnswer(fields.Answer):
    """Where the incident stands, and which notices the caller has seen."""

    incident: str
    state: State
    acknowledged: tuple[str, ...]
    """Ids of the notices."""

"""What more than one service takes from senders, checked before it becomes part of an event. Pure."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

from shared import events
from shared.taxonomy import categories
from shared.text import line, prose


def not_bool(value: Any) -> Any:
    """JSON's true is not the number 1, though Python's is."""
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


def _category(value: str) -> str:
    if value not in categories():
        raise ValueError(f"{value[:40]!r} is no category: use one of {', '.join(categories())}")
    return value


Text = Annotated[str, AfterValidator(prose)]
Id = Annotated[str, AfterValidator(line)]
KnownCategory = Annotated[str, AfterValidator(_category)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Harm(events.Harm):
    """As in the event, but a misspelt field is refused: dropped in silence, its figure would count as unknown."""

    model_config = Strict.model_config

    numbers = field_validator("*", mode="before")(not_bool)

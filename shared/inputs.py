"""Fields that more than one service takes from senders, with their checks. Pure."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

from shared import events
from shared.taxonomy import categories
from shared.text import clean_line, clean_text


def refuse_bool(value: Any) -> Any:
    """JSON's true is not the number 1, though Python's is."""
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


def _require_category(value: str) -> str:
    if value not in categories():
        raise ValueError(f"{value[:40]!r} is no category: use one of {', '.join(categories())}")
    return value


Text = Annotated[str, AfterValidator(clean_text)]
Id = Annotated[str, AfterValidator(clean_line)]
KnownCategory = Annotated[str, AfterValidator(_require_category)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Harm(events.Harm):
    """As in the event, but refuses an unknown field: ignored, a misspelt figure would count as unknown."""

    model_config = Strict.model_config

    numbers = field_validator("*", mode="before")(refuse_bool)

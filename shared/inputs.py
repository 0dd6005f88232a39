"""Fields that more than one service takes from senders, with their checks. Pure."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, field_validator

from shared import events
from shared.taxonomy import categories
from shared.text import clean_line, clean_text

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""No field takes a time outside these years: near the ends of the calendar a time cannot be moved to another offset,
neither here nor by a reader of the event."""
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_RFC3339 = re.compile(f"{_DATE}[Tt ]{_TIME}([Zz]|[+-][0-9]{{2}}:[0-9]{{2}})")


def _require_time_text(value: Any) -> Any:
    """RFC 3339 text only: digits alone would be read as seconds since 1970."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and _RFC3339.fullmatch(value)):
        raise ValueError("give an RFC 3339 time with an offset, such as 2023-01-21T23:55:00+07:00")
    return value


def _require_plausible_year(value: datetime) -> datetime:
    if not EARLIEST <= value < LATEST:
        raise ValueError(f"{value.isoformat()} is not between {EARLIEST:%Y} and {LATEST:%Y}: check the year")
    return value


def refuse_bool(value: Any) -> Any:
    """JSON's true is not the number 1, though Python's is."""
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


def _require_category(value: str) -> str:
    if value not in categories():
        raise ValueError(f"{value[:40]!r} is no category: use one of {', '.join(categories())}")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_require_time_text), AfterValidator(_require_plausible_year)]
Number = Annotated[float, BeforeValidator(refuse_bool)]
Text = Annotated[str, AfterValidator(clean_text)]
Id = Annotated[str, AfterValidator(clean_line)]
KnownCategory = Annotated[str, AfterValidator(_require_category)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Harm(events.Harm):
    """As in the event, but refuses an unknown field: ignored, a misspelt figure would count as unknown."""

    model_config = Strict.model_config

    numbers = field_validator("*", mode="before")(refuse_bool)

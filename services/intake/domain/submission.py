"""One report as a sender sends it: its fields are checked and put into normal form. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
)

from shared import events
from shared.http.identity import Role
from shared.inputs import Harm, KnownCategory, Number, Strict, Text, Time
from shared.taxonomy import categories
from shared.text import clean_text

LONGEST_ID = 64
REPORT_ID = rf"^[A-Za-z0-9._:-]{{1,{LONGEST_ID}}}$"
CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a sender's clock may run ahead of ours before the report is flagged."""
CLOCK_LIMIT = timedelta(days=30)
"""A time of occurrence further ahead than this is a typing error, and is refused."""


def normalize_phone(typed: str) -> str:
    """ITU-T E.164: with +84 and without the trunk 0. A number where that is in doubt, such as 113, stays as typed."""
    digits = re.sub(r"[\s().-]", "", typed)
    national = re.fullmatch(r"(?:\+?84|0)([1-9][0-9]{8,9})", digits)
    return f"+84{national[1]}" if national else typed


Phone = Annotated[str, Field(max_length=40), AfterValidator(clean_text), AfterValidator(normalize_phone)]


class Location(Strict):
    """Degrees WGS 84, metres."""

    latitude: Annotated[Number, Field(ge=-90, le=90)]
    longitude: Annotated[Number, Field(ge=-180, le=180)]
    accuracy_m: Annotated[Number, Field(ge=0, le=100_000)] | None = None


class Firecracker(events.Firecracker):
    model_config = Strict.model_config


class Evidence(events.Evidence):
    model_config = Strict.model_config


class Reporter(Strict):
    """The person who saw it. Encrypted in intake, never in an event."""

    name: Annotated[Text, Field(max_length=200)] | None = None
    phone: Phone | None = None


class OnBehalfOf(Strict):
    """Whose report an administrator's import carries."""

    role: Role
    subject: Annotated[Text, Field(min_length=1, max_length=100)]
    ward: Annotated[Text, Field(max_length=20)] | None = None


class Submission(Strict):
    """One report as `POST /reports` takes it."""

    report_id: Annotated[str, Field(pattern=REPORT_ID)]
    """The idempotency key: the same id of the same sender with the same content is the same report."""
    category: KnownCategory
    ward: Annotated[Text, Field(min_length=1, max_length=100)]
    """A code or a name; a name must match exactly one unit once case, marks and a leading "Phường" are dropped."""
    neighbourhood: Annotated[Text, Field(max_length=200)] | None = None
    location: Location | None = None
    occurred_at: Time
    captured_at: Time | None = None
    description: Annotated[Text, Field(max_length=4_000)] | None = None
    harm: Annotated[Harm | None, Field(validate_default=True)] = None
    firecracker: Firecracker | None = None
    evidence: Annotated[tuple[Evidence, ...], Field(max_length=20)] = ()
    reporter: Reporter | None = None
    exercise: bool = False
    received_at: Time | None = None
    """Only an administrator's import may set it."""
    on_behalf_of: OnBehalfOf | None = None
    """Only an administrator's import may set it."""

    @field_validator("harm")
    @classmethod
    def _require_harm(cls, harm: Harm | None, info: ValidationInfo) -> Harm | None:
        category = categories().get(info.data.get("category", ""))
        known = harm is not None and harm.model_dump(exclude_none=True)
        if category is not None and category.needs_harm and not known:
            raise ValueError(f"category {category.code} needs harm with at least one known figure")
        return harm

    def content(self) -> dict[str, Any]:
        """What makes two messages the same message. Times count as instants, whatever their offset."""
        content = self.model_dump(mode="json", exclude={"received_at", "on_behalf_of"}, exclude_none=True)
        times = {"occurred_at": self.occurred_at, "captured_at": self.captured_at}
        return content | {name: at.astimezone(UTC).isoformat() for name, at in times.items() if at is not None}


def time_error(claimed: datetime, received_at: datetime) -> str | None:
    """Why a time that the sender claims cannot be right; None if it can."""
    if claimed > received_at + CLOCK_LIMIT:
        return f"{claimed.isoformat()} is more than {CLOCK_LIMIT.days} days ahead: check the date"
    return None


def is_clock_ahead(occurred_at: datetime, received_at: datetime) -> bool:
    return occurred_at > received_at + CLOCK_TOLERANCE

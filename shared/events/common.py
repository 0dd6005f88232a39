"""What events have in common: the envelope (CloudEvents 1.0), the common data, and the values that they carry."""

from datetime import date
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    computed_field,
)

TYPE_PREFIX = "vn.trucban."


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class UnitRef(Frozen):
    """A ward or commune (phường, xã). The key is `(code, valid_from)`.

    Codes and names are reused over the years.
    """

    code: str
    valid_from: date
    name: str


class Harm(Frozen):
    """What is known about the harm. A field that is missing is unknown, which is not zero."""

    deaths: Annotated[int, Field(ge=0, le=10_000)] | None = None
    injured: Annotated[int, Field(ge=0, le=100_000)] | None = None
    injury_percent: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Sum of the bodily injury rates (tỷ lệ tổn thương cơ thể) of all injured persons, in percent."""
    life_threatening: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Persons with a life-threatening injury."""
    property_vnd: Annotated[int, Field(ge=0, lt=2**53)] | None = None


class Firecracker(Frozen):
    """What tells firecrackers (pháo nổ) from lawful fireworks (pháo hoa), which make no explosion sound.

    The reporter is asked "có tiếng nổ không?" (was there an explosion sound?).
    """

    explosion_sound: bool | None = None
    licensed: bool | None = None


class Evidence(Frozen):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=1, le=2**40)]
    media_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+$", max_length=100)]


class Source(Frozen):
    """Who sent a report: a credential, never the person who saw something.

    A report by an officer is verified by itself.
    """

    kind: Literal["officer", "device", "desk", "admin"]
    subject: str
    """Of the credential; a pseudonym from report.received.v2 on."""


Means = Literal["api", "cli", "page", "link"]
"""How a person reached the system: with a token, on the machine itself, on a page, or by a signed link."""


class Who(Frozen):
    """The person who caused an event."""

    subject: str
    """An official's holder id, an office, or the subject of a credential. An officer has a pseudonym."""
    role: str
    means: Means


class Data(Frozen):
    """The data that an event of any type may carry. The ledger indexes all events by it."""

    incident: str | None = None
    sequence: int | None = None
    """The incident's own counter, from 1, without gaps."""
    cause: str | None = None
    """Id of the event that caused this one."""
    who: Who | None = None
    """The person whose request led to this event in the same transaction. Without one, nobody's did."""
    unit: UnitRef | None = None
    category: str | None = None
    occurred_at: AwareDatetime | None = None
    officials: tuple[str, ...] = ()
    """Holder ids of the officials that the event names."""


class Envelope(Frozen):
    """The attributes of a CloudEvent. Each event type is a subclass."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    subject: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    seq: Annotated[int, Field(ge=1)] | None = None
    """Its place in its sender's stream, without a gap. Added when it is published; no part of what is recorded."""

    @computed_field
    @property
    def dataschema(self) -> str:
        return f"urn:trucban:schema:{type_name(type(self))}"


def type_name(model: type[Envelope]) -> str:
    """Return the type without its prefix, such as `report.received.v1`."""
    return str(model.model_fields["type"].default).removeprefix(TYPE_PREFIX)

"""The event types as one union, how they are read and written, and their published schemas."""

from typing import Annotated, Any

from pydantic import (
    Field,
    TypeAdapter,
)

from shared.events.access import AccessRecorded
from shared.events.common import Envelope, type_name
from shared.events.credentials import CredentialIssued, CredentialRefused, CredentialRevoked
from shared.events.directory import (
    ChannelTestStarted,
    ContactConfirmed,
    ContactRecorded,
    PostingRecorded,
    RosterRecorded,
    RulebookAdopted,
    TenureRecorded,
    UnitRecorded,
)
from shared.events.findings import (
    ClosureProposed,
    IncidentClosed,
    IncidentCorrected,
    IncidentDesignated,
    IncidentDismissed,
    IncidentEscalated,
    IncidentHandedOff,
    IncidentMerged,
    IncidentReopened,
    IncidentSplit,
    IncidentVerified,
    ResponseRecorded,
    SeverityRevised,
)
from shared.events.incidents import (
    AcknowledgementLapsed,
    AcknowledgementRecorded,
    ChainExhausted,
    DecisionMade,
    DeliveryFinished,
    IncidentOpened,
    NoticeIssued,
    ReportCorrelated,
    StepRaised,
    SuggestionRaised,
)
from shared.events.operation import DataRestored, DeadLetterDiscarded, PartitionsChanged
from shared.events.reports import ReportReceived, ReportReceivedV2

Event = Annotated[
    ReportReceived
    | ReportReceivedV2
    | UnitRecorded
    | TenureRecorded
    | RosterRecorded
    | PostingRecorded
    | ContactRecorded
    | ChannelTestStarted
    | ContactConfirmed
    | RulebookAdopted
    | IncidentOpened
    | ReportCorrelated
    | DecisionMade
    | NoticeIssued
    | DeliveryFinished
    | AcknowledgementRecorded
    | AcknowledgementLapsed
    | StepRaised
    | ChainExhausted
    | SeverityRevised
    | IncidentVerified
    | IncidentDesignated
    | IncidentMerged
    | IncidentSplit
    | IncidentHandedOff
    | IncidentCorrected
    | ResponseRecorded
    | IncidentEscalated
    | ClosureProposed
    | IncidentClosed
    | IncidentDismissed
    | IncidentReopened
    | SuggestionRaised
    | AccessRecorded
    | CredentialIssued
    | CredentialRevoked
    | CredentialRefused
    | DataRestored
    | PartitionsChanged
    | DeadLetterDiscarded,
    Field(discriminator="type"),
]

_adapter: TypeAdapter[Event] = TypeAdapter(Event)
_OF_INTAKE: frozenset[type[Envelope]] = frozenset({ReportReceived, ReportReceivedV2})
_OF_ANY: frozenset[type[Envelope]] = frozenset({DeadLetterDiscarded, CredentialRefused})


class ForeignTypeError(Exception):
    """A service has sent an event of a type that another one sends."""


def parse(body: bytes, producer: str | None = None) -> Event:
    """Parse an event, which `producer` has sent. None: nobody asks who.

    Raises pydantic.ValidationError; do not log its text, which quotes the input. Raises ForeignTypeError.
    """
    event = _adapter.validate_json(body)
    if producer is not None and not _may_send(producer, type(event)):
        raise ForeignTypeError(f"{producer} sends no {event.type}")
    return event


def _may_send(producer: str, model: type[Envelope]) -> bool:
    return model in _OF_ANY or (model in _OF_INTAKE) == (producer == "intake")


def encode(event: Event) -> bytes:
    return event.model_dump_json(exclude_none=True).encode()


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (2020-12) of each event type, by type name without the prefix."""
    found: dict[str, dict[str, Any]] = {}
    for model in Envelope.__subclasses__():
        found[type_name(model)] = model.model_json_schema(mode="serialization")
    return found

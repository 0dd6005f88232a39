"""The events: CloudEvents 1.0 in structured JSON, one frozen model for each type, discriminated on `type`.

The JSON Schemas and the AsyncAPI document under docs/ are generated from these models. The body holds everything;
stream headers hold nothing. Personal free text is always a `Committed` inside `data`.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    computed_field,
)

from shared.commitment import Committed

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


class Data(Frozen):
    """The data that an event of any type may carry. The ledger indexes all events by it."""

    incident: str | None = None
    sequence: int | None = None
    """The incident's own counter, from 1, without gaps."""
    cause: str | None = None
    """Id of the event that caused this one."""
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

    @computed_field
    @property
    def dataschema(self) -> str:
        return f"urn:trucban:schema:{type_name(type(self))}"


class ReportReceivedData(Data):
    report_id: str
    received_at: AwareDatetime
    captured_at: AwareDatetime | None = None
    from_source: Source
    harm: Harm | None = None
    firecracker: Firecracker | None = None
    evidence: tuple[Evidence, ...] = ()
    neighbourhood: Committed | None = None
    location: Committed | None = None
    """JSON text `{"latitude", "longitude", "accuracy_m"?}`, degrees WGS 84 and metres."""
    description: Committed | None = None
    reporter_commitment: str | None = None
    """Commitment to the reporter's name and phone number. Value and salt stay encrypted in intake."""
    exercise: bool = False
    clock_ahead: bool = False
    """At receipt `occurred_at` was later than our clock allows: the sender's clock is wrong."""


class ReportReceived(Envelope):
    type: Literal["vn.trucban.report.received.v1"] = "vn.trucban.report.received.v1"
    data: ReportReceivedData


class UnitRecordedData(Data):
    kind: Literal["phường", "xã"]
    valid_to: date | None = None
    successors: tuple[UnitRef, ...] = ()
    """For a unit that ended: one successor took its place whole, or several took parts of it."""
    legal_act: str | None = None


class UnitRecorded(Envelope):
    type: Literal["vn.trucban.unit.recorded.v1"] = "vn.trucban.unit.recorded.v1"
    data: UnitRecordedData


class TenureRecordedData(Data):
    tenure_id: str
    post: str
    holder_id: str
    holder_name: str
    acting: bool
    capacity: Literal["holder", "deputy"] = "holder"
    """A deputy (người được ủy quyền) is notified in the holder's place; the holder stays accountable."""
    reason: str | None = None
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None
    sample: bool
    supersedes: str | None = None
    withdrawn: bool = False
    """The record of the tenure is withdrawn, and nothing takes its place."""


class TenureRecorded(Envelope):
    type: Literal["vn.trucban.tenure.recorded.v1"] = "vn.trucban.tenure.recorded.v1"
    data: TenureRecordedData


class RosterRecordedData(Data):
    """A turn of duty (lịch trực) in a ward, at the desk or in the leadership.

    For a turn in a ward, `unit` is that ward.
    """

    roster_id: str
    level: Literal["ward", "desk", "leadership"]
    holder_id: str
    holder_name: str
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime
    sample: bool
    withdrawn: bool = False


class RosterRecorded(Envelope):
    type: Literal["vn.trucban.roster.recorded.v1"] = "vn.trucban.roster.recorded.v1"
    data: RosterRecordedData


class ContactRecordedData(Data):
    holder_id: str
    channel: str
    """Only the scheme of the channel: an address or a number is personal."""
    quiet_from: str | None = None
    quiet_to: str | None = None
    withdrawn: bool = False


class ContactRecorded(Envelope):
    type: Literal["vn.trucban.contact.recorded.v1"] = "vn.trucban.contact.recorded.v1"
    data: ContactRecordedData


class RulebookAdoptedData(Data):
    version: str
    sha256: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class RulebookAdopted(Envelope):
    type: Literal["vn.trucban.rulebook.adopted.v1"] = "vn.trucban.rulebook.adopted.v1"
    data: RulebookAdoptedData


class IncidentOpenedData(Data):
    family: str
    exercise: bool


class IncidentOpened(Envelope):
    type: Literal["vn.trucban.incident.opened.v1"] = "vn.trucban.incident.opened.v1"
    data: IncidentOpenedData


class ReportCorrelatedData(Data):
    report_id: str
    outcome: Literal["new", "merged"]


class ReportCorrelated(Envelope):
    type: Literal["vn.trucban.report.correlated.v1"] = "vn.trucban.report.correlated.v1"
    data: ReportCorrelatedData


class DecisionMadeData(Data):
    decision_id: str
    previous: str | None = None
    record: dict[str, JsonValue]
    """The decision record; its JSON Schema is docs/schemas/decision.json."""


class DecisionMade(Envelope):
    type: Literal["vn.trucban.decision.made.v1"] = "vn.trucban.decision.made.v1"
    data: DecisionMadeData


class NoticeIssuedData(Data):
    notice_id: str
    recipient: str
    """A holder id, `desk` or `leadership`."""
    purpose: str
    posts: tuple[str, ...]
    decision_id: str | None = None
    due_at: AwareDatetime | None = None
    exercise: bool


class NoticeIssued(Envelope):
    type: Literal["vn.trucban.notice.issued.v1"] = "vn.trucban.notice.issued.v1"
    data: NoticeIssuedData


class DeliveryFinishedData(Data):
    notice_id: str
    delivery_id: str
    channel: str
    """Only the scheme of the channel."""
    outcome: Literal["sent", "delivered", "given_up"]
    attempts: int
    bundle_id: str | None = None
    """The same for all deliveries that went out as one message."""


class DeliveryFinished(Envelope):
    type: Literal["vn.trucban.delivery.finished.v1"] = "vn.trucban.delivery.finished.v1"
    data: DeliveryFinishedData


class AcknowledgementRecordedData(Data):
    notice_id: str
    holder: str
    posts: tuple[str, ...]
    in_time: bool


class AcknowledgementRecorded(Envelope):
    type: Literal["vn.trucban.acknowledgement.recorded.v1"] = "vn.trucban.acknowledgement.recorded.v1"
    data: AcknowledgementRecordedData


class AcknowledgementLapsedData(Data):
    """The incident was acknowledged and is still open. Its post-holders are asked again."""

    round: int
    """The round that begins."""


class AcknowledgementLapsed(Envelope):
    type: Literal["vn.trucban.acknowledgement.lapsed.v1"] = "vn.trucban.acknowledgement.lapsed.v1"
    data: AcknowledgementLapsedData


class StepRaisedData(Data):
    level: str
    reason: Literal["not_acknowledged", "not_reviewed"]
    due_at: AwareDatetime


class StepRaised(Envelope):
    type: Literal["vn.trucban.step.raised.v1"] = "vn.trucban.step.raised.v1"
    data: StepRaisedData


class ChainExhaustedData(Data):
    """The last level of the chain did not act either."""

    reason: Literal["not_acknowledged", "not_reviewed"]
    round: int


class ChainExhausted(Envelope):
    type: Literal["vn.trucban.chain.exhausted.v1"] = "vn.trucban.chain.exhausted.v1"
    data: ChainExhaustedData


class FindingData(Data):
    """What a person found or did about an incident. `author` is the subject of a credential."""

    finding_id: str
    author: str
    role: str
    reason: Committed | None = None


class SeverityRevisedData(FindingData):
    harm: Harm
    severity: int | None = None
    previous: int | None = None


class SeverityRevised(Envelope):
    type: Literal["vn.trucban.severity.revised.v1"] = "vn.trucban.severity.revised.v1"
    data: SeverityRevisedData


class IncidentVerifiedData(FindingData):
    firecrackers_exploded: bool | None = None
    reclassified: str | None = None
    """The category that the desk found the incident to be."""


class IncidentVerified(Envelope):
    type: Literal["vn.trucban.incident.verified.v1"] = "vn.trucban.incident.verified.v1"
    data: IncidentVerifiedData


class IncidentDesignatedData(FindingData):
    """A person designated the incident "nổi cộm" (prominent), or no longer."""

    prominent: bool


class IncidentDesignated(Envelope):
    type: Literal["vn.trucban.incident.designated.v1"] = "vn.trucban.incident.designated.v1"
    data: IncidentDesignatedData


class IncidentMergedData(FindingData):
    into: str
    reports: tuple[str, ...]


class IncidentMerged(Envelope):
    type: Literal["vn.trucban.incident.merged.v1"] = "vn.trucban.incident.merged.v1"
    data: IncidentMergedData


class IncidentSplitData(FindingData):
    new_incident: str
    reports: tuple[str, ...]


class IncidentSplit(Envelope):
    type: Literal["vn.trucban.incident.split.v1"] = "vn.trucban.incident.split.v1"
    data: IncidentSplitData


class IncidentHandedOffData(FindingData):
    """The incident was handed to the police, which ends it here, or to another unit.

    That unit is one of several that took parts of the incident's own.
    """

    to: Literal["police", "unit"]
    successor: UnitRef | None = None


class IncidentHandedOff(Envelope):
    type: Literal["vn.trucban.incident.handed_off.v1"] = "vn.trucban.incident.handed_off.v1"
    data: IncidentHandedOffData


class ResponseRecorded(Envelope):
    type: Literal["vn.trucban.response.recorded.v1"] = "vn.trucban.response.recorded.v1"
    data: FindingData


class ClosureProposed(Envelope):
    type: Literal["vn.trucban.closure.proposed.v1"] = "vn.trucban.closure.proposed.v1"
    data: FindingData


class IncidentClosed(Envelope):
    type: Literal["vn.trucban.incident.closed.v1"] = "vn.trucban.incident.closed.v1"
    data: FindingData


class IncidentDismissed(Envelope):
    """The incident was found to be false. The data has the reason."""

    type: Literal["vn.trucban.incident.dismissed.v1"] = "vn.trucban.incident.dismissed.v1"
    data: FindingData


class IncidentReopened(Envelope):
    type: Literal["vn.trucban.incident.reopened.v1"] = "vn.trucban.incident.reopened.v1"
    data: FindingData


class SuggestionRaisedData(Data):
    """The desk may want to designate the incident "nổi cộm" (prominent). Nothing else follows from this."""

    pattern: Literal["independent_reports", "ward_incidents"]
    count: int


class SuggestionRaised(Envelope):
    type: Literal["vn.trucban.suggestion.raised.v1"] = "vn.trucban.suggestion.raised.v1"
    data: SuggestionRaisedData


Event = Annotated[
    ReportReceived
    | UnitRecorded
    | TenureRecorded
    | RosterRecorded
    | ContactRecorded
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
    | ResponseRecorded
    | ClosureProposed
    | IncidentClosed
    | IncidentDismissed
    | IncidentReopened
    | SuggestionRaised,
    Field(discriminator="type"),
]

_adapter: TypeAdapter[Event] = TypeAdapter(Event)


def parse(body: bytes) -> Event:
    """Parse an event. Raises pydantic.ValidationError; do not log its text, which quotes the input."""
    return _adapter.validate_json(body)


def encode(event: Event) -> bytes:
    return event.model_dump_json(exclude_none=True).encode()


def type_name(model: type[Envelope]) -> str:
    """Return the type without its prefix, such as `report.received.v1`."""
    return str(model.model_fields["type"].default).removeprefix(TYPE_PREFIX)


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (2020-12) of each event type, by type name without the prefix."""
    found: dict[str, dict[str, Any]] = {}
    for model in Envelope.__subclasses__():
        found[type_name(model)] = model.model_json_schema(mode="serialization")
    return found

"""Events of incidents: what the rule decided, who was told, and what fell due."""

from typing import Literal

from pydantic import (
    AwareDatetime,
    JsonValue,
)

from shared.events.common import Data, Envelope


class IncidentOpenedData(Data):
    family: str
    exercise: bool


class IncidentOpened(Envelope):
    type: Literal["vn.trucban.incident.opened.v1"] = "vn.trucban.incident.opened.v1"
    data: IncidentOpenedData


class ReportCorrelatedData(Data):
    report_id: str
    """As its report.received names it."""
    outcome: Literal["new", "merged", "late"]
    """late: the incident had ended; the report is kept with it."""


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
    task: str | None = None
    """What was not done by the desk, where the reason is `not_reviewed`: review, vacancy, unit_split, closure,
    late_reports or lost_notice."""
    due_at: AwareDatetime


class StepRaised(Envelope):
    type: Literal["vn.trucban.step.raised.v1"] = "vn.trucban.step.raised.v1"
    data: StepRaisedData


class ChainExhaustedData(Data):
    """The last level of the chain did not act either."""

    reason: Literal["not_acknowledged", "not_reviewed"]
    task: str | None = None
    """As in step.raised."""
    round: int


class ChainExhausted(Envelope):
    type: Literal["vn.trucban.chain.exhausted.v1"] = "vn.trucban.chain.exhausted.v1"
    data: ChainExhaustedData


class SuggestionRaisedData(Data):
    """The desk may want to designate the incident "nổi cộm" (prominent). Nothing else follows from this."""

    pattern: Literal["independent_reports", "ward_incidents"]
    count: int


class SuggestionRaised(Envelope):
    type: Literal["vn.trucban.suggestion.raised.v1"] = "vn.trucban.suggestion.raised.v1"
    data: SuggestionRaisedData

"""Events of what people did about an incident, each with its author."""

from typing import Literal

from pydantic import AwareDatetime

from shared.commitment import Committed
from shared.events.common import Data, Envelope, Frozen, Harm, UnitRef


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


class CorrectedFacts(Frozen):
    """What holds instead of what reports say. What is absent stays."""

    occurred_at: AwareDatetime | None = None
    unit: UnitRef | None = None
    exercise: bool | None = None


class IncidentCorrectedData(FindingData):
    """`unit` and `occurred_at` of the event are those of before; later events have those that hold from now on."""

    to: CorrectedFacts
    location: Committed | None = None
    """JSON: `{"latitude", "longitude"}`, degrees WGS 84, if the point was corrected."""


class IncidentCorrected(Envelope):
    type: Literal["vn.trucban.incident.corrected.v1"] = "vn.trucban.incident.corrected.v1"
    data: IncidentCorrectedData


class ResponseRecorded(Envelope):
    type: Literal["vn.trucban.response.recorded.v1"] = "vn.trucban.response.recorded.v1"
    data: FindingData


class IncidentEscalatedData(FindingData):
    """Somebody put the incident to the leadership at once. The notice to the leadership follows from it."""

    posts: tuple[str, ...]
    """The post of whoever cannot handle it; empty where the desk asks."""


class IncidentEscalated(Envelope):
    type: Literal["vn.trucban.incident.escalated.v1"] = "vn.trucban.incident.escalated.v1"
    data: IncidentEscalatedData


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

"""Events of the directory and of the rulebooks."""

from datetime import date
from typing import Literal

from pydantic import (
    AwareDatetime,
)

from shared.events.common import Data, Envelope, UnitRef


class UnitRecordedData(Data):
    kind: str
    """Such as `phường` or `xã`."""
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

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


class PostingRecordedData(Data):
    """Where an officer or a device is posted: the ward that they report of, and an officer sees."""

    posting_id: str
    sender: str
    """The pseudonym of their credential's subject."""
    document: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None
    sample: bool
    withdrawn: bool = False
    """The record is withdrawn. Another one may say the same otherwise."""


class PostingRecorded(Envelope):
    type: Literal["vn.trucban.posting.recorded.v1"] = "vn.trucban.posting.recorded.v1"
    data: PostingRecordedData


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


class ChannelTestStartedData(Data):
    """A test message goes to each channel of everybody in office. For a test of one ward, `unit` is that ward."""

    test_id: str
    people: int
    contacts: int
    """How many channels they have."""
    without_channel: tuple[str, ...]
    """Holder ids of those who have none."""
    confirm_by: AwareDatetime


class ChannelTestStarted(Envelope):
    type: Literal["vn.trucban.channel_test.started.v1"] = "vn.trucban.channel_test.started.v1"
    data: ChannelTestStartedData


class ContactConfirmedData(Data):
    """Somebody has received a test message at this channel, and says so by its link."""

    test_id: str
    notice_id: str
    holder_id: str
    channel: str
    """Only the scheme of the channel."""


class ContactConfirmed(Envelope):
    type: Literal["vn.trucban.contact.confirmed.v1"] = "vn.trucban.contact.confirmed.v1"
    data: ContactConfirmedData


class RulebookAdoptedData(Data):
    version: str
    sha256: str
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None = None


class RulebookAdopted(Envelope):
    type: Literal["vn.trucban.rulebook.adopted.v1"] = "vn.trucban.rulebook.adopted.v1"
    data: RulebookAdoptedData

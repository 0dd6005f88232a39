"""Tests of the contacts' channels, and what became of each message."""

from collections import Counter
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.escalation.api.models.delivery_error import told_error
from services.escalation.application.channel_tests import ChannelTest, Outcome, TestedContact
from services.escalation.domain.notices.channel_test import HeldPost
from shared import inputs
from shared.events import UnitRef
from shared.http.fields import Answer, Page
from shared.http.identity import Principal


class NewContactTest(BaseModel):
    """What is to be tested: the channels of everybody in office, or of those of one ward."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, use_attribute_docstrings=True)

    ward: Annotated[inputs.Text, Field(min_length=1, max_length=200)] | None = None
    """Code, `CODE@VALID_FROM`, or name."""


class PostItem(Answer):
    """A post that the person holds, or is deputy for."""

    ward: UnitRef
    kind: str
    post: str


class TestedContactItem(Answer):
    """One channel of one person, and what became of its message."""

    holder_id: str
    holder_name: str
    posts: list[PostItem]
    in_office: bool
    """False: they have left since."""
    channel: str | None
    """Its scheme only; null for a person without a channel."""
    outcome: Outcome
    """confirmed: its link was used. not_confirmed: the channel took the message. waiting: it is still to be sent.
    retrying: the last attempt failed. failed: it was given up. called_off: the channel was taken from its person.
    no_channel: there is none. not_tested: it was recorded after the test, or its person came to office after it."""
    not_before: AwareDatetime | None
    """While it waits for quiet hours or the night to end."""
    sent_at: AwareDatetime | None
    confirmed_at: AwareDatetime | None
    error: str | None
    """Of the last attempt, if it failed: what came back for administrators, for others that it failed."""


class ContactTestItem(Answer):
    """One test."""

    id: str
    ward: str | None
    """Code of the ward that was tested; null for all."""
    started_at: AwareDatetime
    started_by: str
    confirm_by: AwareDatetime
    """When its links expire."""


class ContactTestPage(Page[ContactTestItem]):
    """Tests, the newest first."""


class ContactTest(ContactTestItem):
    """One test with every channel, those of one person together."""

    is_running: bool
    """Whether a message is still to be sent. Meanwhile no other test can be started."""
    outcomes: dict[Outcome, int]
    """How many contacts there are of each outcome."""
    contacts: list[TestedContactItem]


def contact_test_item(test: ChannelTest) -> ContactTestItem:
    return ContactTestItem(
        id=test.test_id,
        ward=test.ward.code if test.ward else None,
        started_at=test.started_at,
        started_by=test.started_by,
        confirm_by=test.confirm_by,
    )


def contact_test(test: ChannelTest, caller: Principal) -> ContactTest:
    return ContactTest(
        **vars(contact_test_item(test)),
        is_running=test.is_running,
        outcomes=dict(Counter(contact.outcome for contact in test.contacts)),
        contacts=[_contact(contact, caller) for contact in test.contacts],
    )


def _contact(contact: TestedContact, caller: Principal) -> TestedContactItem:
    return TestedContactItem(
        holder_id=contact.person.holder_id,
        holder_name=contact.person.name,
        posts=[_post(held) for held in contact.person.posts],
        in_office=contact.in_office,
        channel=contact.channel,
        outcome=contact.outcome,
        not_before=contact.not_before,
        sent_at=contact.sent_at,
        confirmed_at=contact.confirmed_at,
        error=told_error(contact.error, caller),
    )


def _post(held: HeldPost) -> PostItem:
    return PostItem(ward=held.unit, kind=held.kind, post=held.post)

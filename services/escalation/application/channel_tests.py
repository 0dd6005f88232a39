"""Testing the contacts' channels: start a test, record who confirms, and list who has not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.channel_form import scheme
from services.escalation.domain.directory.model import Contact, UnitKey, key_of
from services.escalation.domain.directory.places import Place
from services.escalation.domain.envelope import envelope
from services.escalation.domain.notices import channel_test
from services.escalation.domain.notices.channel_test import CHANNEL_TEST, Person
from services.escalation.domain.notices.delivery_state import CANCELLED, FAILED, GIVEN_UP, GOT_THROUGH
from services.escalation.domain.notices.signed_link import VALID_FOR
from services.escalation.domain.rules.rulebook import Post, newness
from services.escalation.store import channel_tests as store
from services.escalation.store import directory
from services.escalation.store.channel_tests import NewMessage, NewTest, UnderWay
from shared.clock import local
from shared.events import (
    ChannelTestStarted,
    ChannelTestStartedData,
    ContactConfirmed,
    ContactConfirmedData,
    Event,
    NoticeIssued,
    NoticeIssuedData,
    UnitRef,
    Who,
)
from shared.http.identity import Principal
from shared.http.problem import Problem

Outcome = Literal[
    "confirmed", "not_confirmed", "waiting", "retrying", "failed", "called_off", "no_channel", "not_tested"
]
UNDER_WAY: frozenset[Outcome] = frozenset({"waiting", "retrying"})


@dataclass(frozen=True)
class TestedContact:
    """One channel of one person, and what became of its message; or a person without a channel."""

    person: Person
    in_office: bool
    """Whether they are in office now, too."""
    channel: str | None
    """Its scheme."""
    outcome: Outcome
    not_before: datetime | None = None
    """When the message may go, while it waits for the end of quiet hours."""
    sent_at: datetime | None = None
    confirmed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True)
class ChannelTest:
    """A test. `ward`: of one ward only. `contacts`: empty in a list of tests."""

    test_id: str
    ward: Place | None
    started_at: datetime
    started_by: str
    confirm_by: datetime
    contacts: Sequence[TestedContact] = ()

    @property
    def is_running(self) -> bool:
        """Whether a message is still to be sent."""
        return any(contact.outcome in UNDER_WAY for contact in self.contacts)


async def start(escalation: Escalation, caller: Principal, place: Place | None) -> ChannelTest:
    """Queue a test message for each channel of everybody in office, and record it.

    `place`: only of these wards. Raises Problem 409 while another test is sent, and where nobody is in office.
    """
    escalation = escalation.by(caller)
    now = escalation.clock.now()
    async with escalation.database.begin() as connection:
        await store.lock(connection)
        if (other := await store.under_way(connection, now)) is not None:
            raise Problem(409, _still_runs(other))
        people = await _in_office(connection, now, place)
        if not people:
            raise Problem(409, "nobody holds a post there now: record who does, PUT /escalation/v1/directory/tenures")
        contacts = await directory.contacts(connection, [person.holder_id for person in people])
        ward = None if place is None else {"code": place.code, "days": _days(place)}
        ids, posts = (escalation.new_id(), escalation.new_id()), await _posts(connection)
        test = NewTest(*ids, ward, people, now, caller.subject, now + VALID_FOR)
        reached = [(person, contact) for person in people for contact in contacts.get(person.holder_id, ())]
        messages = [_message(escalation, person, contact, test, posts) for person, contact in reached]
        await store.add(connection, test, messages)
        await escalation.emit(connection, [_started(test, messages), *(_issued(m, test) for m in messages)])
    escalation.wake()
    return _begun(test, place, messages)


def _begun(test: NewTest, place: Place | None, messages: Sequence[NewMessage]) -> ChannelTest:
    """Return a new test, of which nothing has been sent yet, as `look` does."""
    people = sorted(test.people, key=lambda person: person.holder_id)
    queued: dict[str, list[TestedContact]] = {person.holder_id: [] for person in people}
    by_id = {person.holder_id: person for person in people}
    for message in sorted(messages, key=lambda message: message.channel):
        later = message.at.astimezone(UTC) if message.at > test.started_at else None
        contact = TestedContact(by_id[message.recipient], True, scheme(message.channel), "waiting", not_before=later)
        queued[message.recipient].append(contact)
    without = {holder: [TestedContact(person, True, None, "no_channel")] for holder, person in by_id.items()}
    contacts = [contact for holder, sent in queued.items() for contact in sent or without[holder]]
    return ChannelTest(test.test_id, place, test.started_at, test.started_by, test.confirm_by, contacts)


def _still_runs(other: UnderWay) -> str:
    quiet = (
        f", {other.quiet} of them until {local(other.until):%H:%M %d/%m}, when quiet hours end" if other.until else ""
    )
    return (
        f"the test of {local(other.started_at):%H:%M %d/%m/%Y} still runs: {other.messages} messages wait{quiet};"
        f" see GET /escalation/v1/contact-tests/{other.test_id}"
    )


def _days(place: Place) -> list[str] | None:
    return sorted(map(str, place.days)) if place.days is not None else None


async def _in_office(connection: AsyncConnection, now: datetime, place: Place | None) -> list[Person]:
    units = await directory.units(connection)
    known_at = directory.after(await directory.newest(connection), now)
    return channel_test.in_office(units, await directory.tenures(connection, known_at, as_of=now), now, place)


async def _posts(connection: AsyncConnection) -> Sequence[Post]:
    newest = max(await directory.rulebooks(connection), key=newness, default=None)
    return newest.rulebook.posts if newest is not None else ()


def _message(
    escalation: Escalation, person: Person, contact: Contact, test: NewTest, posts: Sequence[Post]
) -> NewMessage:
    title, body = channel_test.words(person, contact.channel, posts, test.confirm_by)
    return NewMessage(
        notice_id=escalation.new_id(),
        event_id=escalation.new_id(),
        recipient=person.holder_id,
        posts=tuple(sorted({held.post for held in person.posts})),
        title=title,
        body=body,
        channel=contact.channel,
        at=channel_test.may_ring_at(contact, test.started_at),
    )


def _started(test: NewTest, messages: Sequence[NewMessage]) -> Event:
    reached = {message.recipient for message in messages}
    without = tuple(person.holder_id for person in test.people if person.holder_id not in reached)
    data = ChannelTestStartedData(
        unit=_unit(test),
        officials=without,
        test_id=test.test_id,
        people=len(test.people),
        contacts=len(messages),
        without_channel=without,
        confirm_by=test.confirm_by,
    )
    return ChannelTestStarted(**envelope(test.event_id, test.test_id, test.started_at), data=data)


def _unit(test: NewTest) -> UnitRef | None:
    """Return the ward of a test of one ward."""
    units = _wards(test.people)
    return next(iter(units.values())) if test.ward is not None and len(units) == 1 else None


def _wards(people: Iterable[Person]) -> dict[UnitKey, UnitRef]:
    return {key_of(held.unit): held.unit for person in people for held in person.posts}


def _issued(message: NewMessage, test: NewTest) -> Event:
    data = NoticeIssuedData(
        cause=test.event_id,
        officials=(message.recipient,),
        notice_id=message.notice_id,
        recipient=message.recipient,
        purpose=CHANNEL_TEST,
        posts=message.posts,
        due_at=test.confirm_by,
        exercise=False,
    )
    return NoticeIssued(**envelope(message.event_id, message.notice_id, test.started_at), data=data)


async def confirm(escalation: Escalation, notice_id: str, by: str) -> None:
    """Record that a test message was received. `by`: its recipient. Safe to repeat: only the first time counts.

    The caller must have checked the link. It counts as well for somebody who has left office since: it is true, and
    the list of the test says that they have.
    """
    escalation = escalation.by(Who(subject=by, role="official", means="link"))
    async with escalation.database.begin() as connection:
        row = await store.lock_message(connection, notice_id)
        if row is None or row.recipient != by:
            return
        now = escalation.clock.now()
        await store.confirm(connection, notice_id, by, now)
        data = ContactConfirmedData(
            cause=row.event_id,
            officials=(by,),
            test_id=row.test_id,
            notice_id=notice_id,
            holder_id=by,
            channel=scheme(row.channel),
        )
        await escalation.emit(connection, [ContactConfirmed(**envelope(escalation.new_id(), by, now), data=data)])
    escalation.wake()


async def look(escalation: Escalation, test_id: str | None) -> ChannelTest | None:
    """Return a test with its contacts, or None. `test_id`: None for the latest."""
    async with escalation.database.connect() as connection:
        row = await store.one(connection, test_id)
        return await _test(connection, row, escalation.clock.now()) if row is not None else None


async def list_tests(escalation: Escalation, after: tuple[datetime, str] | None, limit: int) -> list[ChannelTest]:
    """Return a page of tests, the newest first. `after`: (started_at, id) of the last of the page before."""
    async with escalation.database.connect() as connection:
        return [_alone(row) for row in await store.tests(connection, after, limit)]


def _alone(row: Row[Any]) -> ChannelTest:
    ward = None if row.ward is None else _place(row.ward)
    return ChannelTest(row.test_id, ward, row.started_at, row.started_by, row.confirm_by)


async def _test(connection: AsyncConnection, row: Row[Any], now: datetime) -> ChannelTest:
    test = _alone(row)
    present = {person.holder_id: person for person in await _in_office(connection, now, test.ward)}
    people = {**present, **{p.holder_id: p for p in map(Person.model_validate, row.people)}}
    reached = await directory.contacts(connection, list(people))
    sent: dict[str, list[Row[Any]]] = {}
    for message in await store.messages(connection, row.test_id):
        sent.setdefault(message.recipient, []).append(message)
    found = [
        contact
        for holder, person in sorted(people.items())
        for contact in _contacts(person, holder in present, sent.get(holder, ()), reached.get(holder, ()), now)
    ]
    return replace(test, contacts=found)


def _contacts(
    person: Person, in_office: bool, sent: Sequence[Row[Any]], reached: Sequence[Contact], now: datetime
) -> list[TestedContact]:
    """Return the person's channels: those of the test, then those that they were given since."""
    found = [_tested(person, in_office, message, now) for message in sent]
    known = {message.channel for message in sent}
    since = [contact for contact in reached if contact.channel not in known] if in_office else []
    found += [TestedContact(person, in_office, scheme(contact.channel), "not_tested") for contact in since]
    return found or [TestedContact(person, in_office, None, "no_channel")]


def _tested(person: Person, in_office: bool, row: Row[Any], now: datetime) -> TestedContact:
    got_through = row.state in GOT_THROUGH
    waits = row.state == "queued" and row.set_at is None and row.next_at > now
    return TestedContact(
        person,
        in_office,
        scheme(row.channel),
        _outcome(row),
        not_before=row.next_at if waits else None,
        sent_at=row.finished_at if got_through else None,
        confirmed_at=row.acknowledged_at,
        error=None if got_through else row.error,
    )


def _outcome(row: Row[Any]) -> Outcome:
    if row.acknowledged_at is not None:
        return "confirmed"
    if row.state in GOT_THROUGH:
        return "not_confirmed"
    ended: dict[str, Outcome] = {FAILED: "retrying", GIVEN_UP: "failed", CANCELLED: "called_off"}
    return ended.get(row.state, "waiting")


def _place(ward: dict[str, Any]) -> Place:
    days = ward["days"]
    return Place(ward["code"], None if days is None else frozenset(map(date.fromisoformat, days)))


@dataclass(frozen=True)
class Unconfirmed:
    """Wards where nobody in office has confirmed a test since some time, in order."""

    wards: Sequence[UnitRef]
    is_real: bool
    """Whether a test was ever started, or somebody in office is no sample."""


async def find_unconfirmed(escalation: Escalation, since: timedelta) -> Unconfirmed:
    """Return the wards where nobody in office has confirmed a test in so long a time. Vacant wards are left out."""
    now = escalation.clock.now()
    async with escalation.database.connect() as connection:
        people = await _in_office(connection, now, None)
        confirmed = await store.confirmed_since(connection, now - since)
        is_real = await store.was_tested(connection) or await directory.has_real_people(connection)
    reached = _wards(person for person in people if person.holder_id in confirmed)
    wards = sorted(_wards(people).items())
    return Unconfirmed([unit for key, unit in wards if key not in reached], is_real)

"""What is sent under an id is the same each time: who drops repeats shows each notice once and misses none."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.claim_deliveries import UnderWay, claim, forget_contents
from services.escalation.application.import_directory import import_directory
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.message import LEASE, Message
from services.escalation.domain.notices.pacing import Limits, Rate
from services.escalation.sending.channels import Link, Sender, SendOutcome
from services.escalation.sending.channels.mail import Mail
from services.escalation.sending.channels.webhook import Webhooks
from services.escalation.sending.delivery_loop import GATEWAY, DeliveryLoop
from shared.events import Harm, ReportReceived
from shared.http.identity import Principal
from tests.integration.delivery_peers import TO_THIS_MACHINE, Behaviour, Receiver, Request, mail_server, receiving
from tests.integration.escalation_support import City
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery, Notice
from tests.support import CHAIR, NIGHT, depth, received

THE_CHAIR = "mau-14776-chu-tich"
CHAIR_HERE = Principal(THE_CHAIR, "official", "14776", CHAIR)
DESK = Principal("mau-truc-ban", "desk")
SECRET = base64.b64encode(bytes(24)).decode()
TURN = timedelta(seconds=35)
"""By then a contact may get another message, and a lease has run out."""
LIMITS = Limits(Rate(3, timedelta(seconds=30)), GATEWAY, messages=64, per_host=16)
Doing = int | Behaviour


def hook(receiver: Receiver) -> str:
    return f"webhook://{receiver.host}/?secret={SECRET}"


def sender(link: Link | None = None) -> Sender:
    return Sender(Path("/dev/null"), TO_THIS_MACHINE, link=link, webhooks=Webhooks(), mail=Mail())


def linked(server: str) -> Link:
    def link(notice_id: str, recipient: str, issued_at: datetime) -> str:
        return f"https://{server}/{notice_id}"

    return link


class Killed(Sender):
    """Its process is killed after the message was sent, before that is recorded."""

    def __init__(self) -> None:
        super().__init__(Path("/dev/null"), TO_THIS_MACHINE, webhooks=Webhooks())

    async def send(self, message: Message) -> SendOutcome:
        await super().send(message)
        raise asyncio.CancelledError


async def reached_at(city: City, url: str) -> None:
    """The chair of Ba Đình is told over this channel alone."""
    asked = f"holder_id,channel\n{THE_CHAIR},{url}\n"
    assert not (await import_directory(city.escalation, asked.encode())).errors


def incidents(city: City, count: int) -> list[ReportReceived]:
    """So many at once, each at a place of its own."""
    now = city.clock.now()
    return [received(point=(19.70 + n / 100, 105.77), occurred_at=now) for n in range(count)]


async def turn(city: City, loop: DeliveryLoop | None = None) -> None:
    """All that may go now goes, and half a minute passes."""
    loop = loop or DeliveryLoop(city.escalation, sender())
    while await loop.step() | await loop.drain():
        pass
    city.clock.set(city.clock.now() + TURN)


async def to_chair(city: City) -> list[Delivery]:
    return list(await stored(city, Delivery, recipient=THE_CHAIR))


async def acknowledged(city: City, delivery: Delivery) -> None:
    await acknowledge(city.escalation, delivery.incident_id, CHAIR_HERE)


async def a_bundle_that_failed(city: City, receiver: Receiver, doing: Doing = 503) -> list[Delivery]:
    """Two notices in one message, after three that went by themselves. The receiver has seen it, and refused it."""
    await reached_at(city, hook(receiver))
    await route_reports(city.escalation, incidents(city, 5))
    await turn(city)
    receiver.script.append(doing)
    await turn(city)
    failed = [d for d in await to_chair(city) if d.state == "failed"]
    assert len(failed) == 2
    return failed


def repeated(receiver: Receiver) -> tuple[Request, Request]:
    """The last two requests, which are one message."""
    first, second = receiver.requests[-2:]
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    return first, second


# --- between two attempts ---


async def test_what_changes_between_two_attempts_changes_nothing_in_the_message(city: City) -> None:
    async with receiving(503) as receiver:
        await reached_at(city, hook(receiver))
        await route_reports(city.escalation, [received()])
        await turn(city, DeliveryLoop(city.escalation, sender(link=linked("cu"))))
        (delivery,) = await to_chair(city)
        await commands.revise(city.escalation, delivery.incident_id, DESK, "Một người chết", Harm(deaths=1))
        await turn(city, DeliveryLoop(city.escalation, sender(link=linked("moi"))))
        first, second = repeated(receiver)
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] <= second.headers["webhook-timestamp"]


async def test_of_a_bundle_of_which_one_was_acknowledged_the_whole_goes_again(city: City) -> None:
    async with receiving() as receiver:
        one, other = await a_bundle_that_failed(city, receiver)
        await acknowledged(city, one)
        await turn(city)
        first, second = repeated(receiver)
        await turn(city)
        assert len(receiver.requests) == 5
    assert first.body == second.body
    states = {d.delivery_id: d.state for d in await to_chair(city)}
    assert (states[one.delivery_id], states[other.delivery_id]) == ("cancelled", "delivered")


async def test_a_bundle_of_which_all_was_acknowledged_is_called_off_whole(city: City) -> None:
    async with receiving() as receiver:
        for delivery in await a_bundle_that_failed(city, receiver):
            await acknowledged(city, delivery)
        await turn(city)
        assert len(receiver.requests) == 4


async def test_of_a_bundle_whose_incident_went_to_the_police_the_whole_goes_again(city: City) -> None:
    async with receiving() as receiver:
        one, _ = await a_bundle_that_failed(city, receiver)
        await commands.hand_off(city.escalation, one.incident_id, DESK, "Công an tiếp nhận")
        await turn(city)
        first, second = repeated(receiver)
    assert first.body == second.body


@pytest.mark.parametrize("kill", ["before it was sent", "after it was sent"])
async def test_what_a_killed_process_may_have_sent_goes_again_as_it_was(city: City, kill: str) -> None:
    async with receiving() as receiver:
        one, _ = await a_bundle_that_failed(city, receiver, "drop midway")
        if kill == "after it was sent":
            await turn(city, DeliveryLoop(city.escalation, Killed()))
        else:
            await claimed(city)
        await acknowledged(city, one)
        city.clock.set(city.clock.now() + LEASE)
        await turn(city)
        bodies = {r.headers["webhook-id"]: r.body for r in receiver.requests}
        assert len(bodies) == 4
        assert all(r.body == bodies[r.headers["webhook-id"]] for r in receiver.requests)
    assert [d.state for d in await to_chair(city)].count("delivered") == 4


async def claimed(city: City) -> list[Message]:
    """By a process that is then killed."""
    async with city.escalation.database.begin() as connection:
        found = await claim(connection, city.clock.now(), LIMITS, UnderWay(), compose=sender().compose)
    return found.messages


async def test_what_waits_for_a_channel_that_its_person_lost_goes_to_the_new_one_under_a_new_id(city: City) -> None:
    async with receiving(503) as old, receiving() as new:
        await reached_at(city, hook(old))
        await route_reports(city.escalation, [received()])
        await turn(city)
        await reached_at(city, hook(new))
        await turn(city)
        assert (len(old.requests), len(new.requests)) == (1, 1)
        assert old.requests[0].headers["webhook-id"] != new.requests[0].headers["webhook-id"]


async def test_what_a_killed_process_was_sending_is_not_sent_again_over_a_channel_that_was_taken(city: City) -> None:
    async with receiving() as old, receiving() as new:
        await reached_at(city, hook(old))
        await route_reports(city.escalation, [received()])
        await claimed(city)
        await reached_at(city, hook(new))
        city.clock.set(city.clock.now() + LEASE + TURN)
        await turn(city)
        assert (len(old.requests), len(new.requests)) == (0, 1)


async def test_a_mail_that_is_sent_again_says_the_same_under_the_same_message_id(city: City) -> None:
    async with mail_server() as post:
        await reached_at(city, f"mailto://{post.host}?from=truc-ban@thanhhoa.example&to=chu-tich@badinh.example")
        await route_reports(city.escalation, incidents(city, 5))
        await turn(city)
        post.script.append(("DATA", "451 local error"))
        await turn(city)
        one, _ = [d for d in await to_chair(city) if d.state == "failed"]
        kept = await city.rows("SELECT message_id, content FROM escalation.message ORDER BY message_id DESC LIMIT 1")
        await commands.revise(city.escalation, one.incident_id, DESK, "Một người chết", Harm(deaths=1))
        await turn(city)
    letter = post.letters[-1]
    assert letter["message-id"] == f"<{kept[0].message_id}@thanhhoa.example>"
    assert letter.get_content().splitlines() == json.loads(kept[0].content)["data"]["body"].splitlines()


async def test_two_processes_never_send_parts_of_one_message(city: City) -> None:
    async with receiving() as receiver:
        one, other = await a_bundle_that_failed(city, receiver)
        async with city.escalation.database.begin() as connection, city.escalation.database.begin() as beside:
            lock = text("SELECT 1 FROM escalation.delivery WHERE delivery_id = :id FOR UPDATE")
            await connection.execute(lock, {"id": one.delivery_id})
            found = await claim(beside, city.clock.now(), LIMITS, UnderWay())
            assert other.delivery_id not in {d.delivery_id for m in found.messages for d in m.deliveries}
        await turn(city)
        first_time, again = repeated(receiver)
        assert first_time.body == again.body
    states = {d.delivery_id: d.state for d in await to_chair(city)}
    assert states[one.delivery_id] == states[other.delivery_id] == "delivered"


async def test_what_is_not_sent_again_is_not_kept(city: City) -> None:
    async with receiving() as receiver:
        for delivery in await a_bundle_that_failed(city, receiver):
            await acknowledged(city, delivery)
        await route_reports(city.escalation, incidents(city, 6)[5:])
        receiver.script.append(503)
        await turn(city)
    await forget_contents(city.escalation)
    waiting = [d.delivery_id for d in await to_chair(city) if d.state == "failed"]
    kept = [row.message_id for row in await city.rows("SELECT message_id FROM escalation.message")]
    assert kept == waiting
    assert len(kept) == 1


# --- whatever happens ---


outcomes = st.lists(st.sampled_from((200, 200, 500, 503, "drop", "drop midway")), max_size=4)
steps = st.one_of(
    st.tuples(st.just("report"), st.integers(1, 4)),
    st.tuples(st.just("send"), outcomes),
    st.tuples(st.just("kill before"), st.none()),
    st.tuples(st.just("kill after"), outcomes),
    st.tuples(st.just("acknowledge"), st.integers(0, 5)),
    st.tuples(st.just("hand off"), st.integers(0, 5)),
    st.tuples(st.just("revise"), st.integers(0, 5)),
    st.tuples(st.just("forget"), st.none()),
)


async def do(city: City, receiver: Receiver, step: tuple[str, object]) -> None:
    match step:
        case ("report", int(count)):
            await route_reports(city.escalation, incidents(city, count))
        case ("send", [*script]):
            receiver.script[:] = script
            await turn(city)
        case ("kill before", _):
            await claimed(city)
            city.clock.set(city.clock.now() + TURN)
        case ("kill after", [*script]):
            receiver.script[:] = script
            await turn(city, DeliveryLoop(city.escalation, Killed()))
        case ("forget", _):
            await forget_contents(city.escalation)
        case (what, int(place)):
            await act(city, str(what), place)
        case _:
            raise AssertionError(step)


async def act(city: City, what: str, place: int) -> None:
    """On one of the incidents of which the chair is notified, if there is one that is open."""
    told = [n for n in await stored(city, Notice, recipient=THE_CHAIR) if n.purpose == "accountable"]
    if place >= len(told):
        return
    incident = told[place].incident_id
    state = await city.one("SELECT state FROM escalation.incident WHERE incident_id = :id", id=incident)
    if state in ("handed_off", "closed"):
        return
    if what == "acknowledge":
        await acknowledge(city.escalation, incident, CHAIR_HERE)
    elif what == "hand off":
        await commands.hand_off(city.escalation, incident, DESK, "Công an tiếp nhận")
    else:
        await commands.revise(city.escalation, incident, DESK, "Có người chết", Harm(deaths=3))


@depth(25, 500)
@given(st.lists(steps, min_size=4, max_size=14))
async def test_a_receiver_that_drops_repeats_shows_each_notice_once_whatever_happens(
    shared_city: City, story: Sequence[tuple[str, object]]
) -> None:
    city = shared_city
    await city.emptied()
    city.clock.set(NIGHT)
    async with receiving() as receiver:
        await reached_at(city, hook(receiver))
        for step in [("report", 2), *story]:
            await do(city, receiver, step)
        receiver.script.clear()
        for _ in range(3):
            await turn(city)
            city.clock.set(city.clock.now() + timedelta(minutes=20))
        check(receiver)
        shown = {n["notice_id"] for r in receiver.requests for n in r.json["data"]["notices"]}
        unfinished = [d for d in await to_chair(city) if d.state in ("queued", "sending", "failed")]
        assert unfinished == []
        got_through = {d.notice_id for d in await to_chair(city) if d.state == "delivered"}
        assert got_through <= shown
        owed = {n.notice_id for n in await stored(city, Notice, recipient=THE_CHAIR) if n.acknowledged_at is None}
        lost = {d.notice_id for d in await to_chair(city) if d.state in ("given_up", "cancelled")}
        assert owed - lost <= shown


def check(receiver: Receiver) -> None:
    """One content an id, each signed for its own attempt; and no notice under two ids."""
    contents: dict[str, bytes] = {}
    for request in receiver.requests:
        message_id = request.headers["webhook-id"]
        assert contents.setdefault(message_id, request.body) == request.body
        to_sign = f"{message_id}.{request.headers['webhook-timestamp']}.".encode() + request.body
        digest = base64.b64encode(hmac.new(bytes(24), to_sign, hashlib.sha256).digest()).decode()
        assert request.headers["webhook-signature"] == f"v1,{digest}"
    first_seen = {r.headers["webhook-id"]: r for r in reversed(receiver.requests)}
    shown = Counter(n["notice_id"] for r in first_seen.values() for n in r.json["data"]["notices"])
    assert set(shown.values()) <= {1}

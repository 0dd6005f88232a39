"""A notice reaches its person: sent again while the channel fails, never twice at once, and never lost in silence."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.message import Message
from services.escalation.sending import delivery_loop
from services.escalation.sending.channels import DeliveryError, Sender, SendOutcome
from services.escalation.sending.channels.webhook import Webhooks
from services.escalation.sending.delivery_loop import PER_HOST_AT_ONCE, DeliveryLoop
from services.escalation.store import watch
from tests.integration.delivery_peers import TO_THIS_MACHINE, Behaviour, receiving
from tests.integration.delivery_support import (
    ATTEMPTS,
    SECRET,
    THE_CHAIR,
    THE_SECRETARY,
    Failing,
    at_midnight,
    finished,
    lines,
    sent,
    states,
    told_over,
    told_over_what_nobody_knows,
)
from tests.integration.escalation_support import City, events_without_their_cause, until
from tests.integration.stored.arranging import sent_by, sent_later_too
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Delivery, Notice
from tests.support import CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SECRETARY, received


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.ndjson"


@pytest.fixture
def loop(city: City, outbox: Path) -> DeliveryLoop:
    return DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE))


async def posts_told_as_unreached(city: City) -> list[str]:
    """To the desk; in one notice or two, as the attempts happened to end."""
    return sorted(post for n in await stored(city, Notice, purpose="lost_notice") for post in n.posts)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# --- an outcome that cannot be stored ---


async def test_outcomes_that_are_not_stored_are_a_health_failure(
    city: City, loop: DeliveryLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await route_reports(city.escalation, [received()])
    free = asyncio.Event()

    async def hangs(*_: object) -> None:
        await free.wait()

    with monkeypatch.context() as patch:
        patch.setattr(delivery_loop, "record", hangs)
        patch.setattr(delivery_loop, "UNSTORED_SECONDS", 0.05)
        assert loop.health_failure() is None
        await loop.step()
        await until(lambda: _complains(loop), "a health failure")
        assert "the outcomes of 2 messages" in (loop.health_failure() or "")
        free.set()
        await loop.drain()
        assert loop.health_failure() is None


async def _complains(loop: DeliveryLoop) -> bool:
    return loop.health_failure() is not None


# --- a channel that fails ---


async def test_a_notice_is_sent_again_until_the_channel_takes_it_and_recorded_once(
    city: City, loop: DeliveryLoop
) -> None:
    async with receiving(503, 503, 503) as receiver:
        await told_over(city, f"json://{receiver.host}/thong-bao")
        await sent(loop)
        assert await states(city) == [("failed", 1), ("failed", 1)]
        city.clock.set(NIGHT + timedelta(seconds=10))
        await sent(loop)
        assert sorted(await states(city)) == [("failed", 2), ("sent", 2)]
        city.clock.set(NIGHT + timedelta(seconds=30))
        await sent(loop)
        await sent(loop)
    assert sorted(await states(city)) == [("sent", 2), ("sent", 3)]
    assert len(receiver.requests) == 5
    titles = {request.json["title"] for request in receiver.taken}
    assert titles == {"Nổ pháo, P.Ba Đình, mức ? · chưa xác minh · cần xác nhận"}
    posts = sorted("Chủ tịch UBND" in request.json["message"] for request in receiver.taken)
    assert posts == [False, True], "each holder is told for their own post"
    assert sorted(await finished(city)) == [("sent", 2), ("sent", 3)]


async def test_a_refused_notice_waits_before_it_is_sent_again(city: City, loop: DeliveryLoop) -> None:
    async with receiving(*[503] * 100) as receiver:
        await told_over(city, f"json://{receiver.host}/")
        for _ in range(3):
            await sent(loop)
        assert len(receiver.requests) == 2, "each delivery once; the next attempt is a second away"
        error = "json: the channel did not take the notice"
        assert {d.error for d in await stored(city, Delivery)} == {error}


async def test_waits_grow_and_no_two_senders_come_back_at_the_same_time(city: City) -> None:
    loop = DeliveryLoop(city.escalation, Failing(Path("unused"), TO_THIS_MACHINE))
    await route_reports(city.escalation, at_midnight(3))
    await sent(loop)
    waits = [(d.next_at - NIGHT).total_seconds() for d in await stored(city, Delivery) if d.recipient != "desk"]
    assert len(waits) == len(set(waits)) == 6
    assert all(0.8 <= wait < 1.2 + 5 for wait in waits), "a second, give or take, from when it failed"


async def test_what_no_attempt_brings_over_is_given_up_and_told_to_the_desk_once(
    city: City, loop: DeliveryLoop
) -> None:
    async with receiving(*[503] * 100) as receiver:
        await told_over(city, f"json://{receiver.host}/")
        for attempt in range(1, ATTEMPTS + 1):
            city.clock.set(NIGHT + attempt * timedelta(minutes=20))
            await sent(loop)
        assert len(receiver.requests) == 2 * ATTEMPTS
    assert [f for f in await finished(city) if f[0] != "sent"] == [("given_up", ATTEMPTS)] * 2
    assert await posts_told_as_unreached(city) == [CHAIR, SECRETARY]


async def test_what_a_receiver_refuses_for_good_is_given_up_at_once(city: City, loop: DeliveryLoop) -> None:
    async with receiving(410, 410) as receiver:
        await told_over(city, f"webhook://{receiver.host}/?secret={SECRET}")
        await sent(loop)
    assert [f for f in await finished(city) if f[0] != "sent"] == [("given_up", 1)] * 2
    assert await posts_told_as_unreached(city) == [CHAIR, SECRETARY]


async def test_nobody_is_told_of_a_lost_notice_that_got_through_by_another_channel(
    city: City, loop: DeliveryLoop
) -> None:
    await route_reports(city.escalation, [received()])
    async with receiving(410) as receiver:
        url = f"webhook://{receiver.host}/?secret={SECRET}"
        await sent_later_too(city, THE_CHAIR, url, timedelta(minutes=1))
        await sent(loop)
        city.clock.set(NIGHT + timedelta(minutes=2))
        await sent(loop)
    assert sorted(await finished(city)) == [("given_up", 1), ("sent", 1), ("sent", 1)]
    assert not [told for told in await city.told() if told.startswith("desk:")]


async def test_a_receiver_that_says_when_to_come_again_is_left_alone_until_then(city: City, loop: DeliveryLoop) -> None:
    async with receiving(*[(429, {"retry-after": "120"})] * 2) as receiver:
        await told_over(city, f"webhook://{receiver.host}/?secret={SECRET}")
        await sent(loop)
        city.clock.set(NIGHT + timedelta(seconds=110))
        await sent(loop)
        assert len(receiver.requests) == 2
        city.clock.set(NIGHT + timedelta(seconds=130))
        await sent(loop)
    assert await finished(city) == [("delivered", 2)] * 2


async def test_an_error_of_the_channel_itself_is_a_failed_attempt_too(city: City) -> None:
    class Broken(Sender):
        async def send(self, message: Message) -> SendOutcome:
            raise RuntimeError("a fault in a plug-in, which may quote mat-khau")

    await told_over(city, "outbox://x")
    loop = DeliveryLoop(city.escalation, Broken(Path("unused"), TO_THIS_MACHINE))
    for attempt in range(1, ATTEMPTS + 1):
        city.clock.set(NIGHT + attempt * timedelta(minutes=20))
        await sent(loop)
    assert await finished(city) == [("given_up", ATTEMPTS)] * 2
    assert {d.error for d in await stored(city, Delivery, state="given_up")} == {"RuntimeError"}


async def test_a_channel_that_nobody_knows_is_given_up_at_once_and_named_by_its_scheme_only(
    city: City, loop: DeliveryLoop
) -> None:
    url = "khongco://mat-khau@0912000001"
    await told_over_what_nobody_knows(city, url)
    await sent(loop)
    ended = await stored(city, Delivery, channel=url)
    assert [d.state for d in ended] == ["given_up"] * 2
    assert {(d.error or "").partition(":")[:1] for d in ended} == {("khongco",)}
    assert await posts_told_as_unreached(city) == [CHAIR, SECRETARY]


async def test_a_server_that_hangs_does_not_hold_up_another(city: City, outbox: Path) -> None:
    loop = DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE, webhooks=Webhooks(seconds=30)), seconds=2)
    stalling: list[Behaviour] = ["stall"] * 100
    async with receiving(*stalling) as receiver:
        await route_reports(city.escalation, [received(unit=u) for u in (DONG_THO, NGOC_TRAO)] + at_midnight(40))
        await sent_by(city, f"webhook://{receiver.host}/{{}}?secret={SECRET}", THE_SECRETARY, THE_CHAIR)
        await loop.step()
        others = {("sent", "mau-14758-bi-thu"), ("sent", "mau-14758-chu-tich")}
        await until(lambda: _are_among(others, city), "the others were told", seconds=1.9)
        assert len(receiver.requests) == PER_HOST_AT_ONCE
        await loop.drain()
    assert await _are_among({("failed", "mau-14776-chu-tich")}, city)


async def _are_among(expected: set[tuple[str, str]], city: City) -> bool:
    return expected <= {(d.state, d.recipient) for d in await stored(city, Delivery)}


# --- an office that is not reached ---


class Deaf(Sender):
    """Takes nothing for good, of these recipients."""

    def __init__(self, *recipients: str) -> None:
        super().__init__(Path("unused"), TO_THIS_MACHINE)
        self._recipients = recipients

    async def send(self, message: Message) -> SendOutcome:
        if message.deliveries[0].recipient in self._recipients:
            raise DeliveryError("json: the channel is gone", final=True)
        return "sent"


async def test_that_the_desk_is_not_reached_the_leadership_is_told_once_an_incident(city: City) -> None:
    await route_reports(city.escalation, [received("FIRE")])
    await sent(DeliveryLoop(city.escalation, Deaf("desk")))
    assert await city.told() == ["desk:review", "leadership:undeliverable"]
    city.clock.set(NIGHT + timedelta(hours=3))
    await fire_due_timers(city.escalation)
    await sent(DeliveryLoop(city.escalation, Deaf("desk")))
    assert (await city.told()).count("leadership:undeliverable") == 1


async def test_that_neither_a_person_nor_the_desk_is_reached_is_told_to_the_leadership(city: City) -> None:
    await route_reports(city.escalation, [received()])
    await sent(DeliveryLoop(city.escalation, Deaf("mau-14776-chu-tich", "desk")))
    assert (await city.told())[2:] == ["desk:lost_notice", "leadership:undeliverable"]
    assert (await only(city, Notice, recipient="leadership")).posts == [CHAIR]
    assert await events_without_their_cause(city) == []


async def test_where_neither_office_is_reached_they_are_not_told_so_for_ever(city: City) -> None:
    await route_reports(city.escalation, [received("FIRE")])
    await sent(DeliveryLoop(city.escalation, Deaf("desk", "leadership")))
    assert await city.told() == ["desk:review", "leadership:undeliverable"]
    async with city.escalation.database.connect() as connection:
        assert (await watch.look(connection, city.clock.now())).offices.count == 2


# --- the demo's channel ---


async def test_the_outbox_file_has_a_line_for_each_notice_with_its_words(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, [received(), received("FIRE", unit=NGOC_TRAO)])
    await sent(loop)
    found = lines(outbox)
    assert sorted((line["recipient"], line["purpose"], tuple(line["posts"])) for line in found) == [
        ("desk", "review", ()),
        ("mau-14776-bi-thu", "accountable", (SECRETARY,)),
        ("mau-14776-chu-tich", "accountable", (CHAIR,)),
    ]
    assert all(f"No.: {number_of(line['incident_id'])}" in line["body"] for line in found)
    assert mode(outbox) == 0o600

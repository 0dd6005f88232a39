"""A notice reaches its person: sent again while the channel fails, never twice at once, and never lost in silence."""

import asyncio
import base64
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.claim_deliveries import UnderWay, claim
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.import_directory import import_directory
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.message import LEASE, Attempt, Message
from services.escalation.domain.notices.pacing import Limits, Rate
from services.escalation.sending import delivery_loop
from services.escalation.sending.channels import DeliveryError, Sender, SendOutcome
from services.escalation.sending.channels.webhook import Webhooks
from services.escalation.sending.delivery_loop import (
    GATEWAY,
    MESSAGES_A_CLAIM,
    PER_HOST_AT_ONCE,
    RETRY_AFTER_SECONDS,
    DeliveryLoop,
)
from services.escalation.store import watch
from services.escalation.store.delivery_attempts import end_attempts
from shared.events import DeliveryFinished, Harm, ReportReceived
from shared.http.identity import Principal
from tests.integration.delivery_peers import Behaviour, receiving
from tests.integration.directory_changes import leave
from tests.integration.escalation_support import City, events_without_their_cause, until
from tests.integration.stored.arranging import put_off, sent_by, sent_later_too
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Delivery, Incident, Notice, Pace
from tests.support import CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SECRETARY, received

THE_SECRETARY, THE_CHAIR = "mau-14776-bi-thu", "mau-14776-chu-tich"
BA_DINH_CHAIR = Principal(THE_CHAIR, "official", "14776", CHAIR)
DESK = Principal("mau-truc-ban", "desk")
ATTEMPTS = len(RETRY_AFTER_SECONDS) + 1
LIMITS = Limits(Rate(3, timedelta(seconds=30)), GATEWAY, messages=MESSAGES_A_CLAIM, per_host=PER_HOST_AT_ONCE)
SECRET = base64.b64encode(bytes(24)).decode()


async def claimed(city: City, at: datetime | None = None, limits: Limits = LIMITS) -> list[Message]:
    """Leased by somebody who is then killed."""
    async with city.escalation.database.begin() as connection:
        found = await claim(connection, at or city.clock.now(), limits, UnderWay())
    return found.messages


def at_midnight(count: int, **more: Any) -> list[ReportReceived]:
    """So many incidents of one ward at once, each at a place of its own."""
    return [received(point=(19.70 + place / 100, 105.77), **more) for place in range(count)]


async def reached_at(city: City, url: str, *holders: str) -> None:
    """By that channel alone."""
    contacts = "".join(f"{holder},{url}\n" for holder in holders)
    assert not (await import_directory(city.escalation, f"holder_id,channel\n{contacts}".encode())).errors


async def told_over(city: City, url: str) -> None:
    """One report of setting off; both holders are to be told over the channel `url`."""
    await reached_at(city, url, THE_SECRETARY, THE_CHAIR)
    await route_reports(city.escalation, [received()])


async def told_over_what_nobody_knows(city: City, url: str) -> None:
    """The same with a channel that was known when it was recorded."""
    await route_reports(city.escalation, [received()])
    await sent_by(city, url, THE_SECRETARY, THE_CHAIR)


async def sent(loop: DeliveryLoop) -> None:
    """All that may go now."""
    while await loop.step() | await loop.drain():
        pass


async def states(city: City) -> list[tuple[str, int]]:
    return sorted((d.state, d.attempts) for d in await stored(city, Delivery))


async def finished(city: City) -> list[tuple[str, int]]:
    return [(e.data.outcome, e.data.attempts) for e in await city.events() if isinstance(e, DeliveryFinished)]


async def posts_told_as_unreached(city: City) -> list[str]:
    """To the desk; in one notice or two, as the attempts happened to end."""
    return sorted(post for n in await stored(city, Notice, purpose="lost_notice") for post in n.posts)


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.ndjson"


@pytest.fixture
def loop(city: City, outbox: Path) -> DeliveryLoop:
    return DeliveryLoop(city.escalation, Sender(outbox))


def lines(path: Path, recipient: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in found if recipient in (None, line["recipient"])]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class Failing(Sender):
    """Takes nothing."""

    async def send(self, message: Message) -> SendOutcome:
        raise DeliveryError("json: the channel did not take the notice")


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
    loop = DeliveryLoop(city.escalation, Failing(Path("unused")))
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
    loop = DeliveryLoop(city.escalation, Broken(Path("unused")))
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
    error = "khongco: not a channel that Apprise knows; correct the contact"
    assert [(d.state, d.error) for d in await stored(city, Delivery, channel=url)] == [("given_up", error)] * 2
    assert await posts_told_as_unreached(city) == [CHAIR, SECRETARY]


async def test_a_server_that_hangs_does_not_hold_up_another(city: City, outbox: Path) -> None:
    loop = DeliveryLoop(city.escalation, Sender(outbox, webhooks=Webhooks(seconds=30)), seconds=2)
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
        super().__init__(Path("unused"))
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


# --- what was answered is not sent ---


async def test_what_was_acknowledged_while_it_was_being_sent_is_not_sent_again(city: City) -> None:
    class Refusing(Failing):
        async def send(self, message: Message) -> SendOutcome:
            (incident,) = {delivery.incident_id for delivery in message.deliveries if delivery.incident_id}
            if message.deliveries[0].posts == [CHAIR]:
                await acknowledge(city.escalation, incident, BA_DINH_CHAIR)
            return await super().send(message)

    await route_reports(city.escalation, [received()])
    await sent(DeliveryLoop(city.escalation, Refusing(Path("unused"))))
    assert sorted((d.recipient, d.state, d.finished_at is not None) for d in await stored(city, Delivery)) == [
        ("mau-14776-bi-thu", "failed", False),
        ("mau-14776-chu-tich", "cancelled", True),
    ]


async def test_what_was_acknowledged_while_it_waited_is_neither_sent_nor_listed(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, at_midnight(6))
    await sent(loop)
    waiting = await stored(city, Delivery, recipient=THE_CHAIR, state="queued")
    await acknowledge(city.escalation, waiting[0].incident_id, BA_DINH_CHAIR)
    city.clock.set(NIGHT + timedelta(seconds=40))
    await sent(loop)
    to_chair = lines(outbox, "mau-14776-chu-tich")
    assert len(to_chair) == 5
    assert waiting[0].incident_id not in {line["incident_id"] for line in to_chair}


async def test_a_lost_lease_is_not_sent_again_once_it_is_acknowledged(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, [received()])
    await claimed(city)
    await acknowledge(city.escalation, await city.incident(), BA_DINH_CHAIR)
    city.clock.set(NIGHT + LEASE + timedelta(seconds=1))
    await sent(loop)
    assert [line["recipient"] for line in lines(outbox)] == ["mau-14776-bi-thu"]
    assert await states(city) == [("cancelled", 1), ("sent", 2)]


async def test_nothing_is_tried_again_about_an_incident_that_has_ended(city: City, loop: DeliveryLoop) -> None:
    await route_reports(city.escalation, [received()])
    await claimed(city)
    await commands.dismiss(city.escalation, await city.incident(), DESK, "Báo nhầm")
    assert await states(city) == [*[("queued", 0)] * 2, *[("sending", 1)] * 2]
    city.clock.set(NIGHT + LEASE + timedelta(seconds=1))
    await sent(loop)
    taken_back = [("sent", 1)] * 2
    assert await states(city) == [*[("cancelled", 1)] * 2, *taken_back], "their receivers may have had them"


async def test_what_nobody_was_told_yet_is_not_taken_back(city: City, loop: DeliveryLoop) -> None:
    await route_reports(city.escalation, [received()])
    await commands.dismiss(city.escalation, await city.incident(), DESK, "Báo nhầm")
    await sent(loop)
    assert {state for state, _ in await states(city)} == {"cancelled"}


async def test_of_what_went_to_the_police_the_post_holders_are_told_all_the_same(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, [received()])
    await claimed(city)
    await commands.hand_off(city.escalation, await city.incident(), DESK, "Công an tiếp nhận")
    assert await states(city) == [("sending", 1), ("sending", 1)]
    city.clock.set(NIGHT + LEASE + timedelta(seconds=1))
    await sent(loop)
    assert sorted(line["recipient"] for line in lines(outbox)) == ["mau-14776-bi-thu", "mau-14776-chu-tich"]


async def test_who_left_while_they_were_being_told_is_not_told_again(city: City, loop: DeliveryLoop) -> None:
    await route_reports(city.escalation, [received()])
    await claimed(city)
    await leave(city, "mau-14776-chu-tich", NIGHT)
    city.clock.set(NIGHT + LEASE + timedelta(seconds=1))
    await fire_due_timers(city.escalation)
    await sent(loop)
    assert {d.recipient: d.state for d in await stored(city, Delivery)} == {
        "desk": "sent",
        "mau-14776-bi-thu": "sent",
        "mau-14776-chu-tich": "cancelled",
    }


async def test_each_holder_of_whom_nothing_is_reached_is_told_to_the_desk(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await told_over_what_nobody_knows(city, "khongco://")
    await put_off(city, THE_CHAIR, NIGHT + timedelta(minutes=1))
    await sent(loop)
    city.clock.set(NIGHT + timedelta(minutes=1))
    await sent(loop)
    told = [line["posts"] for line in lines(outbox, "desk")]
    assert told == [[SECRETARY], [CHAIR]]


# --- a sender that is killed ---


async def test_the_lease_of_a_killed_sender_runs_out_and_the_notice_is_sent_again(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, [received()])
    killed = await claimed(city)
    assert len(killed) == 2
    await sent(loop)
    assert await states(city) == [("sending", 1), ("sending", 1)], "under a lease nobody else sends"
    city.clock.set(NIGHT + LEASE + timedelta(seconds=1))
    await sent(loop)
    assert await states(city) == [("sent", 2), ("sent", 2)]
    assert len(lines(outbox)) == 2
    async with city.escalation.database.begin() as connection:
        late = await end_attempts(connection, [Attempt(m, "sent", city.clock.now()) for m in killed])
    assert not late, "whoever comes late records nothing"
    assert await finished(city) == [("sent", 2)] * 2


async def test_a_sender_whose_lease_ran_out_records_nothing_while_another_is_sending(city: City) -> None:
    await route_reports(city.escalation, [received()])
    later = city.clock.now() + LEASE + timedelta(seconds=1)
    slow = await claimed(city)
    taken_over = await claimed(city, later)
    assert [m.attempts for m in taken_over] == [2, 2]
    async with city.escalation.database.begin() as connection:
        await end_attempts(connection, [Attempt(message, "failed", later, "too late") for message in slow])
        assert not await end_attempts(connection, [Attempt(message, "sent", later) for message in slow])
        ended = await end_attempts(connection, [Attempt(taken_over[0], "sent", later)])
    assert ended == {d.delivery_id for d in taken_over[0].deliveries}


@pytest.mark.parametrize("count", [1, 5], ids=["one notice", "a bundle"])
async def test_killed_between_sending_and_recording_the_same_goes_again_under_the_same_id(
    city: City, outbox: Path, count: int
) -> None:
    class Killed(Sender):
        async def send(self, message: Message) -> SendOutcome:
            await super().send(message)
            raise asyncio.CancelledError

    async with receiving() as receiver:
        await reached_at(city, f"webhook://{receiver.host}/?secret={SECRET}", THE_CHAIR)
        await route_reports(city.escalation, at_midnight(3 + count))
        await sent(DeliveryLoop(city.escalation, Sender(outbox)))
        city.clock.set(NIGHT + timedelta(seconds=32))
        await sent(DeliveryLoop(city.escalation, Killed(outbox)))
        city.clock.set(NIGHT + timedelta(seconds=33) + LEASE)
        await sent(DeliveryLoop(city.escalation, Sender(outbox)))
    first, second = receiver.requests[3:]
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert len(first.json["data"]["notices"]) == count
    assert first.body == second.body
    assert Counter(await finished(city))["delivered", 2] == count


# --- many at once for one person ---


async def test_at_new_years_midnight_many_incidents_of_a_ward_become_one_message_that_lists_them(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, at_midnight(30))
    await sent(loop)
    to_chair = lines(outbox, "mau-14776-chu-tich")
    assert [line["bundle_id"] for line in to_chair] == [None] * 3, "one by one while that helps"
    city.clock.set(NIGHT + timedelta(seconds=29))
    await sent(loop)
    assert len(lines(outbox, "mau-14776-chu-tich")) == 3
    city.clock.set(NIGHT + timedelta(seconds=32))
    await sent(loop)
    bundle = lines(outbox, "mau-14776-chu-tich")[3:]
    assert len(bundle) == len({line["notice_id"] for line in bundle}) == 27
    assert len({line["bundle_id"] for line in bundle}) == 1
    assert bundle[0]["title"] == "27 vụ, P.Ba Đình, tới mức ?"
    assert "Thuộc phạm vi quy định 2023-01-06.1: 27 vụ việc." in bundle[0]["body"]
    assert all(f"số {number_of(line['incident_id'])}" in bundle[0]["body"] for line in bundle)


async def test_each_notice_of_a_bundle_has_its_own_outcome_on_the_record(city: City, loop: DeliveryLoop) -> None:
    await route_reports(city.escalation, at_midnight(10))
    await sent(loop)
    city.clock.set(NIGHT + timedelta(seconds=32))
    await sent(loop)
    events = [e.data for e in await city.events() if isinstance(e, DeliveryFinished) and e.data.bundle_id]
    by_bundle = Counter(data.bundle_id for data in events)
    assert sorted(by_bundle.values()) == [7, 7], "one bundle a person"
    assert len({data.notice_id for data in events}) == 14
    sequences = [incident.sequence for incident in await stored(city, Incident)]
    numbers = [e.data.sequence for e in await city.events()]
    assert sum(sequences) == len(numbers), "each event of an incident has its own number"


async def test_the_most_severe_go_first_and_one_by_one(city: City, loop: DeliveryLoop, outbox: Path) -> None:
    slight, grave = at_midnight(6)[:3], at_midnight(6, harm=Harm(deaths=3))[3:]
    await route_reports(city.escalation, [*slight, *grave])
    await sent(loop)
    severe = {incident.incident_id for incident in await stored(city, Incident, severity=4)}
    assert len(severe) == 3
    assert {line["incident_id"] for line in lines(outbox, "mau-14776-chu-tich")} == severe


async def test_a_bundle_that_failed_goes_again_as_it_was_and_nothing_new_joins_it(city: City, outbox: Path) -> None:
    await route_reports(city.escalation, at_midnight(8))
    loop = DeliveryLoop(city.escalation, Sender(outbox))
    await sent(loop)
    city.clock.set(NIGHT + timedelta(seconds=32))
    await sent(DeliveryLoop(city.escalation, Failing(outbox)))
    await route_reports(city.escalation, at_midnight(12, occurred_at=city.clock.now())[8:])
    city.clock.set(NIGHT + timedelta(seconds=45))
    await sent(loop)
    to_chair = lines(outbox, "mau-14776-chu-tich")[3:]
    assert len(to_chair) == 5, "the failed bundle again; what is new waits for the next turn"
    city.clock.set(NIGHT + timedelta(seconds=65))
    await sent(loop)
    to_chair = lines(outbox, "mau-14776-chu-tich")[3:]
    assert sorted(Counter(line["bundle_id"] for line in to_chair).values()) == [4, 5]


async def test_of_a_bundle_that_is_given_up_the_desk_hears_for_each_incident(
    city: City, loop: DeliveryLoop, outbox: Path
) -> None:
    await route_reports(city.escalation, at_midnight(8))
    await sent(loop)
    failing = DeliveryLoop(city.escalation, Failing(outbox))
    for attempt in range(ATTEMPTS):
        city.clock.set(NIGHT + timedelta(seconds=32) + attempt * timedelta(minutes=20))
        await sent(failing)
    assert (await city.told()).count("desk:lost_notice") == 5


async def test_exercises_wait_for_nobody(city: City, loop: DeliveryLoop, outbox: Path) -> None:
    await route_reports(city.escalation, at_midnight(20, exercise=True))
    await sent(loop)
    assert len(lines(outbox)) >= 40
    assert {line["bundle_id"] for line in lines(outbox)} == {None}


async def test_a_rate_is_kept_without_keeping_the_address(city: City, loop: DeliveryLoop) -> None:
    await told_over(city, "json://mat-khau@127.0.0.1:1/0912000001")
    await sent(loop)
    keys = [pace.key for pace in await stored(city, Pace)]
    assert len(keys) == 2, "of the contact and of the server"
    assert not [key for key in keys if "mat-khau" in key or "0912" in key or "127" in key]


# --- several loops ---


async def test_what_one_loop_is_claiming_another_passes_over_without_waiting(city: City) -> None:
    await route_reports(city.escalation, [received(), received(unit=DONG_THO)])
    async with city.escalation.database.begin() as one, city.escalation.database.begin() as other:
        first = await claim(one, city.clock.now(), LIMITS, UnderWay(), window=3)
        async with asyncio.timeout(5):
            second = await claim(other, city.clock.now(), LIMITS, UnderWay(), window=3)
    ids = [d.delivery_id for claim in (first, second) for m in claim.messages for d in m.deliveries]
    assert (len(first.messages), len(second.messages)) == (3, 1)
    assert len(set(ids)) == 4, "no delivery is claimed twice"


async def test_two_loops_never_send_the_same_notice(city: City, outbox: Path) -> None:
    hours = [NIGHT - n * timedelta(hours=2) for n in range(1, 9)]
    reports = [received(unit=u, occurred_at=hour) for hour in hours for u in (DONG_THO, NGOC_TRAO)]
    await route_reports(city.escalation, reports)
    async with city.another() as other:
        loops = [DeliveryLoop(c.escalation, Sender(outbox)) for c in (city, other)]
        for minute in range(4):
            city.clock.set(NIGHT + minute * timedelta(minutes=1))
            await asyncio.gather(*(loop.step() for loop in loops))
            await asyncio.gather(*(loop.drain() for loop in loops))
    times = Counter(line["delivery_id"] for line in lines(outbox))
    assert times == dict.fromkeys((d.delivery_id for d in await stored(city, Delivery)), 1)
    assert await finished(city) == [("sent", 1)] * len(times)


async def test_several_loops_together_send_no_more_than_a_contact_is_to_get(city: City, outbox: Path) -> None:
    await route_reports(city.escalation, at_midnight(30))
    async with city.another() as other:
        loops = [DeliveryLoop(c.escalation, Sender(outbox)) for c in (city, other, city)]
        await asyncio.gather(*(loop.step() for loop in loops for _ in range(3)))
        await asyncio.gather(*(loop.drain() for loop in loops))
    assert len(lines(outbox, "mau-14776-chu-tich")) == 3
    assert len(lines(outbox, "mau-14776-bi-thu")) == 3


async def test_what_waits_for_a_busy_server_hides_nothing_behind_it(city: City) -> None:
    await route_reports(city.escalation, [*at_midnight(12), received(unit=DONG_THO)])
    await sent_by(city, "json://ban/{}", THE_SECRETARY, THE_CHAIR, earlier=timedelta(hours=1))
    seen: list[str] = []
    for _ in range(6):
        async with city.escalation.database.begin() as connection:
            busy = {"json://ban": PER_HOST_AT_ONCE}
            found = await claim(connection, city.clock.now(), LIMITS, UnderWay(busy), window=6)
        seen += [message.deliveries[0].recipient for message in found.messages]
    assert {"mau-14758-bi-thu", "mau-14758-chu-tich"} <= set(seen)


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

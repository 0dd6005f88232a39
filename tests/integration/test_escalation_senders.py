"""Several senders, one of which may be killed: each notice goes once, none is lost."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from services.escalation.application.claim_deliveries import UnderWay, claim
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.message import LEASE, Attempt, Message
from services.escalation.sending.channels import Sender, SendOutcome
from services.escalation.sending.delivery_loop import PER_HOST_AT_ONCE, DeliveryLoop
from services.escalation.store.delivery_attempts import end_attempts
from tests.integration.delivery_peers import TO_THIS_MACHINE, receiving
from tests.integration.delivery_support import (
    LIMITS,
    SECRET,
    THE_CHAIR,
    THE_SECRETARY,
    at_midnight,
    claimed,
    finished,
    lines,
    reached_at,
    sent,
    states,
)
from tests.integration.escalation_support import City
from tests.integration.stored.arranging import sent_by
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery
from tests.support import DONG_THO, NGOC_TRAO, NIGHT, received


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.ndjson"


@pytest.fixture
def loop(city: City, outbox: Path) -> DeliveryLoop:
    return DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE))


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
        await sent(DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE)))
        city.clock.set(NIGHT + timedelta(seconds=32))
        await sent(DeliveryLoop(city.escalation, Killed(outbox, TO_THIS_MACHINE)))
        city.clock.set(NIGHT + timedelta(seconds=33) + LEASE)
        await sent(DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE)))
    first, second = receiver.requests[3:]
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert len(first.json["data"]["notices"]) == count
    assert first.body == second.body
    assert Counter(await finished(city))["delivered", 2] == count


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
        loops = [DeliveryLoop(c.escalation, Sender(outbox, TO_THIS_MACHINE)) for c in (city, other)]
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
        loops = [DeliveryLoop(c.escalation, Sender(outbox, TO_THIS_MACHINE)) for c in (city, other, city)]
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

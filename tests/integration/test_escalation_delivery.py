"""A notice reaches its person: sent again while the channel fails, never twice at once, and never lost in silence."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation.channels import DeliveryError, Sender
from services.escalation.delivery import RETRY_AFTER_SECONDS, DeliveryLoop
from services.escalation.handlers import acknowledge, on_reports
from services.escalation.store import due
from services.escalation.store.due import LEASE, DueDelivery
from shared.events import DeliveryFinished
from shared.identity import Principal
from tests.integration.escalation_support import City
from tests.support import CHAIR, DONG_THO, NGOC_TRAO, NIGHT, SECRETARY, received

BA_DINH_CHAIR = Principal("mau-14776-chu-tich", "official", "14776", CHAIR)
ATTEMPTS = len(RETRY_AFTER_SECONDS) + 1


@dataclass
class Receiver:
    """An HTTP receiver such as a messaging gateway has; refuses the first `failing` requests with 503."""

    failing: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    requests: int = 0
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        body = await reader.readexactly(length)
        self.requests += 1
        refused = self.requests <= self.failing
        if not refused:
            self.bodies.append(json.loads(body))
        status = b"503 Service Unavailable" if refused else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(failing: int = 0) -> AsyncGenerator[Receiver]:
    receiver = Receiver(failing)
    server = await asyncio.start_server(receiver.answer, "127.0.0.1")
    async with server:
        host, port = server.sockets[0].getsockname()
        receiver.url = f"json://{host}:{port}/thong-bao"
        yield receiver


async def told_over(city: City, url: str) -> None:
    """One report of setting off; both holders are to be told over the channel `url`."""
    await on_reports(city.escalation, [received()])
    await city.run("UPDATE escalation.delivery SET channel = :url", url=url)


async def sent(loop: DeliveryLoop) -> None:
    await loop.step()
    await loop.drain()


async def states(city: City) -> list[tuple[str, int]]:
    rows = await city.rows("SELECT state, attempts FROM escalation.delivery ORDER BY state, attempts")
    return [(row.state, row.attempts) for row in rows]


async def finished(city: City) -> list[tuple[str, int]]:
    return [(e.data.outcome, e.data.attempts) for e in await city.events() if isinstance(e, DeliveryFinished)]


@pytest.fixture
def loop(city: City, tmp_path: Path) -> DeliveryLoop:
    return DeliveryLoop(city.escalation, Sender(tmp_path / "outbox.ndjson"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- a channel that fails ---


async def test_a_notice_is_sent_again_until_the_channel_takes_it_and_recorded_once(
    city: City, loop: DeliveryLoop
) -> None:
    async with receiving(failing=3) as receiver:
        await told_over(city, receiver.url)
        await sent(loop)
        assert await states(city) == [("queued", 1), ("queued", 1)]
        city.clock.set(NIGHT + timedelta(seconds=10))
        await sent(loop)
        assert sorted(await states(city)) == [("queued", 2), ("sent", 2)]
        city.clock.set(NIGHT + timedelta(seconds=30))
        await sent(loop)
        await sent(loop)
    assert sorted(await states(city)) == [("sent", 2), ("sent", 3)]
    assert receiver.requests == 5
    titles = {body["title"] for body in receiver.bodies}
    assert titles == {"chưa xác minh · Trực ban: Nổ (đốt) pháo trái phép – phường Ba Đình"}
    posts = sorted("Chủ tịch UBND" in body["message"] for body in receiver.bodies)
    assert posts == [False, True], "each holder is told for their own post"
    assert sorted(await finished(city)) == [("sent", 2), ("sent", 3)]


async def test_a_refused_notice_waits_before_it_is_sent_again(city: City, loop: DeliveryLoop) -> None:
    async with receiving(failing=100) as receiver:
        await told_over(city, receiver.url)
        for _ in range(3):
            await sent(loop)
        assert receiver.requests == 2, "each delivery once; the next attempt is a second away"
        error = "json: the channel did not take the notice"
        assert {row.error for row in await city.rows("SELECT error FROM escalation.delivery")} == {error}


async def test_what_no_attempt_brings_over_is_given_up_and_told_to_the_desk_once(
    city: City, loop: DeliveryLoop, tmp_path: Path
) -> None:
    async with receiving(failing=1_000) as receiver:
        await told_over(city, receiver.url)
        for attempt in range(1, ATTEMPTS + 1):
            city.clock.set(NIGHT + attempt * timedelta(minutes=20))
            await sent(loop)
        assert receiver.requests == 2 * ATTEMPTS
    assert await finished(city) == [("given_up", ATTEMPTS)] * 2
    assert (await city.told()).count("desk:undeliverable") == 1
    await sent(loop)
    (line,) = lines(tmp_path / "outbox.ndjson")
    assert (line["recipient"], line["purpose"]) == ("desk", "undeliverable")


async def test_an_error_of_the_channel_itself_is_a_failed_attempt_too(city: City) -> None:
    class Broken(Sender):
        async def send(self, due: DueDelivery) -> None:
            raise RuntimeError("a fault in a plug-in, which may quote mat-khau")

    await told_over(city, "outbox://x")
    loop = DeliveryLoop(city.escalation, Broken(Path("unused")))
    for attempt in range(1, ATTEMPTS + 1):
        city.clock.set(NIGHT + attempt * timedelta(minutes=20))
        await sent(loop)
    assert await finished(city) == [("given_up", ATTEMPTS)] * 2
    errors = {row.error for row in await city.rows("SELECT error FROM escalation.delivery WHERE state = 'given_up'")}
    assert errors == {"RuntimeError"}


async def test_a_channel_that_nobody_knows_is_named_by_its_scheme_only(city: City, loop: DeliveryLoop) -> None:
    await told_over(city, "khongco://mat-khau@0912000001")
    await sent(loop)
    for row in await city.rows("SELECT error FROM escalation.delivery"):
        assert row.error == "khongco: not a channel that Apprise knows; correct the contact"


async def test_what_was_acknowledged_while_it_was_being_sent_is_not_sent_again(city: City) -> None:
    class Refusing(Sender):
        async def send(self, due: DueDelivery) -> None:
            if due.posts == [CHAIR]:
                await acknowledge(city.escalation, due.incident_id, BA_DINH_CHAIR)
            raise DeliveryError("json: the channel did not take the notice")

    await on_reports(city.escalation, [received()])
    await sent(DeliveryLoop(city.escalation, Refusing(Path("unused"))))
    rows = await city.rows(
        "SELECT n.recipient, d.state, d.finished_at IS NOT NULL AS finished"
        " FROM escalation.delivery d JOIN escalation.notice n USING (notice_id) ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [
        ("mau-14776-bi-thu", "queued", False),
        ("mau-14776-chu-tich", "cancelled", True),
    ]


# --- a sender that is killed ---


async def test_the_lease_of_a_killed_sender_runs_out_and_the_notice_is_sent_again(
    city: City, loop: DeliveryLoop, tmp_path: Path
) -> None:
    await on_reports(city.escalation, [received()])
    async with city.escalation.engine.begin() as connection:
        killed = await due.claim_deliveries(connection, city.clock.now(), 10)
    assert len(killed) == 2
    await sent(loop)
    assert await states(city) == [("sending", 1), ("sending", 1)], "under a lease nobody else sends"
    city.clock.set(NIGHT + LEASE + timedelta(seconds=1))
    await sent(loop)
    assert await states(city) == [("sent", 2), ("sent", 2)]
    assert len(lines(tmp_path / "outbox.ndjson")) == 2
    async with city.escalation.engine.begin() as connection:
        late = [await due.finish_delivery(connection, d, "sent", city.clock.now(), None) for d in killed]
    assert late == [False, False], "whoever comes late records nothing"
    assert await finished(city) == [("sent", 2)] * 2


async def test_a_sender_whose_lease_ran_out_records_nothing_while_another_is_sending(city: City) -> None:
    await on_reports(city.escalation, [received()])
    now, later = city.clock.now(), city.clock.now() + LEASE
    async with city.escalation.engine.begin() as connection:
        slow = await due.claim_deliveries(connection, now, 1)
        next_ = await due.claim_deliveries(connection, later, 10)
        taken_over = [d for d in next_ if d.delivery_id == slow[0].delivery_id]
        assert [d.attempts for d in taken_over] == [2]
        await due.retry_delivery(connection, slow[0], later, later, "too late")
        assert not await due.finish_delivery(connection, slow[0], "sent", later, None)
        assert await due.finish_delivery(connection, taken_over[0], "sent", later, None)


# --- several loops ---


async def test_what_one_loop_is_claiming_another_passes_over_without_waiting(city: City) -> None:
    await on_reports(city.escalation, [received(), received(unit=DONG_THO)])
    async with city.escalation.engine.begin() as one, city.escalation.engine.begin() as other:
        first = await due.claim_deliveries(one, city.clock.now(), 3)
        async with asyncio.timeout(5):
            second = await due.claim_deliveries(other, city.clock.now(), 3)
    ids = [d.delivery_id for d in (*first, *second)]
    assert (len(first), len(second)) == (3, 1)
    assert len(set(ids)) == 4, "no delivery is claimed twice"


async def test_two_loops_never_send_the_same_notice(city: City, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox.ndjson"
    hours = [NIGHT - n * timedelta(hours=2) for n in range(1, 9)]
    reports = [received(unit=u, occurred_at=hour) for hour in hours for u in (DONG_THO, NGOC_TRAO)]
    await on_reports(city.escalation, reports)
    async with city.another() as other:
        loops = [DeliveryLoop(c.escalation, Sender(outbox)) for c in (city, other)]
        for _ in range(3):
            await asyncio.gather(*(loop.step() for loop in loops))
            await asyncio.gather(*(loop.drain() for loop in loops))
    times = Counter(line["delivery_id"] for line in lines(outbox))
    assert len(times) == 32
    assert set(times.values()) == {1}
    assert await finished(city) == [("sent", 1)] * 32


async def test_a_loop_sends_only_so_many_at_once(city: City, tmp_path: Path) -> None:
    class Slow(Sender):
        at_once = most = 0

        async def send(self, due: DueDelivery) -> None:
            Slow.at_once += 1
            Slow.most = max(Slow.most, Slow.at_once)
            await super().send(due)
            Slow.at_once -= 1

    hours = [NIGHT - n * timedelta(hours=2) for n in range(1, 16)]
    await on_reports(city.escalation, [received(unit=DONG_THO, occurred_at=hour) for hour in hours])
    loop = DeliveryLoop(city.escalation, Slow(tmp_path / "outbox.ndjson"))
    while await loop.step():
        pass
    await loop.drain()
    assert await finished(city) == [("sent", 1)] * 30
    assert Slow.most <= 20


# --- the demo's channel ---


async def test_the_outbox_file_has_a_line_for_each_notice_with_its_words(
    city: City, loop: DeliveryLoop, tmp_path: Path
) -> None:
    await on_reports(city.escalation, [received(), received("FIRE", unit=NGOC_TRAO)])
    await sent(loop)
    found = lines(tmp_path / "outbox.ndjson")
    assert sorted((line["recipient"], line["purpose"], tuple(line["posts"])) for line in found) == [
        ("desk", "review", ()),
        ("mau-14776-bi-thu", "accountable", (SECRETARY,)),
        ("mau-14776-chu-tich", "accountable", (CHAIR,)),
    ]
    assert all(line["body"].endswith(f"#{line['incident_id']}") for line in found)
    assert (tmp_path / "outbox.ndjson").stat().st_mode & 0o777 == 0o600

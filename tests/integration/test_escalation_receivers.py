"""Receivers that never answer, or never stop: attempts end in time, others are not held up, the watch complains."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from services.escalation.application.route_reports import route_reports
from services.escalation.monitoring.watchman import Watchman
from services.escalation.sending.channels import Sender
from services.escalation.sending.channels.webhook import Webhooks
from services.escalation.sending.delivery_loop import PER_HOST_AT_ONCE, DeliveryLoop
from services.escalation.store.watch import POSTPONED_LATE
from tests.integration.delivery_peers import TO_THIS_MACHINE, Behaviour, Receiver, receiving
from tests.integration.escalation_support import City, until
from tests.integration.stored.arranging import sent_by
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery
from tests.support import DONG_THO, NIGHT, received

SECRET = base64.b64encode(bytes(24)).decode()
BA_DINH_HOLDERS = ("mau-14776-bi-thu", "mau-14776-chu-tich")
DONG_THO_HOLDERS = ("mau-14758-bi-thu", "mau-14758-chu-tich")
BAD: tuple[Behaviour, ...] = ("stall", "trickle", "endless", "redirect")
SCHEMES = {"webhook": "webhook://{host}/{{}}?secret=" + SECRET, "apprise": "json://{host}/{{}}"}
SECONDS = 5.0


@pytest.fixture
async def loop(city: City, tmp_path: Path) -> AsyncGenerator[DeliveryLoop]:
    assert TO_THIS_MACHINE.error("json://x/") is None, (
        "and Apprise is imported, which takes longer than an attempt here"
    )
    made = DeliveryLoop(
        city.escalation,
        Sender(tmp_path / "outbox.ndjson", TO_THIS_MACHINE, webhooks=Webhooks(seconds=SECONDS / 2)),
        seconds=SECONDS,
    )
    yield made
    await made.drain()


async def told_over(city: City, receiver: Receiver, kind: str, reports: int = 1) -> None:
    """The holders of Ba Đình over this receiver, those of Đông Thọ over the usual channel."""
    events = [received(point=(19.70 + n / 100, 105.77)) for n in range(reports)]
    await route_reports(city.escalation, [*events, received(unit=DONG_THO)])
    await sent_by(city, SCHEMES[kind].format(host=receiver.host), *BA_DINH_HOLDERS)


async def states(city: City, *recipients: str) -> list[tuple[str, str | None]]:
    return [(d.state, d.error) for d in await stored(city, Delivery) if d.recipient in recipients]


@pytest.mark.parametrize("kind", SCHEMES)
@pytest.mark.parametrize("always", BAD)
async def test_an_attempt_at_a_bad_receiver_ends_in_time_and_holds_up_no_other(
    city: City, loop: DeliveryLoop, always: Behaviour, kind: str
) -> None:
    async with receiving(always=always) as receiver:
        await told_over(city, receiver, kind)
        await loop.step()
        others = [("sent", None)] * 2

        async def are_told() -> bool:
            return await states(city, *DONG_THO_HOLDERS) == others

        await until(are_told, "the others are told", seconds=SECONDS * 0.9)
        async with asyncio.timeout(10 * SECONDS):
            await loop.drain()
        ended = await states(city, *BA_DINH_HOLDERS)
    taken = "delivered" if kind == "webhook" else "sent"
    assert {state for state, _ in ended} == {taken if always == "endless" else "failed"}


async def test_a_redirect_is_not_followed_by_a_webhook(city: City, loop: DeliveryLoop) -> None:
    async with receiving(always="redirect") as receiver:
        await told_over(city, receiver, "webhook")
        await loop.step()
        await loop.drain()
        assert len(receiver.requests) == 2
    assert await states(city, *BA_DINH_HOLDERS) == [("failed", "webhook: the receiver answered 307")] * 2


async def test_what_waits_behind_a_receiver_that_never_answers_is_complained_of(city: City, loop: DeliveryLoop) -> None:
    async with receiving(always="stall") as receiver:
        await told_over(city, receiver, "webhook", reports=PER_HOST_AT_ONCE)
        await loop.step()
        await loop.step()
        city.clock.set(NIGHT + POSTPONED_LATE + timedelta(seconds=1))
        said = (await Watchman(city.escalation).health_failures())["watch.postponed"]
        assert said is not None
        assert said.startswith(f"{PER_HOST_AT_ONCE} notices were put off again and again, the oldest for 5 min")
        await loop.drain()

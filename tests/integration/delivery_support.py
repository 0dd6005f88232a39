"""What the tests of delivery share: who is told over which channel, and what became of it."""

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.escalation.application.claim_deliveries import UnderWay, claim
from services.escalation.application.import_directory import import_directory
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.message import Message
from services.escalation.domain.notices.pacing import Limits, Rate
from services.escalation.sending.channels import DeliveryError, Sender, SendOutcome
from services.escalation.sending.delivery_loop import (
    GATEWAY,
    MESSAGES_A_CLAIM,
    PER_HOST_AT_ONCE,
    RETRY_AFTER_SECONDS,
    DeliveryLoop,
)
from shared.events import DeliveryFinished, ReportReceived
from tests.integration.escalation_support import City
from tests.integration.stored.arranging import sent_by
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery
from tests.support import received

THE_SECRETARY, THE_CHAIR = "mau-14776-bi-thu", "mau-14776-chu-tich"
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
    contacts = "".join(f"{holder},{url},true\n" for holder in holders)
    assert not (await import_directory(city.escalation, f"holder_id,channel,sample\n{contacts}".encode())).errors


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


def lines(path: Path, recipient: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in found if recipient in (None, line["recipient"])]


class Failing(Sender):
    """Takes nothing."""

    async def send(self, message: Message) -> SendOutcome:
        raise DeliveryError("json: the channel did not take the notice")

"""The link of an office's notice that somebody on duty got acts for the office while they are on duty and not named."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from services.escalation.api import links as routes
from services.escalation.api.rights import RIGHTS
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.message import Message
from services.escalation.domain.notices.signed_link import LinkSigner
from services.escalation.sending.channels import Sender, SendOutcome
from services.escalation.sending.delivery_loop import DeliveryLoop
from shared.credentials.revocation import Revocation
from shared.events import Harm
from shared.http.identity import TokenVerifier, verifier
from shared.http.web import service_app
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.directory_changes import appoint, leave, on_duty
from tests.integration.escalation_support import City
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Notice
from tests.support import CHAIR, NIGHT, received

BASE = "http://trucban.example"
LINKS = LinkSigner(b"\x5a" * 32, BASE)
ON_DUTY, THE_CHAIR = "mau-truc", "mau-14776-chu-tich"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class Reading(Sender):
    """Takes every message; remembers the link that went to each channel."""

    def __init__(self) -> None:
        super().__init__(Path("unused"), TO_THIS_MACHINE, link=self.made)
        self.links, self._last = dict[str, str](), ""

    def made(self, notice_id: str, recipient: str, issued_at: datetime) -> str:
        self._last = LINKS.of_notice(notice_id, recipient, issued_at)
        return self._last

    async def send(self, message: Message) -> SendOutcome:
        self._last = ""
        self._outgoing(message)
        self.links[message.channel] = self._last
        return "sent"


@dataclass
class Office:
    """What somebody on duty at the desk has in hand: the link of the notice that nobody acknowledges, and a browser."""

    city: City
    browser: AsyncClient
    link: str
    """Theirs."""
    of_office: str
    """The one that the office's own channel got."""
    tokens: TokenVerifier

    async def pressed(self, link: str | None = None) -> str:
        page = await self.browser.post(link or self.link)
        assert page.status_code == 200
        return page.text

    async def acknowledged_by(self) -> str | None:
        return (await only(self.city, Notice, recipient="desk", purpose="not_acknowledged")).acknowledged_by


@pytest.fixture
async def office(city: City, tmp_path: Path) -> AsyncGenerator[Office]:
    await on_duty(city, ON_DUTY, "desk")
    await route_reports(city.escalation, [received(kind="officer", harm=Harm(deaths=3))])
    city.clock.set(NIGHT + 6 * MINUTE)
    await fire_due_timers(city.escalation)
    reading = Reading()
    loop = DeliveryLoop(city.escalation, reading)
    while await loop.step() | await loop.drain():
        pass
    tokens = verifier(tmp_path)
    app = service_app("escalation", tokens, routes.router, RIGHTS)
    app.state.escalation, app.state.link_signer, app.state.desk_telephone = city.escalation, LINKS, None
    root = FastAPI()
    root.mount("/escalation", app)
    async with AsyncClient(transport=ASGITransport(root), base_url=BASE) as browser:
        own = city.escalation.channels.desk
        yield Office(city, browser, reading.links[f"outbox://{ON_DUTY}"], reading.links[own], tokens)


async def test_whoever_is_on_duty_acknowledges_for_the_office_in_their_own_name(office: Office) -> None:
    assert "(mẫu)" in await office.pressed()
    assert await office.acknowledged_by() == ON_DUTY
    (event,) = [e for e in await office.city.events() if e.type.endswith("acknowledgement.recorded.v1")]
    assert event.data.who is not None
    assert (event.data.who.subject, event.data.who.role, event.data.who.means) == (ON_DUTY, "desk", "link")


async def test_whoever_looks_after_the_office_s_own_channel_acknowledges_for_the_office(office: Office) -> None:
    await office.pressed(office.of_office)
    assert await office.acknowledged_by() == "desk"


@pytest.mark.parametrize(("subject", "ended"), [(ON_DUTY, [410, 200]), ("desk", [410, 410])])
async def test_it_ends_with_all_of_whoever_got_it_and_with_all_of_the_office(
    office: Office, subject: str, ended: list[int]
) -> None:
    now, until = office.city.clock.now(), datetime.now(UTC) + HOUR
    common: dict[str, Any] = {"kind": "token", "holder": subject, "role": "desk", "expires_at": until}
    ending = Revocation(revocation_id="1", subject=subject, issued_before=now + HOUR, revoked_at=now, **common)
    office.tokens.revoked.add(ending)
    assert [(await office.browser.get(link)).status_code for link in (office.link, office.of_office)] == ended


async def test_after_their_turn_it_acknowledges_nothing_and_says_why(office: Office) -> None:
    office.city.clock.set(NIGHT + 25 * HOUR)
    page = await office.pressed()
    assert await office.acknowledged_by() is None
    assert "Ca trực của quý vị đã hết" in page
    assert "Your turn of duty is over" in page
    assert "<button" not in page


async def test_whom_the_decision_names_since_acknowledges_nothing_for_the_office(office: Office) -> None:
    """They take the chair's post half an hour later: they would end the climb that is about themselves."""
    await named(office.city)
    page = await office.pressed()
    assert await office.acknowledged_by() is None
    assert "Quyết định về vụ việc này nêu tên quý vị" in page
    assert "The decision on this incident names you" in page
    assert "<button" not in page


async def test_a_program_is_told_that_the_link_acknowledges_nothing(office: Office) -> None:
    async def acts() -> Any:
        return (await office.browser.get(office.link, headers={"accept": "application/json"})).json()["acts"]

    assert await acts() is True
    await named(office.city)
    assert await acts() is False


async def test_who_acknowledged_for_an_office_has_not_acknowledged_for_a_post_that_they_get_later(
    office: Office,
) -> None:
    """What they are asked then climbs like any other request."""
    await office.pressed()
    await named(office.city)
    office.city.clock.set(office.city.clock.now() + 6 * MINUTE)
    await fire_due_timers(office.city.escalation)
    late = await stored(office.city, Notice, recipient="desk", purpose="not_acknowledged")
    assert len(late) == 2, "the desk hears of the one who was on duty there"


async def named(city: City) -> None:
    now = city.clock.now()
    await leave(city, THE_CHAIR, now)
    await appoint(city, ON_DUTY, now, post=CHAIR)
    await fire_due_timers(city.escalation)

"""What was answered, ended or passed to another person is not sent."""

from datetime import timedelta
from pathlib import Path

import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.notices.message import LEASE, Message
from services.escalation.sending.channels import Sender, SendOutcome
from services.escalation.sending.delivery_loop import DeliveryLoop
from shared.http.identity import Principal
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.delivery_support import (
    THE_CHAIR,
    Failing,
    at_midnight,
    claimed,
    lines,
    sent,
    states,
    told_over_what_nobody_knows,
)
from tests.integration.directory_changes import leave
from tests.integration.escalation_support import City
from tests.integration.stored.arranging import put_off
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery
from tests.support import CHAIR, NIGHT, SECRETARY, received

BA_DINH_CHAIR = Principal(THE_CHAIR, "official", "14776", CHAIR)
DESK = Principal("mau-truc-ban", "desk")


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox.ndjson"


@pytest.fixture
def loop(city: City, outbox: Path) -> DeliveryLoop:
    return DeliveryLoop(city.escalation, Sender(outbox, TO_THIS_MACHINE))


async def test_what_was_acknowledged_while_it_was_being_sent_is_not_sent_again(city: City) -> None:
    class Refusing(Failing):
        async def send(self, message: Message) -> SendOutcome:
            (incident,) = {delivery.incident_id for delivery in message.deliveries if delivery.incident_id}
            if message.deliveries[0].posts == [CHAIR]:
                await acknowledge(city.escalation, incident, BA_DINH_CHAIR)
            return await super().send(message)

    await route_reports(city.escalation, [received()])
    await sent(DeliveryLoop(city.escalation, Refusing(Path("unused"), TO_THIS_MACHINE)))
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

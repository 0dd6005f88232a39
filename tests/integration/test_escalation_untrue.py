"""What is no longer true is told to nobody, whatever was under way or was changed before it went; what has to be taken
back is taken back."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from services.escalation.application import commands
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.record_directory import record
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.schemas import ContactRow, RequestedChanges, Tables
from services.escalation.domain.notices.message import LEASE
from services.escalation.sending.channels import Sender
from services.escalation.sending.delivery_loop import DeliveryLoop
from shared.events import Harm, UnitRef
from tests.integration.command_support import DESK, WHY, revise, verify
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.delivery_support import claimed, sent
from tests.integration.directory_changes import end_unit, leave, on_duty
from tests.integration.escalation_support import City
from tests.integration.stored.looking import stored
from tests.integration.stored.records import Delivery
from tests.support import BA_DINH, NIGHT, received

THE_CHAIR = "mau-14776-chu-tich"
HOUR = timedelta(hours=1)
A_LEASE = LEASE + timedelta(seconds=1)


@pytest.fixture
def loop(city: City, tmp_path: Path) -> DeliveryLoop:
    return DeliveryLoop(city.escalation, Sender(tmp_path / "outbox.ndjson", TO_THIS_MACHINE))


async def chair_got(city: City) -> list[str]:
    """Purposes of what the chair's channel took."""
    return [d.purpose for d in await stored(city, Delivery, recipient=THE_CHAIR, state="sent")]


async def chair_is_at(city: City, channel: str | None) -> None:
    row = ContactRow(holder_id=THE_CHAIR, channel=channel, sample=True)
    assert not (await record(city.escalation, RequestedChanges(Tables(contacts=[(1, row)]), 1))).errors


async def time_passes(city: City, time: timedelta) -> None:
    """Nothing runs meanwhile; then all that fell due is acted on."""
    city.clock.set(city.clock.now() + time)
    while await fire_due_timers(city.escalation):
        pass


async def test_that_the_rule_applies_is_not_tried_again_once_it_does_not(city: City, loop: DeliveryLoop) -> None:
    """It was being sent when the desk found that nothing had exploded: only that it no longer holds goes out."""
    await route_reports(city.escalation, [received()])
    await claimed(city)
    await verify(city, await city.incident(), firecrackers_exploded=False)
    await time_passes(city, A_LEASE)
    await sent(loop)
    assert await chair_got(city) == ["stand_down"]


async def test_a_new_channel_brings_nobody_what_ceased_to_hold(city: City, loop: DeliveryLoop) -> None:
    await chair_is_at(city, None)
    await route_reports(city.escalation, [received()])
    await verify(city, await city.incident(), firecrackers_exploded=False)
    await chair_is_at(city, "outbox://so-moi")
    await sent(loop)
    assert await chair_got(city) == []


async def test_that_it_no_longer_holds_is_told_after_an_outage_in_which_a_round_began(
    city: City, loop: DeliveryLoop
) -> None:
    """The desk still has to review it, and is asked again in a new round, in which the ward is told nothing."""
    await route_reports(city.escalation, [received("FIRE", harm=Harm(deaths=1))])
    await sent(loop)
    await revise(city, await city.incident(), deaths=0, injured=0, property_vnd=0)
    assert "stand_down" in {d.purpose for d in await stored(city, Delivery, recipient=THE_CHAIR)}
    await time_passes(city, 30 * HOUR)
    await sent(loop)
    assert await chair_got(city) == ["accountable", "stand_down"]


async def test_whose_turn_of_duty_is_over_is_told_no_more(city: City, loop: DeliveryLoop) -> None:
    await on_duty(city, "mau-truc", "ward", unit=BA_DINH)
    await route_reports(city.escalation, [received()])
    await time_passes(city, 25 * HOUR)
    await sent(loop)
    assert not await stored(city, Delivery, recipient="mau-truc", state="sent")


async def test_of_what_went_to_the_police_nobody_is_told_who_has_left_the_post(city: City, loop: DeliveryLoop) -> None:
    await route_reports(city.escalation, [received()])
    await commands.hand_off(city.escalation, await city.incident(), DESK, WHY)
    await leave(city, THE_CHAIR, NIGHT + HOUR)
    await time_passes(city, 2 * HOUR)
    await sent(loop)
    assert {d.recipient for d in await stored(city, Delivery, state="sent")} == {"mau-14776-bi-thu"}


@pytest.mark.parametrize("end", [True, False])
async def test_that_it_no_longer_holds_is_not_tried_again_with_somebody_who_left_the_post_meanwhile(
    city: City, loop: DeliveryLoop, *, end: bool
) -> None:
    """It was being sent when they left: the incident ended with it, or goes on with their successor."""
    await route_reports(city.escalation, [received()])
    await sent(loop)
    if end:
        await commands.dismiss(city.escalation, await city.incident(), DESK, WHY)
    else:
        await verify(city, await city.incident(), firecrackers_exploded=False)
    await claimed(city)
    await leave(city, THE_CHAIR, NIGHT + timedelta(seconds=5))
    await time_passes(city, A_LEASE)
    await sent(loop)
    assert await chair_got(city) == ["accountable"]


async def test_that_it_no_longer_holds_is_not_tried_again_with_the_people_of_a_ward_that_has_ended(
    city: City, loop: DeliveryLoop
) -> None:
    await route_reports(city.escalation, [received()])
    await sent(loop)
    await commands.dismiss(city.escalation, await city.incident(), DESK, WHY)
    await claimed(city)
    new = UnitRef(code="14770", valid_from=date(2023, 1, 23), name="Ba Đình mới")
    await end_unit(city, [new])
    await time_passes(city, 25 * HOUR)
    await sent(loop)
    assert await chair_got(city) == ["accountable"]


async def test_that_it_no_longer_holds_is_not_tried_again_with_somebody_whose_turn_of_duty_is_over(
    city: City, loop: DeliveryLoop
) -> None:
    await on_duty(city, "mau-truc", "ward", unit=BA_DINH)
    await route_reports(city.escalation, [received()])
    await sent(loop)
    await commands.dismiss(city.escalation, await city.incident(), DESK, WHY)
    await claimed(city)
    await time_passes(city, 25 * HOUR)
    await sent(loop)
    assert [d.purpose for d in await stored(city, Delivery, recipient="mau-truc", state="sent")] == ["duty"]


async def test_what_the_desk_has_done_is_asked_of_nobody_though_its_time_had_passed(
    city: City, loop: DeliveryLoop
) -> None:
    """Desk and leadership were asked for a review while no message could go; then the desk did it."""
    await route_reports(city.escalation, [received("FIRE")])
    for _ in range(3):
        await time_passes(city, HOUR)
    assert {"review", "not_reviewed"} <= {d.purpose for d in await stored(city, Delivery, state="queued")}
    await verify(city, await city.incident())
    await revise(city, await city.incident(), deaths=0, injured=0, property_vnd=0)
    await sent(loop)
    assert {"review", "not_reviewed"} & {d.purpose for d in await stored(city, Delivery, state="sent")} == set()

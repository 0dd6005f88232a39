"""Who gets another channel is told there what still waits for them, and no more where somebody else may read it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.record_directory import record
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.schemas import ContactRow, RequestedChanges, Tables
from services.escalation.domain.notices.message import Message
from services.escalation.sending.channels import DeliveryError, Sender, SendOutcome
from services.escalation.sending.delivery_loop import DeliveryLoop
from shared.events import Harm, ReportReceived
from shared.http.identity import Principal
from tests.integration.command_support import DESK, designate
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.directory_changes import reachable
from tests.integration.escalation_support import City, events_without_their_cause, route_all
from tests.integration.stored.arranging import notices_are_withdrawn
from tests.integration.stored.looking import only, stored
from tests.integration.stored.records import Delivery, Incident, Notice
from tests.support import CHAIR, NIGHT, at, received

WHO = "mau-14776-chu-tich"
OLD, NEW = f"outbox://{WHO}", "outbox://so-moi"
QUIET = ("22:00", "06:00")
MORNING = at("2023-01-22 06:00")
MINUTE = timedelta(minutes=1)


async def changed(city: City, *channels: str | None, quiet: tuple[str, str] | None = None) -> None:
    """All channels of the chair from now on; None for none."""
    start, end = quiet or (None, None)
    rows = [
        (
            n,
            ContactRow.model_validate(
                {"holder_id": WHO, "channel": url, "sample": True, "quiet_from": start, "quiet_to": end}
            ),
        )
        for n, url in enumerate(channels)
    ]
    assert not (await record(city.escalation, RequestedChanges(Tables(contacts=rows), len(rows)))).errors


async def to_chair(city: City) -> list[tuple[str, str, str]]:
    """What is or was to be sent: purpose, channel and state, in order."""
    return [(d.purpose, d.channel, d.state) for d in await stored(city, Delivery, recipient=WHO)]


async def goes_at(city: City, channel: str) -> timedelta:
    """After NIGHT."""
    return (await only(city, Delivery, channel=channel, state="queued")).next_at - NIGHT


async def slight(city: City) -> None:
    """An incident so slight that its notices wait for the end of quiet hours, which the chair has."""
    await reachable(city, WHO, QUIET)
    harm = Harm(deaths=0, injured=0, injury_percent=0, property_vnd=0)
    await route_reports(city.escalation, [received("TRAFFIC_ACCIDENT", kind="officer", subject="cb-1", harm=harm)])
    await designate(city, await city.incident())


def grave() -> ReportReceived:
    return received(harm=Harm(deaths=3))


class Failing(Sender):
    def __init__(self) -> None:
        super().__init__(Path("unused"), TO_THIS_MACHINE)

    async def send(self, message: Message) -> SendOutcome:
        raise DeliveryError("json: the channel did not take the notice")


class Taking(Failing):
    async def send(self, message: Message) -> SendOutcome:
        return "sent"


async def sent(city: City, sender: Sender) -> None:
    loop = DeliveryLoop(city.escalation, sender)
    while await loop.step() | await loop.drain():
        pass


# --- a new channel in place of the old ---


async def test_what_waits_for_the_morning_goes_to_the_new_channel_and_not_to_the_old(city: City) -> None:
    await slight(city)
    assert await goes_at(city, OLD) == MORNING - NIGHT
    await changed(city, NEW)
    assert await to_chair(city) == [("accountable", OLD, "cancelled"), ("accountable", NEW, "queued")]
    assert await goes_at(city, NEW) < MINUTE


async def test_the_quiet_hours_of_the_new_channel_are_kept(city: City) -> None:
    await slight(city)
    await changed(city, NEW, quiet=("21:00", "05:30"))
    assert await goes_at(city, NEW) == at("2023-01-22 05:30") - NIGHT


async def test_other_quiet_hours_of_the_same_channel_are_kept_too(city: City) -> None:
    await slight(city)
    await changed(city, OLD, quiet=("22:00", "05:00"))
    assert await to_chair(city) == [("accountable", OLD, "cancelled"), ("accountable", OLD, "queued")]
    assert await goes_at(city, OLD) == at("2023-01-22 05:00") - NIGHT


async def test_what_is_grave_waits_for_no_quiet_hours_of_the_new_channel(city: City) -> None:
    await route_reports(city.escalation, [grave()])
    await sent(city, Failing())
    await changed(city, NEW, quiet=QUIET)
    assert await to_chair(city) == [("accountable", OLD, "cancelled"), ("accountable", NEW, "queued")]
    assert await goes_at(city, NEW) < MINUTE


async def test_a_second_channel_leaves_the_first_as_it_is(city: City) -> None:
    await slight(city)
    rows = [
        (
            0,
            ContactRow.model_validate(
                {"holder_id": WHO, "channel": OLD, "sample": True, "quiet_from": "22:00", "quiet_to": "06:00"}
            ),
        ),
        (1, ContactRow(holder_id=WHO, channel=NEW, sample=True)),
    ]
    for _ in range(2):  # the second time it changes nothing
        await record(city.escalation, RequestedChanges(Tables(contacts=rows), 2))
        assert await to_chair(city) == [("accountable", OLD, "queued"), ("accountable", NEW, "queued")]


async def test_what_was_being_sent_on_the_old_channel_and_failed_is_not_tried_there_again(city: City) -> None:
    class ChangedMeanwhile(Failing):
        async def send(self, message: Message) -> SendOutcome:
            if message.channel == OLD:
                await changed(city, NEW)
            return await super().send(message)

    await route_reports(city.escalation, [grave()])
    loop = DeliveryLoop(city.escalation, ChangedMeanwhile())
    await loop.step()
    await loop.drain()
    assert await to_chair(city) == [("accountable", OLD, "cancelled"), ("accountable", NEW, "queued")]


async def test_the_channel_of_an_exercise_is_nobodys_own(city: City) -> None:
    await route_reports(city.escalation, [received(exercise=True)])
    await changed(city, NEW)
    assert await to_chair(city) == [("accountable", "outbox://log", "queued")]


# --- a channel at last, or none any more ---


async def test_who_could_not_be_reached_is_told_as_soon_as_there_is_a_channel(city: City) -> None:
    await changed(city, None)
    await route_reports(city.escalation, [received()])
    assert "desk:unreachable" in await city.told()
    assert await to_chair(city) == []
    await changed(city, NEW)
    assert await to_chair(city) == [("accountable", NEW, "queued")]


async def test_of_several_rounds_only_the_present_one_asks(city: City) -> None:
    await changed(city, None)
    await route_reports(city.escalation, [received()])
    city.clock.set(NIGHT + timedelta(days=1))
    while await fire_due_timers(city.escalation):
        pass
    assert (await city.told()).count(f"{WHO}:still_open") == 1
    await changed(city, NEW)
    assert await to_chair(city) == [("still_open", NEW, "queued")]


async def test_that_somebody_who_is_still_to_be_told_has_no_channel_any_more_is_told_to_the_desk(city: City) -> None:
    await slight(city)
    await changed(city, None)
    assert await to_chair(city) == [("accountable", OLD, "cancelled")]
    assert "desk:unreachable" in await city.told()
    assert (await only(city, Notice, purpose="unreachable")).posts == [CHAIR]
    assert await events_without_their_cause(city) == []
    sequences = [e.data.sequence for e in await city.events(await city.incident())]
    assert sequences == list(range(1, len(sequences) + 1))


# --- what is settled is not told again ---


async def test_what_got_through_by_the_old_channel_is_not_repeated(city: City) -> None:
    await route_reports(city.escalation, [received()])
    await sent(city, Taking())
    await changed(city, NEW)
    assert await to_chair(city) == [("accountable", OLD, "sent")]


@pytest.mark.parametrize("over", ["acknowledged", "withdrawn", "ended"])
async def test_what_need_not_be_told_any_more_is_told_nowhere(city: City, over: str) -> None:
    await changed(city, None)
    await route_reports(city.escalation, [received()])
    if over == "acknowledged":
        await acknowledge(city.escalation, await city.incident(), Principal(WHO, "official", "14776", CHAIR))
    elif over == "withdrawn":
        await notices_are_withdrawn(city)
    else:
        await commands.dismiss(city.escalation, await city.incident(), DESK, "Báo nhầm")
    await changed(city, NEW)
    assert await to_chair(city) == []


async def test_a_dry_run_sends_nobody_anything(city: City) -> None:
    await slight(city)
    rows = [(0, ContactRow(holder_id=WHO, channel=NEW, sample=True))]
    await record(city.escalation, RequestedChanges(Tables(contacts=rows), 1), dry_run=True)
    assert await to_chair(city) == [("accountable", OLD, "queued")]


# --- beside others ---


async def test_a_change_beside_the_delivery_loop_and_new_reports_leaves_nothing_on_the_old_channel(city: City) -> None:
    for round_ in range(5):
        await city.emptied()
        city.clock.set(NIGHT)
        await route_reports(city.escalation, [received(occurred_at=NIGHT - n * timedelta(hours=2)) for n in range(3)])
        city.clock.set(NIGHT + MINUTE)
        loop = DeliveryLoop(city.escalation, Taking())
        more = [received(occurred_at=NIGHT - n * timedelta(hours=2), harm=Harm(deaths=n)) for n in range(2, 6)]
        work = [
            changed(city, NEW),
            loop.step(),
            *(route_all(city.escalation, [event]) for event in more),
            acknowledge(city.escalation, await first(city), Principal(WHO, "official", "14776", CHAIR)),
            fire_due_timers(city.escalation),
        ]
        await asyncio.gather(*(work if round_ % 2 else reversed(work)))
        await loop.drain()
        waiting = {(channel, state) for _, channel, state in await to_chair(city) if state in ("queued", "failed")}
        assert waiting <= {(NEW, "queued")}
        told = {d.notice_id for d in await stored(city, Delivery) if d.state != "cancelled"}
        asked = {n.notice_id for n in await stored(city, Notice, recipient=WHO, acknowledged_at=None)}
        assert asked <= told


async def first(city: City) -> str:
    return (await stored(city, Incident))[0].incident_id

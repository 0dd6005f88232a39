"""Somebody whom a decision names is not reached: the desk is asked to mend that, until they are, and then no longer."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

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
from shared.events import Harm, StepRaised
from shared.http.identity import Principal
from tests.integration.command_support import DESK
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.directory_changes import leave
from tests.integration.escalation_support import City, Template, events_without_their_cause, whole_city_in
from tests.integration.stored.looking import stored, waited_for
from tests.integration.stored.records import Delivery, Notice
from tests.support import CHAIR, NIGHT, received

WHO = "mau-14776-chu-tich"
THE_CHAIR = Principal(WHO, "official", "14776", CHAIR)
OLD, NEW, DEAD = f"outbox://{WHO}", "outbox://so-moi", "outbox://hong"
MINUTE = timedelta(minutes=1)


class Peers(Sender):
    """Channels that are `gone` refuse for good, those that are `away` for now; all others take what they get."""

    def __init__(self, *gone: str, away: tuple[str, ...] = ()) -> None:
        super().__init__(Path("unused"), TO_THIS_MACHINE)
        self.gone, self.away = gone, away
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def send(self, message: Message) -> SendOutcome:
        if self.meanwhile is not None and message.channel in (*self.gone, *self.away):
            await self.meanwhile()
        if message.channel in self.gone:
            raise DeliveryError("json: the channel is gone", final=True)
        if message.channel in self.away:
            raise DeliveryError("json: the channel did not take the notice")
        return "sent"


async def sent(city: City, sender: Sender) -> None:
    loop = DeliveryLoop(city.escalation, sender)
    while await loop.step() | await loop.drain():
        pass


async def changed(city: City, *channels: str | None) -> None:
    """All channels of the chair from now on; None for none."""
    row = {"holder_id": WHO, "sample": True}
    rows = [(n, ContactRow.model_validate(row | {"channel": url})) for n, url in enumerate(channels)]
    assert not (await record(city.escalation, RequestedChanges(Tables(contacts=rows), len(rows)))).errors


async def reported(city: City) -> None:
    """An officer saw it, so that nothing else waits for the desk."""
    await route_reports(city.escalation, [received(kind="officer", harm=Harm(deaths=3))])


async def lost(city: City) -> None:
    await reported(city)
    await sent(city, Peers(OLD))


async def desk_owes(city: City) -> list[tuple[str, tuple[str, ...]]]:
    found = (await waited_for(city)).values()
    return [(one.what, one.posts) for owed in found for one in owed if one.who == "desk"]


MEND = [("mend_lost_notice", (CHAIR,))]


async def asked(city: City) -> list[str]:
    """What the desk and the leadership were told, in order."""
    return [told for told in await city.told() if told.split(":")[0] in ("desk", "leadership")]


async def test_what_a_channel_refuses_for_good_is_a_task_of_the_desk_and_of_the_leadership_after_it(city: City) -> None:
    await lost(city)
    assert await asked(city) == ["desk:lost_notice"]
    assert await desk_owes(city) == MEND
    city.clock.set(NIGHT + 6 * MINUTE)
    await fire_due_timers(city.escalation)
    assert "leadership:lost_notice" in await asked(city)
    steps = [e.data for e in await city.events() if isinstance(e, StepRaised)]
    assert ("leadership", "not_reviewed", "lost_notice") in [(s.level, s.reason, s.task) for s in steps]
    assert await events_without_their_cause(city) == []


async def test_a_channel_that_works_ends_it_and_the_request_goes_there(city: City) -> None:
    await lost(city)
    await changed(city, NEW)
    assert await desk_owes(city) == []
    await sent(city, Peers(OLD))
    assert [(d.purpose, d.channel) for d in await stored(city, Delivery, recipient=WHO, state="sent")] == [
        ("accountable", NEW)
    ]
    city.clock.set(NIGHT + 4 * MINUTE)
    await fire_due_timers(city.escalation)
    assert await asked(city) == ["desk:lost_notice"]


async def test_a_channel_that_takes_nothing_either_begins_it_again(city: City) -> None:
    await lost(city)
    await changed(city, DEAD)
    await sent(city, Peers(DEAD))
    assert await asked(city) == ["desk:lost_notice"] * 2
    assert await desk_owes(city) == MEND


async def test_what_was_still_to_be_sent_to_the_desk_about_it_is_not_sent_once_it_is_mended(city: City) -> None:
    await changed(city, None)
    await reported(city)
    assert await desk_owes(city) == MEND
    await changed(city, NEW)
    assert await desk_owes(city) == []
    await sent(city, Peers())
    assert not [d for d in await stored(city, Delivery, recipient="desk") if d.state == "sent"]


async def test_a_contact_that_is_removed_added_and_removed_is_told_twice(city: City) -> None:
    await reported(city)
    for channel in (None, NEW, None):
        await changed(city, channel)
    assert await asked(city) == ["desk:unreachable"] * 2
    assert await desk_owes(city) == MEND


@pytest.mark.parametrize("how", ["acknowledged", "responded", "left", "ended"])
async def test_it_ends_with_what_made_it_matter(city: City, how: str) -> None:
    await lost(city)
    incident = await city.incident()
    if how == "acknowledged":
        await acknowledge(city.escalation, incident, THE_CHAIR)
    elif how == "responded":
        await commands.respond(city.escalation, incident, THE_CHAIR, "đã có mặt")
    elif how == "left":
        await leave(city, WHO, NIGHT)
        await fire_due_timers(city.escalation)
    else:
        await commands.dismiss(city.escalation, incident, DESK, "báo nhầm")
    assert "mend_lost_notice" not in [what for what, _ in await desk_owes(city)]
    unsent = [d for d in await stored(city, Delivery, recipient="desk", state="queued") if d.purpose == "lost_notice"]
    assert unsent == []


async def test_while_another_channel_may_still_take_it_nothing_is_lost(city: City) -> None:
    await changed(city, OLD, NEW)
    await reported(city)
    await sent(city, Peers(OLD, away=(NEW,)))
    assert await asked(city) == []
    city.clock.set(NIGHT + MINUTE)
    await sent(city, Peers(NEW))
    assert await asked(city) == ["desk:lost_notice"]


async def test_a_channel_that_is_taken_away_before_it_took_anything_leaves_the_one_that_refused(city: City) -> None:
    await changed(city, OLD, NEW)
    await reported(city)
    await sent(city, Peers(OLD, away=(NEW,)))
    await changed(city, OLD)
    assert await asked(city) == ["desk:lost_notice"]


async def test_a_channel_that_is_taken_away_while_it_fails_leaves_nobody_unreached_in_silence(city: City) -> None:
    await reported(city)
    peers = Peers(away=(OLD,))

    async def taken() -> None:
        peers.meanwhile = None
        await changed(city, None)

    peers.meanwhile = taken
    await sent(city, peers)
    assert await asked(city) == ["desk:lost_notice"]
    assert await desk_owes(city) == MEND


async def test_a_reminder_to_somebody_who_was_not_reached_is_no_news(city: City) -> None:
    await lost(city)
    city.clock.set(NIGHT + 4 * MINUTE)
    await fire_due_timers(city.escalation)
    assert f"{WHO}:reminder" in await city.told()
    await sent(city, Peers(OLD))
    assert await asked(city) == ["desk:lost_notice"]


async def test_each_round_brings_the_request_anew_and_asks_the_desk_anew(city: City) -> None:
    await lost(city)
    city.clock.set(NIGHT + timedelta(hours=2))
    while await fire_due_timers(city.escalation):
        pass
    await sent(city, Peers(OLD))
    rounds = {n.round for n in await stored(city, Notice, recipient="desk", purpose="lost_notice")}
    assert len(rounds) > 1
    assert MEND[0] in await desk_owes(city)


async def test_the_desk_sees_it_in_every_list_and_mends_it_by_the_directory(template: Template) -> None:
    async with whole_city_in(template) as city:

        async def reached_at(channel: str | None) -> None:
            body = {"rows": [{"holder_id": WHO, "channel": channel, "sample": True}]}
            path = "/escalation/v1/directory/contacts"
            answer = await city.client.put(path, headers=city.bearer("admin"), json=body)
            assert answer.status_code == 200, answer.text

        await reached_at(None)
        await route_reports(city.escalation, [received(kind="officer", harm=Harm(deaths=3))])
        await city.settle()

        async def listed(path: str, **params: Any) -> list[list[tuple[str, str]]]:
            answer = await city.get(path, "desk", params=params)
            return [[(o["who"], o["what"]) for o in item["waits_for"]] for item in answer.json()["items"]]

        mine = ("desk", "mend_lost_notice")
        for path, params in (
            ("/escalation/v1/incidents", {}),
            ("/escalation/v1/incidents", {"waits_for": "desk"}),
            ("/escalation/v1/handover", {}),
        ):
            (owed,) = await listed(path, **params)
            assert mine in owed, (path, params)
        await reached_at(NEW)
        await city.settle()
        assert await listed("/escalation/v1/handover") == []
        assert WHO in {line["recipient"] for line in city.sent}

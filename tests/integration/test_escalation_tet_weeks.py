"""Simulated Tết weeks: random reports, answers, commands, changing holders, late entries and outages, an hour at a
time. Whatever happens, nothing is forgotten, nobody is named or told outside their tenure, and replay equals."""

import csv
import io
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge, acknowledge_by_link
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.import_directory import import_directory
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices.message import Message
from services.escalation.sending.channels import Sender, SendOutcome
from services.escalation.sending.delivery_loop import DeliveryLoop
from services.intake.domain.wards import Unit
from shared.clock import local
from shared.events import Firecracker, Harm, ReportReceived, UnitRef
from shared.http.identity import Principal
from shared.http.problem import Problem
from tests.integration.escalation_support import City, decisions_that_differ_when_computed_again
from tests.integration.stored.looking import stored, told_outside_their_tenure
from tests.integration.stored.records import ASKING, Decision, DueTime, Event, Incident, Notice, Report, Tenure
from tests.support import CHAIR, SECRETARY, at, received, wards

STEP = timedelta(hours=1)
WEEK = at("2023-01-19 00:00"), at("2023-01-26 00:00")
GIAO_THUA = at("2023-01-21 23:30"), at("2023-01-22 00:30")
DESK = Principal("truc-ban-1", "desk")
LEADER = Principal("lanh-dao-1", "leader")
CATEGORIES = ("FIRECRACKER_SET_OFF", "FIRECRACKER_SET_OFF", "FIRE", "EXPLOSION", "TRAFFIC_ACCIDENT", "VIOLENT_CRIME")
FULL = [pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 10)]


class Recorder(Sender):
    """Takes every message, or none while it is `broken`."""

    def __init__(self, city: City) -> None:
        super().__init__(Path("/dev/null"))
        self._city, self.sent = city, list[tuple[str, datetime]]()
        self.broken = False

    async def send(self, message: Message) -> SendOutcome:
        if self.broken:
            raise ConnectionError("the channel is away")
        self.sent += [(d.notice_id, self._city.clock.now()) for d in message.deliveries]
        return "sent"


@dataclass
class Week:
    city: City
    random: random.Random
    recorder: Recorder
    loop: DeliveryLoop
    places: list[Unit]
    waiting: list[ReportReceived] = field(default_factory=list[ReportReceived])

    async def live(self) -> None:
        now, end = WEEK
        outages = [now + timedelta(hours=self.random.randint(10, 140)) for _ in range(2)]
        back = now
        while now < end:
            self.city.clock.set(now)
            self.waiting += self._reports(now)
            if outages and now >= min(outages):
                outages.remove(min(outages))
                back = now + timedelta(hours=self.random.choice((3, 12, 40)))
            if now >= back:
                await self._work()
            now += STEP
        self.city.clock.set(max(end, back))
        self.recorder.broken = False
        await self._work()

    async def _work(self) -> None:
        batch, self.waiting = self.waiting, []
        for start in range(0, len(batch), 20):
            await route_reports(self.city.escalation, batch[start : start + 20])
        self.recorder.broken = self.random.random() < 0.05
        for _ in range(3):
            while await fire_due_timers(self.city.escalation):
                pass
            more = await self.loop.step()
            if not (await self.loop.drain() or more):
                break
        await self._people()
        if self.random.random() < 0.06:
            await self._directory()

    def _reports(self, now: datetime) -> list[ReportReceived]:
        chance = 12.0 if GIAO_THUA[0] <= now <= GIAO_THUA[1] else 0.5
        return [self._report(now) for _ in range(int(self.random.expovariate(1 / chance)))]

    def _report(self, now: datetime) -> ReportReceived:
        pick, place = self.random.choice, self.random.choice(self.places)
        category = pick(CATEGORIES)
        kind = pick(("officer", "device", "desk"))
        known = Harm(deaths=pick((0, 0, 1, 3)), injured=0, property_vnd=pick((0, 10**8)))
        sounds = Firecracker(explosion_sound=pick((True, False)), licensed=pick((None, True, False)))
        happened = now - timedelta(minutes=self.random.randint(0, 20))
        return received(
            category,
            unit=UnitRef(code=place.code, valid_from=place.valid_from, name=place.name),
            occurred_at=happened - pick((timedelta(0), timedelta(0), timedelta(days=2))),
            received_at=happened,
            kind=kind,
            subject=f"{kind}-{self.random.randint(1, 4)}",
            harm=pick((None, known)),
            firecracker=pick((None, sounds)) if category.startswith("FIRECRACKER") else None,
            exercise=self.random.random() < 0.05,
        )

    async def _people(self) -> None:
        """Some answer, some do not; the desk works through its list."""
        incidents = await stored(self.city, Incident)
        still_open = {i.incident_id for i in incidents if i.state not in FINAL}
        unanswered = [n for n in await stored(self.city, Notice, acknowledged_at=None) if n.incident_id in still_open]
        unanswered.sort(key=lambda notice: notice.notice_id)
        for notice in self.random.sample(unanswered, min(len(unanswered), 4)):
            await self._answer(notice)
        for incident in self.random.sample(incidents, min(len(incidents), 3)):
            await self._command(incident.incident_id, incident.unit_code)

    async def _answer(self, notice: Notice) -> None:
        if notice.recipient in OFFICES:
            office = DESK if notice.recipient == "desk" else LEADER
            await acknowledge(self.city.escalation, notice.incident_id, office)
        else:
            await acknowledge_by_link(self.city.escalation, notice.notice_id, notice.recipient)

    async def _command(self, incident: str, ward: str) -> None:
        """One of them, allowed or not: what is not is refused, never half done."""
        core, why, pick = self.city.escalation, "vì sao (mẫu)", self.random.choice
        chair = Principal("mau-ai-do", "official", ward, CHAIR)
        harm = Harm(deaths=pick((0, 1, 2)), injured=0, property_vnd=0)
        others = [i for i in await stored(self.city, Incident, unit_code=ward) if i.incident_id != incident]
        reports = await stored(self.city, Report, incident_id=incident)
        choices: list[Callable[[], Awaitable[Any]]] = [
            lambda: commands.verify(core, incident, DESK, why, firecrackers_exploded=pick((None, True, False))),
            lambda: commands.verify(core, incident, chair, why),
            lambda: commands.dismiss(core, incident, DESK, why),
            lambda: commands.designate(core, incident, DESK, why, prominent=pick((True, False))),
            lambda: commands.revise(core, incident, DESK, why, harm),
            lambda: commands.revise(core, incident, chair, why, harm),
            lambda: commands.respond(core, incident, chair, why),
            lambda: commands.propose_closure(core, incident, chair, why),
            lambda: commands.hand_off(core, incident, DESK, why),
            lambda: commands.reopen(core, incident, DESK, why),
            *[lambda: commands.close(core, incident, DESK, why)] * 6,
        ]
        if others:
            choices.append(lambda: commands.merge(core, incident, DESK, why, pick(others).incident_id))
        if len(reports) > 1:
            choices.append(lambda: commands.split(core, incident, DESK, why, [reports[-1].report_id]))
        try:
            await pick(choices)()
        except Problem as refused:
            assert refused.status in {403, 409}, refused

    async def _directory(self) -> None:
        """A post changes hands, from tomorrow or, entered late, since days ago; or somebody stands in for a while."""
        place, pick = self.random.choice(self.places), self.random.choice
        today = local(self.city.clock.now()).date()
        since = today + timedelta(days=pick((1, 2, -3, -1, 0)))
        row: dict[str, Any] = {
            "unit_code": place.code,
            "unit_valid_from": place.valid_from,
            "post": pick((CHAIR, SECRETARY)),
            "holder_id": f"mau-moi-{self.random.randint(1, 9)}",
            "holder_name": "(mẫu)",
            "acting": "false",
            "valid_from": since,
            "valid_to": pick(("", since + timedelta(days=2))),
            "document": "QĐ mẫu số 9",
            "channel": "outbox://mau-moi",
            "sample": "true",
            "capacity": "holder",
            "reason": "",
        }
        if self.random.random() < 0.4:
            row |= {"capacity": "deputy", "reason": "nghỉ phép", "valid_to": since + timedelta(days=2)}
        text = io.StringIO()
        writer = csv.DictWriter(text, row)
        writer.writeheader()
        writer.writerow(row)
        imported = await import_directory(self.city.escalation, text.getvalue().encode())
        assert not imported.errors, imported.errors


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [2023, *FULL])
async def test_a_tet_week_forgets_nothing_and_names_nobody_wrongly(city: City, seed: int) -> None:
    recorder = Recorder(city)
    week = Week(city, random.Random(seed), recorder, DeliveryLoop(city.escalation, recorder), wards()[:8])
    await week.live()
    assert len(await stored(city, Incident)) > 10, "a week in which something happens"
    assert recorder.sent
    await each_incident_ended_or_has_something_due(city)
    await nobody_is_named_outside_their_tenure(city)
    await nothing_is_sent_after_it_was_acknowledged(city, recorder)
    await events_are_numbered_without_a_gap(city)
    assert not await decisions_that_differ_when_computed_again(city)


async def each_incident_ended_or_has_something_due(city: City) -> None:
    pending = await stored(city, DueTime, state="pending")
    watched = {due.incident_id for due in pending if due.kind != "directory"}
    forgotten = [i for i in await stored(city, Incident) if (i.state not in FINAL) != (i.incident_id in watched)]
    assert not forgotten, "open without a due time, or ended with one"
    assert not [due for due in pending if due.due_at <= city.clock.now() - STEP]


async def nobody_is_named_outside_their_tenure(city: City) -> None:
    """Asked of the tenures by itself, not of the code that picked them."""
    tenures = await stored(city, Tenure)

    def holds(holder: str, post: str, when: datetime, known_at: datetime) -> bool:
        theirs = (t for t in tenures if (t.holder_id, t.post) == (holder, post))
        return any(tenure.covers(when, known_at) for tenure in theirs)

    for decision in await stored(city, Decision):
        occurred_at = datetime.fromisoformat(decision.said["time_of_occurrence"])
        for party in decision.said["parties"]:
            for place, when in (("accountable", occurred_at), ("present", decision.made_at)):
                if place in party:
                    named = party[place]["holder_id"]
                    assert holds(named, party["post"], when, decision.made_at), f"{place} without a tenure"
    assert not await told_outside_their_tenure(city), "told without a tenure"


async def nothing_is_sent_after_it_was_acknowledged(city: City, recorder: Recorder) -> None:
    notices = await stored(city, Notice)
    acknowledged = {n.notice_id: n.acknowledged_at for n in notices if n.acknowledged_at is not None}
    late = [(id_, sent) for id_, sent in recorder.sent if id_ in acknowledged and acknowledged[id_] < sent]
    assert not late
    again = [
        (later.recipient, later.purpose)
        for earlier in notices
        for later in notices
        if (later.incident_id, later.recipient, later.round) == (earlier.incident_id, earlier.recipient, earlier.round)
        and (earlier.purpose in ASKING and later.purpose in ASKING | {"reminder"})
        and (earlier.acknowledged_at is not None and later.issued_at > earlier.acknowledged_at)
    ]
    assert not again, "asked again in the round in which they had answered"


async def events_are_numbered_without_a_gap(city: City) -> None:
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in sorted(await stored(city, Event), key=lambda e: e.position):
        if event.incident_id is not None:
            numbers[event.incident_id].append(event.data["sequence"])
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())

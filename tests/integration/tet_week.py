"""A simulated Tết week: what people, devices, clocks and channels do, an hour or so at a time.

Reports come, some late and some about what has ended; people answer or do not; the desk works, or is silent; posts
change hands or fall vacant, a ward is divided, channels are lost and found; the clock is set back, and the service is
away.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from services.escalation.application import commands
from services.escalation.application.acknowledge import acknowledge, acknowledge_by_link
from services.escalation.application.begin_shifts import begin_shifts
from services.escalation.application.fire_timers import fire_due_timers
from services.escalation.application.follow_clock import follow_clock
from services.escalation.application.route_reports import route_reports
from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.incidents.lifecycle import FINAL
from services.escalation.domain.notices.message import Message
from services.escalation.domain.notices.shift import SHIFT
from services.escalation.sending.channels import DeliveryError, Sender, SendOutcome
from services.escalation.sending.delivery_loop import DeliveryLoop
from services.escalation.store.signed_links import linked
from services.intake.domain.wards import Unit
from shared.clock import local
from shared.events import Firecracker, Harm, ReportReceived, UnitRef
from shared.http.identity import Principal, Role
from shared.http.problem import Problem
from tests.integration.delivery_peers import TO_THIS_MACHINE
from tests.integration.escalation_support import City
from tests.integration.stored.looking import issued_since, stored
from tests.integration.stored.records import Incident, Notice, Report
from tests.integration.tet_directory import DEAD, ChangingDirectory
from tests.integration.tet_rules import (
    Said,
    Watch,
    World,
    each_open_incident_waits_for_somebody,
    nobody_is_asked_again_in_the_round_in_which_they_answered,
    nobody_is_told_what_is_not_true_at_that_moment,
    when_a_due_time_passes_somebody_who_can_act_is_told,
    whoever_comes_on_duty_is_told_what_waits_now,
    whoever_is_waited_for_can_act,
)
from tests.support import CHAIR, at, received

BEGIN, MUNG_MOT, END = at("2023-01-19 00:00"), at("2023-01-22 12:00"), at("2023-01-26 00:00")
"""Of the week; by the noon of mùng 1 half of it has passed."""
GIAO_THUA = at("2023-01-21 23:30"), at("2023-01-22 00:30")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DESK = Principal("truc-ban-1", "desk")
LEADER = Principal("lanh-dao-1", "leader")
CATEGORIES = ("FIRECRACKER_SET_OFF", "FIRECRACKER_SET_OFF", "FIRE", "EXPLOSION", "TRAFFIC_ACCIDENT", "VIOLENT_CRIME")
WHY = "vì sao (mẫu)"


class Recorder(Sender):
    """Takes every message, or none while it is `broken`."""

    def __init__(self, city: City) -> None:
        super().__init__(Path("/dev/null"), TO_THIS_MACHINE)
        self._city, self.said = city, list[Said]()
        self.broken = False
        self.gate: asyncio.Event | None = None
        """While it is closed messages are under way; then the channel turns out to be away."""

    async def send(self, message: Message) -> SendOutcome:
        self.said.append(Said.by(message, self._city.clock.now()))
        if self.gate is not None:
            await self.gate.wait()
            raise ConnectionError("the channel went away")
        if message.channel.startswith(DEAD):
            raise DeliveryError("outbox: no such number", final=True)
        if self.broken:
            raise ConnectionError("the channel is away")
        return "sent"


@dataclass
class Week:
    city: City
    random: random.Random
    places: list[Unit]
    end: datetime = END
    waiting: list[ReportReceived] = field(default_factory=list[ReportReceived])
    silent: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """Until when an office, or a ward by its code, does not answer."""
    told: dict[str, int] = field(default_factory=dict[str, int])
    """How often which purpose."""

    def __post_init__(self) -> None:
        self.core, self.recorder = self.city.escalation, Recorder(self.city)
        self.loop = DeliveryLoop(self.core, self.recorder)
        self.watch = Watch(self.city, BEGIN)
        self.directory = ChangingDirectory(self.city, self.random, self.places)
        self.world: World | None = None

    @property
    def now(self) -> datetime:
        return self.city.clock.now()

    def happens(self, chance: float) -> bool:
        return self.random.random() < chance

    async def live(self) -> None:
        now, end = BEGIN, self.end
        hours = (end - now) // HOUR
        outages = [now + self.random.randint(10, hours - 20) * HOUR for _ in range(2)]
        back, was_away = now, True
        while now < end:
            self.city.clock.set(now)
            self.waiting += await self._reports()
            if outages and now >= min(outages):
                outages.remove(min(outages))
                back = now + self.random.choice((3, 12, 40)) * HOUR
            if now >= back:
                await self._work(was_away=was_away)
            was_away = now < back
            now += self.random.choice((20, 60, 60, 100)) * MINUTE
            if self.happens(0.03) and local(now).hour >= 4:
                now -= self.random.choice((1, 2, 4)) * HOUR  # somebody sets the clock back, to the same day
        self.city.clock.set(max(end, back))
        await self._work(was_away=was_away)

    async def _work(self, *, was_away: bool) -> None:
        """What the loops of the service do, and then people."""
        await follow_clock(self.core, always=was_away)
        passed = await self.watch.look()
        each_open_incident_waits_for_somebody(passed)
        batch, self.waiting = self.waiting, []
        for start in range(0, len(batch), 20):
            await route_reports(self.core, batch[start : start + 20])
        self.recorder.broken = self.happens(0.05)
        await self._fire()
        new = self.watch.new
        world = self.world = await self.watch.look()
        new = [*new, *self.watch.new]
        each_open_incident_waits_for_somebody(world)
        whoever_is_waited_for_can_act(world)
        when_a_due_time_passes_somebody_who_can_act_is_told(passed, world, new)
        nobody_is_asked_again_in_the_round_in_which_they_answered(world.answered.values(), new)
        if await begin_shifts(self.core):
            began = [n for n in await issued_since(self.city, world.now) if n.purpose == SHIFT]
            whoever_comes_on_duty_is_told_what_waits_now(began, world)
        self.recorder.gate = asyncio.Event() if self.happens(0.08) else None
        await self._send()
        await self._people(world)
        await self._heard(world)
        if self.happens(0.12):
            self.watch.directory = None
            await self.directory.change(world)

    async def _fire(self) -> None:
        while await fire_due_timers(self.core):
            pass

    async def _send(self) -> None:
        """What is held at the gate is under way while people act."""
        self.recorder.said.clear()
        for _ in range(3):
            more = await self.loop.step()
            if self.recorder.gate is not None or not (await self.loop.drain() or more):
                break

    async def _heard(self, world: World) -> None:
        """`world`: as it was when the messages were sent."""
        if self.recorder.gate is not None:
            self.recorder.gate.set()
            await self.loop.drain()
        for said in self.recorder.said:
            nobody_is_told_what_is_not_true_at_that_moment(said, world)
            for due in said.message.deliveries:
                self.told[due.purpose] = self.told.get(due.purpose, 0) + 1

    # --- reports ---

    async def _reports(self) -> list[ReportReceived]:
        chance = 12.0 if GIAO_THUA[0] <= self.now <= GIAO_THUA[1] else 0.5
        new = [self._report() for _ in range(int(self.random.expovariate(1 / chance)))]
        known = list(self.world.incidents.values()) if self.world else []
        again = [self._again(self.random.choice(known)) for _ in range(2) if known and self.happens(0.2)]
        return [*new, *again]

    def _report(self) -> ReportReceived:
        pick = self.random.choice
        happened = self.now - self.random.randint(0, 20) * MINUTE
        occurred_at = happened - pick((timedelta(0), timedelta(0), 2 * DAY))
        return self._received(
            pick(CATEGORIES), self.directory.unit(pick(self.places), occurred_at), occurred_at, happened
        )

    def _again(self, incident: Incident) -> ReportReceived:
        """Of something that is known, or has ended; it may have been received before others that are known."""
        pick = self.random.choice
        occurred_at = incident.occurred_at + pick((0, 0, 10, 25)) * MINUTE
        received_at = max(min(self.now, occurred_at), self.now - pick((0, 0, 30, 600)) * MINUTE)
        unit = UnitRef(code=incident.unit_code, valid_from=incident.unit_valid_from, name=incident.unit_name)
        return self._received(incident.category, unit, occurred_at, received_at, incident.exercise)

    def _received(
        self, category: str, unit: UnitRef, occurred_at: datetime, received_at: datetime, exercise: bool | None = None
    ) -> ReportReceived:
        pick = self.random.choice
        kind = pick(("officer", "device", "desk"))
        known = Harm(deaths=pick((0, 0, 1, 3)), injured=0, property_vnd=pick((0, 10**8)))
        sounds = Firecracker(explosion_sound=pick((True, False)), licensed=pick((None, True, False)))
        return received(
            category,
            unit=unit,
            occurred_at=occurred_at,
            received_at=received_at,
            kind=kind,
            subject=f"{kind}-{self.random.randint(1, 4)}",
            harm=pick((None, known)),
            firecracker=pick((None, sounds)) if category.startswith("FIRECRACKER") else None,
            exercise=self.happens(0.05) if exercise is None else exercise,
        )

    # --- people ---

    async def _people(self, world: World) -> None:
        """Some answer, some do not; the desk works through its list, unless it is silent."""
        for office in (*OFFICES, self.random.choice(self.places).code):
            if self.happens(0.02):
                self.silent[office] = self.now + self.random.choice((12, 30, 60)) * HOUR
        still_open = {i.incident_id for i in world.incidents.values() if i.state not in FINAL}
        unanswered = [n for n in await stored(self.city, Notice, acknowledged_at=None) if n.incident_id in still_open]
        unanswered.sort(key=lambda notice: notice.notice_id)
        for notice in self.random.sample(unanswered, min(len(unanswered), 4)):
            await self._answer(notice, world.incidents[notice.incident_id])
        incidents = sorted(world.incidents.values(), key=lambda i: i.incident_id)
        for incident in self.random.sample(incidents, min(len(incidents), 3)):
            await self._command(incident, world)
        if still_open:
            await self._accused_tries(world.incidents[self.random.choice(sorted(still_open))], world)
        await self.watch.see_who_answered()

    def _is_silent(self, who: str) -> bool:
        return self.now < self.silent.get(who, BEGIN)

    async def _answer(self, notice: Notice, incident: Incident) -> None:
        """By the button of the link's page, which shows only what still holds; an office by its token."""
        office = notice.recipient in OFFICES
        if self._is_silent(notice.recipient if office else incident.unit_code):
            return
        async with self.city.reading.connect() as connection:
            shown = await linked(connection, notice.notice_id)
        if not (shown and shown.holds):
            return
        if office and self.happens(0.5):
            await acknowledge(self.core, notice.incident_id, DESK if notice.recipient == "desk" else LEADER)
        else:
            await acknowledge_by_link(self.core, notice.notice_id, notice.recipient)

    async def _command(self, incident: Incident, world: World) -> None:
        """One of them, allowed or not: what is not is refused, never half done."""
        core, id_, pick = self.core, incident.incident_id, self.random.choice
        ward = self._holder(incident, world)
        by = DESK if self.happens(0.7) else ward
        if self._is_silent("desk" if by is DESK else incident.unit_code):
            return
        harm = Harm(deaths=pick((0, 1, 2, 3)), injured=0, property_vnd=0)
        others = [i for i in world.incidents.values() if i.unit_code == incident.unit_code and i != incident]
        reports = await stored(self.city, Report, incident_id=id_)
        choices: list[Callable[[], Awaitable[Any]]] = [
            lambda: commands.verify(core, id_, by, WHY, firecrackers_exploded=pick((None, True, False))),
            lambda: commands.verify(core, id_, by, WHY),
            lambda: commands.dismiss(core, id_, by, WHY),
            lambda: commands.designate(core, id_, by, WHY, prominent=pick((True, False))),
            *[lambda: commands.revise(core, id_, by, WHY, harm)] * 2,
            lambda: commands.respond(core, id_, by, WHY),
            *[lambda: commands.propose_closure(core, id_, ward, WHY)] * 2,
            lambda: commands.escalate(core, id_, by, WHY),
            lambda: commands.hand_off(core, id_, by, WHY),
            lambda: commands.reopen(core, id_, by, WHY),
            *[lambda: commands.correct(core, id_, by, WHY, **self._correction(incident))] * 2,
            *[lambda: commands.close(core, id_, by, WHY)] * 6,
        ]
        if others:
            choices.append(lambda: commands.merge(core, id_, by, WHY, pick(others).incident_id))
        if len(reports) > 1:
            choices.append(lambda: commands.split(core, id_, by, WHY, [reports[-1].report_id]))
        if incident.unit_code in self.directory.parts:
            part = pick(self.directory.parts[incident.unit_code][1])
            choices += [lambda: commands.reassign(core, id_, by, WHY, (part.code, part.valid_from))] * 8
        try:
            await pick(choices)()
        except Problem as refused:
            assert refused.status in {403, 409, 422}, refused

    def _holder(self, incident: Incident, world: World) -> Principal:
        """Somebody with a post of the ward that acts, or who says so."""
        code, day = incident.acting_unit
        of_unit = (t for t in world.directory.tenures if (t.unit_code, t.unit_valid_from) == (code, day))
        there = [t for t in of_unit if world.holds(t.holder_id, t.post, (code, day))]
        if not there or self.happens(0.1):
            return Principal("mau-ai-do", "official", code, CHAIR)
        tenure = self.random.choice(there)
        return Principal(tenure.holder_id, "official", code, tenure.post)

    def _correction(self, incident: Incident) -> dict[str, Any]:
        """Of the time, the ward, or whether it was an exercise."""
        pick = self.random.choice
        unit = self.directory.unit(pick(self.places), incident.occurred_at)
        wrong: Sequence[dict[str, Any]] = (
            {"occurred_at": incident.occurred_at - pick((0, 10, 90, 1500)) * MINUTE},
            {"unit": (unit.code, unit.valid_from)},
            {"exercise": not incident.exercise},
        )
        return pick(wrong)

    async def _accused_tries(self, incident: Incident, world: World) -> None:
        """Whoever the decision names comes with a token of the desk or of the leadership, and is refused."""
        core, id_, named = self.core, incident.incident_id, sorted(world.decisions[incident.incident_id].named)
        if not named:
            return
        role: Role = self.random.choice(("desk", "leader"))
        who = Principal(self.random.choice(named), role)
        harm = Harm(deaths=0, injured=0, property_vnd=0)
        tries: list[Callable[[], Awaitable[Any]]] = [
            *[lambda: acknowledge(core, id_, who)] * 6,
            lambda: commands.verify(core, id_, who, WHY, firecrackers_exploded=False),
            lambda: commands.dismiss(core, id_, who, WHY),
            lambda: commands.revise(core, id_, who, WHY, harm),
            lambda: commands.close(core, id_, who, WHY),
            lambda: commands.correct(core, id_, who, WHY, exercise=True),
            lambda: commands.escalate(core, id_, who, WHY),
        ]
        # the decision that names them may have changed since, by a command of this hour
        before = len(await self.city.events(id_))
        try:
            await self.random.choice(tries)()
        except Problem as refused:
            assert refused.status in {403, 404, 409}, refused
            assert len(await self.city.events(id_)) == before, "what is refused leaves no trace"

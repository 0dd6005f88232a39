"""Simulated Tết weeks: random reports, answers, commands, changing holders, late entries and outages, an hour at a
time. Whatever happens, nothing is forgotten, nobody is named or told outside their tenure, and replay equals."""

import csv
import io
import random
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
from services.escalation.domain.notices.message import Message
from services.escalation.sending.channels import Sender, SendOutcome
from services.escalation.sending.delivery_loop import DeliveryLoop
from services.intake.domain.wards import Unit
from shared.clock import local
from shared.events import Firecracker, Harm, ReportReceived, UnitRef
from shared.http.identity import Principal
from shared.http.problem import Problem
from tests.integration.escalation_support import City, decisions_that_differ_when_computed_again
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
        open_notices = await self.city.rows(
            "SELECT n.notice_id, n.recipient, n.incident_id FROM escalation.notice n"
            " JOIN escalation.incident i USING (incident_id) WHERE n.acknowledged_at IS NULL"
            " AND i.state NOT IN ('closed', 'dismissed', 'merged', 'handed_off') ORDER BY n.notice_id"
        )
        for row in self.random.sample(open_notices, min(len(open_notices), 4)):
            await self._answer(row)
        incidents = await self.city.rows("SELECT incident_id, unit_code FROM escalation.incident ORDER BY incident_id")
        for row in self.random.sample(incidents, min(len(incidents), 3)):
            await self._command(row.incident_id, row.unit_code)

    async def _answer(self, row: Any) -> None:
        if row.recipient in {"desk", "leadership"}:
            await acknowledge(self.city.escalation, row.incident_id, DESK if row.recipient == "desk" else LEADER)
        else:
            await acknowledge_by_link(self.city.escalation, row.notice_id, row.recipient)

    async def _command(self, incident: str, ward: str) -> None:
        """One of them, allowed or not: what is not is refused, never half done."""
        core, why, pick = self.city.escalation, "vì sao (mẫu)", self.random.choice
        chair = Principal("mau-ai-do", "official", ward, CHAIR)
        harm = Harm(deaths=pick((0, 1, 2)), injured=0, property_vnd=0)
        others = await self.city.rows(
            "SELECT incident_id FROM escalation.incident WHERE unit_code = :ward AND incident_id <> :this ORDER BY 1",
            ward=ward,
            this=incident,
        )
        reports = await self.city.rows(
            "SELECT report_id FROM escalation.report WHERE incident_id = :this ORDER BY position", this=incident
        )
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
    assert await city.one("SELECT count(*) FROM escalation.incident") > 10, "a week in which something happens"
    assert recorder.sent
    await each_incident_ended_or_has_something_due(city)
    await nobody_is_named_outside_their_tenure(city)
    await nothing_is_sent_after_it_was_acknowledged(city, recorder)
    await events_are_numbered_without_a_gap(city)
    assert not await decisions_that_differ_when_computed_again(city)


async def each_incident_ended_or_has_something_due(city: City) -> None:
    forgotten = await city.rows(
        "SELECT incident_id, state, outcome FROM escalation.incident i"
        " WHERE (state NOT IN ('closed', 'dismissed', 'merged', 'handed_off')) <> EXISTS"
        " (SELECT 1 FROM escalation.deadline d WHERE d.incident_id = i.incident_id AND d.state = 'pending'"
        "  AND d.kind <> 'directory')"
    )
    assert not forgotten, "open without a due time, or ended with one"
    late = await city.rows(
        "SELECT * FROM escalation.deadline WHERE state = 'pending' AND due_at <= :now", now=city.clock.now() - STEP
    )
    assert not late


async def nobody_is_named_outside_their_tenure(city: City) -> None:
    """Asked of the tenures by itself, not of the code that picked them."""
    held = (
        "EXISTS (SELECT 1 FROM escalation.tenure t WHERE t.holder_id = {who} AND t.post = {post}"
        " AND t.valid_from <= {at} AND ({at} < t.valid_to OR t.valid_to IS NULL)"
        " AND t.recorded_at <= {known} AND ({known} < t.superseded_at OR t.superseded_at IS NULL))"
    )
    parties = (
        "(SELECT decision_id, made_at, convert_from(record, 'UTF8')::jsonb AS record FROM escalation.decision) d,"
        " jsonb_array_elements(record -> 'parties') AS p"
    )
    for place, when in (("accountable", "(record ->> 'time_of_occurrence')::timestamptz"), ("present", "made_at")):
        names = held.format(who=f"p -> '{place}' ->> 'holder_id'", post="p ->> 'post'", at=when, known="made_at")
        wrong = await city.rows(f"SELECT decision_id, p FROM {parties} WHERE p ? '{place}' AND NOT {names}")
        assert not wrong, f"{place} without a tenure"
    told = held.format(who="n.recipient", post="post", at="n.issued_at", known="n.issued_at")
    wrong = await city.rows(
        "SELECT n.recipient, n.purpose, post FROM escalation.notice n, unnest(n.posts) AS post"
        f" WHERE n.recipient NOT IN ('desk', 'leadership') AND NOT {told}"
    )
    assert not wrong, "told without a tenure"


async def nothing_is_sent_after_it_was_acknowledged(city: City, recorder: Recorder) -> None:
    rows = await city.rows("SELECT * FROM escalation.notice WHERE acknowledged_at IS NOT NULL")
    acknowledged = {row.notice_id: row.acknowledged_at for row in rows}
    late = [(id_, sent) for id_, sent in recorder.sent if id_ in acknowledged and acknowledged[id_] < sent]
    assert not late
    again = await city.rows(
        "SELECT later.recipient, later.purpose FROM escalation.notice earlier JOIN escalation.notice later"
        " USING (incident_id, recipient, round) WHERE later.issued_at > earlier.acknowledged_at"
        " AND earlier.purpose IN ('accountable', 'still_open')"
        " AND later.purpose IN ('accountable', 'still_open', 'reminder')"
    )
    assert not again, "asked again in the round in which they had answered"


async def events_are_numbered_without_a_gap(city: City) -> None:
    gaps = await city.rows(
        "SELECT incident_id FROM (SELECT incident_id, (convert_from(body, 'UTF8')::jsonb #>> '{data,sequence}')::int"
        " AS number, row_number() OVER (PARTITION BY incident_id ORDER BY position) AS place FROM escalation.timeline"
        " WHERE incident_id IS NOT NULL) e WHERE number <> place"
    )
    assert not gaps

"""Changes of the directory in a simulated Tết week, by the use case that files and routes come to."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

from services.escalation.application.record_directory import record
from services.escalation.domain.directory.model import UnitKey
from services.escalation.domain.directory.schemas import (
    ContactRow,
    RequestedChanges,
    RosterRow,
    Tables,
    TenureRow,
    UnitRow,
)
from services.intake.domain.wards import Unit
from shared.clock import local
from shared.events import UnitRef
from tests.integration.escalation_support import City
from tests.integration.tet_rules import World
from tests.support import CHAIR, SECRETARY

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DEAD = "outbox://hong"
"""Channels that begin so never take anything."""


@dataclass
class ChangingDirectory:
    city: City
    random: random.Random
    places: list[Unit]
    parts: dict[str, tuple[date, list[Unit]]] = field(default_factory=dict[str, tuple[date, list[Unit]]])
    """By the code of a ward that was divided: since when, and into which."""
    people: int = 0

    @property
    def now(self) -> datetime:
        return self.city.clock.now()

    def happens(self, chance: float) -> bool:
        return self.random.random() < chance

    def unit(self, place: Unit, occurred_at: datetime) -> UnitRef:
        """In force at that time."""
        day, parts = self.parts.get(place.code, (date.max, []))
        unit = self.random.choice(parts) if local(occurred_at).date() >= day else place
        return UnitRef(code=unit.code, valid_from=unit.valid_from, name=unit.name)

    async def change(self, world: World) -> None:
        """One change. From tomorrow or, entered late, since days ago."""
        place = self.random.choice(self.places)
        if place.code in self.parts:
            place = self.random.choice(self.parts[place.code][1])
        changes: list[Callable[[Unit, World], Tables]] = [
            self._hands,
            self._hands,
            self._vacancies,
            self._vacancies,
            self._contacts,
            self._contacts,
            self._duty,
        ]
        if len(self.parts) < 2 and place in self.places:
            changes.append(self._division)
        wanted = self.random.choice(changes)(place, world)
        if len(wanted):
            imported = await record(self.city.escalation, RequestedChanges(wanted, len(wanted)))
            assert not imported.errors, imported.errors

    def _somebody(self) -> str:
        self.people += 1
        return f"mau-moi-{self.people % 12}"

    def _tenure(self, unit: UnitKey, post: str, holder: str, since: date, until: date | None, **more: Any) -> TenureRow:
        row: dict[str, Any] = {
            "unit_code": unit[0],
            "unit_valid_from": unit[1],
            "post": post,
            "holder_id": holder,
            "holder_name": "(mẫu)",
            "valid_from": since,
            "valid_to": until,
            "document": "QĐ mẫu số 9",
            "sample": True,
        }
        return TenureRow.model_validate(row | more)

    def _days(self, *choices: int) -> date:
        return local(self.now).date() + self.random.choice(choices) * DAY

    def _hands(self, place: Unit, world: World) -> Tables:
        """A post changes hands, or somebody stands in for a while."""
        del world
        since, holder = max(self._days(1, 2, -3, -1, 0), place.valid_from), self._somebody()
        until = self.random.choice((None, since + 2 * DAY))
        more: dict[str, Any] = {}
        if self.happens(0.4):
            until = since + 2 * DAY
            more = {"capacity": "deputy", "reason": "nghỉ phép"}
        more["channel"] = f"outbox://{holder}"
        post = self.random.choice((CHAIR, SECRETARY))
        return Tables(tenures=[(1, self._tenure((place.code, place.valid_from), post, holder, since, until, **more))])

    def _vacancies(self, place: Unit, world: World) -> Tables:
        """Both posts fall vacant, one of them, or none is left vacant."""
        now, until = max(local(self.now).date(), place.valid_from), self._days(0, 0, 1)
        unit = (place.code, place.valid_from)
        held = [
            t
            for t in world.directory.tenures
            if (t.unit_code, t.unit_valid_from, t.capacity) == (*unit, "holder")
            and local(t.valid_from).date() < until
            and (t.valid_to is None or local(t.valid_to).date() > until)
        ]
        filled = {t.post for t in held}
        if len(filled) < 2:
            gaps = [post for post in (CHAIR, SECRETARY) if post not in filled]
            new = [(post, self._somebody()) for post in gaps]
            return Tables(
                tenures=[
                    (n, self._tenure(unit, post, holder, now, None, channel=f"outbox://{holder}"))
                    for n, (post, holder) in enumerate(new)
                ]
            )
        if self.happens(0.3):
            held = held[:1]
        rows = [self._tenure(unit, t.post, t.holder_id, local(t.valid_from).date(), until) for t in held]
        return Tables(tenures=list(enumerate(rows)))

    def _contacts(self, place: Unit, world: World) -> Tables:
        """Somebody of the ward loses all channels, or is found at another; it may sleep, or take nothing."""
        there = sorted({t.holder_id for t in world.directory.tenures if t.unit_code == place.code})
        if not there:
            return Tables()
        holder, pick = self.random.choice(there), self.random.choice
        self.people += 1
        channel = pick((None, None, f"outbox://{holder}", f"outbox://so-{self.people}", f"{DEAD}-{self.people}"))
        channel = channel if channel is None or self.happens(0.6) else f"webhook://so-{self.people}.example"
        quiet = {"quiet_from": time(22), "quiet_to": time(6)} if channel and self.happens(0.5) else {}
        return Tables(
            contacts=[(1, ContactRow.model_validate({"holder_id": holder, "channel": channel, "sample": True} | quiet))]
        )

    def _duty(self, place: Unit, world: World) -> Tables:
        """Somebody comes on duty, who may answer for a ward as well."""
        level = self.random.choice(("desk", "desk", "leadership", "ward"))
        holder = self._somebody() if self.happens(0.5) else self.random.choice(world.directory.tenures).holder_id
        begins = self.now + self.random.choice((-3, 0, 5)) * HOUR
        row: dict[str, Any] = {
            "level": level,
            "holder_id": holder,
            "holder_name": "(mẫu)",
            "valid_from": local(begins).isoformat(timespec="seconds"),
            "valid_to": local(begins + 12 * HOUR).isoformat(timespec="seconds"),
            "document": "Lịch mẫu",
            "channel": f"outbox://{holder}",
            "sample": True,
        }
        if level == "ward":
            row |= {"unit_code": place.code, "unit_valid_from": place.valid_from}
        return Tables(rosters=[(1, RosterRow.model_validate(row))])

    def _division(self, place: Unit, world: World) -> Tables:
        """The ward ends: parts of it, or the whole, go to new ones, whose posts are filled, but for one."""
        del world
        day, number = self._days(0, 1, 1), len(self.parts)
        count = self.random.choice((1, 2, 2))
        parts = [Unit(f"9{number}{n}00", day, None, f"Phần {number}{n} (mẫu)", "phường") for n in range(count)]
        self.parts[place.code] = day, parts
        old = UnitRow(
            code=place.code,
            valid_from=place.valid_from,
            name=place.name,
            type=place.kind,
            valid_to=day,
            successors=tuple((p.code, p.valid_from) for p in parts),
        )
        units = [old, *(UnitRow(code=p.code, valid_from=day, name=p.name, type="phường") for p in parts)]
        posts = [(p, post) for p in parts for post in (CHAIR, SECRETARY)][self.random.choice((0, 1)) :]
        rows = [
            self._tenure(
                (p.code, day), post, f"mau-{p.code}-{post}", day, None, channel=f"outbox://mau-{p.code}-{post}"
            )
            for p, post in posts
        ]
        return Tables(units=list(enumerate(units)), tenures=list(enumerate(rows)))

"""Tell whoever comes on duty what is open and waits for them, once a turn. One transaction, safe to repeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.model import DESK, OFFICES, Contact, Duty, Unit, UnitKey
from services.escalation.domain.directory.places import Place
from services.escalation.domain.envelope import envelope
from services.escalation.domain.incidents.lifecycle import OPEN
from services.escalation.domain.incidents.obligations import Obligation
from services.escalation.domain.notices import shift
from services.escalation.domain.notices.incident_number import number_of
from services.escalation.domain.notices.shift import SHIFT, Counts, WaitingIncident
from services.escalation.store import directory, incident_queries, obligations, shifts
from services.escalation.store.incident_queries import Asked
from services.escalation.store.shifts import ShiftNotice
from shared.events import Event, NoticeIssued, NoticeIssuedData

LISTED = 20
"""How many incidents are looked at for one message; fewer fit into it."""


@dataclass(frozen=True)
class _Told:
    duty: Duty
    notice: ShiftNotice
    unit: Unit | None


def asked_of_turn(level: str, place: Place | None) -> Asked:
    """Return what waits for whoever is on duty there. Who is on duty in a ward sees what waits for its people."""
    if level in OFFICES:
        return Asked(waits_for=level)  # what has ended too, if the desk has to weigh reports that came after
    return Asked(place=place, states=OPEN, waits_for_ward=True)


async def begin_shifts(escalation: Escalation) -> int:
    """Tell those whose turn has begun, unless nothing waits for them. Returns how many were told.

    A turn that is over is left out, and so are exercises: they concern no duty.
    """
    now = escalation.clock.now()
    async with escalation.database.begin() as connection:
        begun = await shifts.begin(connection, now)
        told = await _tell(escalation, connection, begun, now) if begun else []
    if told:
        escalation.wake()
    return len(told)


async def _tell(
    escalation: Escalation, connection: AsyncConnection, begun: Sequence[Duty], now: datetime
) -> list[_Told]:
    units = await directory.units(connection)
    contacts = await directory.contacts(connection, {duty.holder_id for duty in begun})
    found = [await _told(escalation, connection, duty, units, contacts, now) for duty in begun]
    told = [each for each in found if each is not None]
    await shifts.tell(connection, [each.notice for each in told], now)
    await escalation.emit(connection, [_issued(each, now) for each in told])
    return told


async def _told(
    escalation: Escalation,
    connection: AsyncConnection,
    duty: Duty,
    units: Mapping[UnitKey, Unit],
    contacts: Mapping[str, Sequence[Contact]],
    now: datetime,
) -> _Told | None:
    """Return what the person is told; None if nothing waits for them."""
    key = duty.unit_key
    place = Place(key[0], frozenset({key[1]})) if key else None
    waiting = replace(asked_of_turn(duty.level, place), exercise=False)
    rows = await incident_queries.soonest_due(connection, waiting, None, LISTED)
    if not rows:
        return None
    is_open = Asked(place=place, states=OPEN, exercise=False)
    counts = Counts(
        await incident_queries.count(connection, is_open), await incident_queries.count(connection, waiting)
    )
    obliged = await obligations.of_incidents(connection, rows)
    unit = units.get(key) if key else None
    ward = (unit.kind, unit.ref.name) if unit else ("", str(duty.unit_code))
    incidents = [_incident(row, obliged.get(row.incident_id, ()), duty.level) for row in rows]
    title, body = shift.words(duty.level, ward, incidents, counts, now)
    ids = (escalation.new_id(), escalation.new_id())
    channels = _channels(escalation, duty, contacts)
    return _Told(duty, ShiftNotice(*ids, duty.holder_id, title, body, channels, duty.valid_to), unit)


def _incident(row: Row[Any], obliged: Sequence[Obligation], level: str) -> WaitingIncident:
    mine = [o for o in obliged if o.who == level or (level == "ward" and o.who not in OFFICES)]
    return WaitingIncident(
        number=number_of(row.incident_id),
        category=row.category,
        place=f"{row.unit_kind} {row.unit_name}",
        occurred_at=row.occurred_at,
        severity=row.severity,
        tasks=tuple(dict.fromkeys(o.what for o in mine)),
        due_at=row.due_at,
    )


def _channels(escalation: Escalation, duty: Duty, contacts: Mapping[str, Sequence[Contact]]) -> list[str]:
    """Return the person's own channels. Without one, that of their office."""
    if own := [contact.channel for contact in contacts.get(duty.holder_id, ())]:
        return own
    if duty.level not in OFFICES:
        return []
    return [escalation.channels.desk if duty.level == DESK else escalation.channels.leadership]


def _issued(told: _Told, now: datetime) -> Event:
    data = NoticeIssuedData(
        unit=told.unit.ref if told.unit else None,
        officials=(told.duty.holder_id,),
        notice_id=told.notice.notice_id,
        recipient=told.duty.holder_id,
        purpose=SHIFT,
        posts=(),
        exercise=False,
    )
    return NoticeIssued(**envelope(told.notice.event_id, told.notice.notice_id, now), data=data)

"""Changes of the directory as they end up in its tables, for tests of what follows from them for an incident.

Each marks the open incidents of the unit to be looked at again, as the import and the routes do.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import orjson

from shared.clock import local
from shared.events import UnitRef
from tests.integration.escalation_support import City, WholeCity
from tests.support import BA_DINH, CHAIR, SECRETARY

LONG_AGO = datetime.fromisoformat("2023-01-06T00:00:00+07:00")


async def leave(city: City, holder: str, when: datetime, *, unit: UnitRef = BA_DINH, post: str = CHAIR) -> None:
    """The tenure ends at `when`, as recorded now."""
    ended = await city.rows(
        "SELECT tenure_id, valid_from, capacity FROM escalation.tenure WHERE unit_code = :code"
        " AND unit_valid_from = :day AND post = :post AND holder_id = :holder AND superseded_at IS NULL"
        " AND valid_from < :to AND coalesce(valid_to, 'infinity') > :to",
        code=unit.code,
        day=unit.valid_from,
        post=post,
        holder=holder,
        to=when,
    )
    for row in ended:
        await city.run(
            "UPDATE escalation.tenure SET superseded_at = :now WHERE tenure_id = :id",
            now=city.clock.now(),
            id=row.tenure_id,
        )
        await _tenure(city, holder, unit, post, row.valid_from, when, row.capacity)
    await look_again(city, unit)


async def appoint(
    city: City,
    holder: str,
    start: datetime,
    end: datetime | None = None,
    *,
    unit: UnitRef = BA_DINH,
    post: str = CHAIR,
    capacity: str = "holder",
) -> None:
    """In a post that is vacant then, with a channel of their own."""
    await _tenure(city, holder, unit, post, start, end, capacity)
    await reachable(city, holder)
    await look_again(city, unit)


async def _tenure(
    city: City, holder: str, unit: UnitRef, post: str, start: datetime, end: datetime | None, capacity: str
) -> None:
    await city.run(
        "INSERT INTO escalation.tenure (tenure_id, unit_code, unit_valid_from, unit_name, post, holder_id, holder_name,"
        " acting, capacity, reason, document, valid_from, valid_to, sample, recorded_at) VALUES (:id, :code, :day,"
        " :name, :post, :holder, '(mẫu)', false, :capacity, 'Đi công tác', 'QĐ mẫu', :start, :end, true, :now)",
        id=city.escalation.new_id(),
        code=unit.code,
        day=unit.valid_from,
        name=unit.name,
        post=post,
        holder=holder,
        capacity=capacity,
        start=start,
        end=end,
        now=city.clock.now(),
    )


async def reachable(city: City, holder: str, quiet: tuple[str, str] | None = None) -> None:
    """At one channel, with or without quiet hours."""
    await city.run("DELETE FROM escalation.contact WHERE holder_id = :holder", holder=holder)
    await city.run(
        "INSERT INTO escalation.contact (holder_id, channel, recorded_at, quiet_from, quiet_to)"
        " VALUES (:holder, 'outbox://' || CAST(:holder AS text), :now, :start, :end)",
        holder=holder,
        now=LONG_AGO,
        start=quiet[0] if quiet else None,
        end=quiet[1] if quiet else None,
    )


async def posted(city: WholeCity, subject: str, unit: UnitRef, since: str, until: str | None = None) -> None:
    """An administrator records it. Days are the city's."""
    where = {"unit_code": unit.code, "unit_valid_from": str(unit.valid_from), "subject": subject}
    row = where | {"valid_from": since, "valid_to": until, "document": "QĐ mẫu"}
    headers = city.bearer("admin")
    answer = await city.client.put("/escalation/v1/directory/postings", headers=headers, json={"rows": [row]})
    assert answer.status_code == 200, answer.text


async def on_duty(city: City, holder: str, level: str, *, unit: UnitRef | None = None) -> None:
    """For a day from an hour ago."""
    now = city.clock.now()
    await city.run(
        "INSERT INTO escalation.roster (roster_id, level, unit_code, unit_valid_from, holder_id, holder_name, document,"
        " valid_from, valid_to, sample, recorded_at) VALUES (:id, :level, :code, :day, :holder, '(mẫu)', 'Lịch mẫu',"
        " :start, :end, true, :now)",
        id=city.escalation.new_id(),
        level=level,
        code=unit.code if unit else None,
        day=unit.valid_from if unit else None,
        holder=holder,
        start=now - timedelta(hours=1),
        end=now + timedelta(days=1),
        now=LONG_AGO,
    )
    await reachable(city, holder)


async def end_unit(city: City, successors: Sequence[UnitRef], *, unit: UnitRef = BA_DINH) -> None:
    """It ends on the day on which its successors begin; each of these has a secretary and a chair."""
    parts = orjson.dumps([s.model_dump(mode="json") for s in successors]).decode()
    await city.run(
        "UPDATE escalation.unit SET valid_to = :to, successors = CAST(:parts AS jsonb)"
        " WHERE code = :code AND valid_from = :day AND superseded_at IS NULL",
        to=successors[0].valid_from,
        parts=parts,
        code=unit.code,
        day=unit.valid_from,
    )
    for part in successors:
        await city.run(
            "INSERT INTO escalation.unit (code, valid_from, recorded_at, name, kind)"
            " VALUES (:code, :day, :now, :name, 'phường')",
            code=part.code,
            day=part.valid_from,
            now=LONG_AGO,
            name=part.name,
        )
        since = local(LONG_AGO).replace(month=part.valid_from.month, day=part.valid_from.day)
        for post, name in ((SECRETARY, "bi-thu"), (CHAIR, "chu-tich")):
            await appoint(city, f"mau-{part.code}-{name}-moi", since, unit=part, post=post)
    await look_again(city, unit)


async def look_again(city: City, unit: UnitRef) -> None:
    await city.run(
        "INSERT INTO escalation.deadline (deadline_id, incident_id, kind, due_at, state)"
        " SELECT gen_random_uuid()::text, incident_id, 'directory', :now, 'pending' FROM escalation.incident"
        " WHERE (unit_code = :code OR successor ->> 'code' = :code)"
        " AND state NOT IN ('closed', 'dismissed', 'merged', 'handed_off')",
        now=city.clock.now(),
        code=unit.code,
    )

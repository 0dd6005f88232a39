"""What is in a city's database, for tests of what was done to it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, select

from services.escalation.domain.directory.model import OFFICES
from services.escalation.store import tables
from tests.integration.escalation_support import City
from tests.integration.stored.records import DueTime, Notice, R, Tenure, every


async def stored(city: City, kind: type[R], /, **equal: object) -> tuple[R, ...]:
    """All records of a kind in their order; of those, the ones that equal what is given."""
    async with city.escalation.database.connect() as connection:
        return await every(connection, kind, **equal)


async def only(city: City, kind: type[R], /, **equal: object) -> R:
    """The one record that equals what is given; ValueError where there are none or several."""
    (found,) = await stored(city, kind, **equal)
    return found


async def next_due(city: City) -> datetime | None:
    """The first time at which something falls due."""
    return min((d.due_at for d in await stored(city, DueTime, state="pending")), default=None)


async def still_asked(city: City) -> list[str]:
    """Whose acknowledgement is waited for."""
    return sorted(str(d.recipient) for d in await stored(city, DueTime, kind="acknowledge", state="pending"))


async def told_outside_their_tenure(city: City) -> list[tuple[str, str, str]]:
    """Recipient, purpose and post of each notice to a person who, as was known then, did not hold the post."""
    tenures = await stored(city, Tenure)
    return [
        (notice.recipient, notice.purpose, post)
        for notice in await stored(city, Notice)
        for post in notice.posts
        if notice.recipient not in OFFICES
        and not any(
            t.covers(notice.issued_at, notice.issued_at)
            for t in tenures
            if (t.holder_id, t.post) == (notice.recipient, post)
        )
    ]


# --- to be compared with what is there later ---


Rows = list[Sequence[Row[Any]]]
"""Every column of every row of some tables."""


async def notices_as_stored(city: City) -> Rows:
    return await _whole(city, tables.notice)


async def decisions_as_stored(city: City) -> Rows:
    return await _whole(city, tables.decision)


async def directory_and_what_followed(city: City) -> Rows:
    """All that an import of the directory may write."""
    followed = (tables.deadline, tables.outbox.rows, tables.timeline)
    return await _whole(city, tables.unit, tables.tenure, tables.roster, tables.contact, *followed)


async def _whole(city: City, *kept: Table) -> Rows:
    async with city.escalation.database.connect() as connection:
        return [(await connection.execute(select(table).order_by(*table.primary_key))).all() for table in kept]

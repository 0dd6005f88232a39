"""What is in a city's database, for tests of what was done to it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, Table, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.escalation.domain.directory.model import OFFICES
from services.escalation.domain.incidents.obligations import Obligation
from services.escalation.store import incident_queries, obligations, tables
from services.escalation.store.incident_queries import Asked
from services.intake import store as intake
from tests.integration.escalation_support import City
from tests.integration.stored.records import WAITING, Decision, DueTime, Notice, R, Tenure, every, query_of


async def stored(city: City, kind: type[R], /, **equal: object) -> tuple[R, ...]:
    """All records of a kind in their order; of those, the ones that equal what is given."""
    return await stored_in(city.reading, kind, **equal)


async def stored_in(engine: AsyncEngine, kind: type[R], /, **equal: object) -> tuple[R, ...]:
    """The same of a service that runs alone."""
    async with engine.connect() as connection:
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


async def waited_for(city: City) -> dict[str, list[Obligation]]:
    """Whom each incident waits for, by its id, as `GET /incidents` shows it."""
    async with city.reading.connect() as connection:
        rows = await incident_queries.newest(connection, Asked(), None, 10_000)
        return await obligations.of_incidents(connection, rows)


async def issued_since(city: City, since: datetime) -> list[Notice]:
    """Notices, those without an incident too."""
    return await _since(city, Notice, tables.notice.c.issued_at, since)


async def acknowledged_since(city: City, since: datetime) -> list[Notice]:
    """Notices, whenever they were issued."""
    return await _since(city, Notice, tables.notice.c.acknowledged_at, since)


async def decided_since(city: City, since: datetime) -> list[Decision]:
    """Decisions."""
    return await _since(city, Decision, tables.decision.c.made_at, since)


async def _since(city: City, kind: type[R], when: ColumnElement[datetime], since: datetime) -> list[R]:
    async with city.reading.connect() as connection:
        return [kind(*row) for row in await connection.execute(query_of(kind).where(when >= since))]


async def told_outside_their_tenure(city: City) -> list[tuple[str, str, str]]:
    """Recipient, purpose and post of each notice to a person who, as was known then, did not hold the post."""
    held: dict[tuple[str, str], list[Tenure]] = defaultdict(list)
    for tenure in await stored(city, Tenure):
        held[tenure.holder_id, tenure.post].append(tenure)
    return [
        (n.recipient, n.purpose, post)
        for n in await stored(city, Notice)
        for post in n.posts
        if n.recipient not in OFFICES and not any(t.covers(n.issued_at, n.issued_at) for t in held[n.recipient, post])
    ]


async def deliveries_waiting(connection: AsyncConnection) -> int:
    """How many are still to go out."""
    query = select(func.count()).where(tables.delivery.c.state.in_(sorted(WAITING)))
    return (await connection.scalars(query)).one()


async def commits_of_reports(engine: AsyncEngine) -> int:
    """By how many transactions intake stored the reports that it has."""
    writer = literal_column("xmin::text")
    async with engine.connect() as connection:
        return (await connection.scalars(select(func.count(writer.distinct())).select_from(intake.report))).one()


# --- to be compared with what is there later ---


Rows = list[Sequence[RowMapping]]
"""Every column of every row, by table."""


async def incidents_as_stored(city: City) -> Sequence[RowMapping]:
    """Every column of every incident."""
    (incidents,) = await _whole(city.escalation.database, tables.incident)
    return incidents


async def notices_as_stored(city: City) -> Rows:
    """All that is known of what was told to whom."""
    return await _whole(city.escalation.database, tables.notice)


async def decisions_as_stored(city: City) -> Rows:
    """Records, and all that they depended on."""
    return await _whole(city.escalation.database, tables.decision)


async def directory_and_what_followed(city: City) -> Rows:
    """All that an import of the directory may write."""
    followed = (tables.deadline, tables.outbox.rows, tables.timeline)
    return await _whole(city.escalation.database, tables.unit, tables.tenure, tables.roster, tables.contact, *followed)


async def reports_as_received(engine: AsyncEngine) -> Rows:
    """All that intake keeps of them, but for who reported."""
    return await _whole(engine, intake.report)


async def _whole(engine: AsyncEngine, *kept: Table) -> Rows:
    async with engine.connect() as connection:
        asked = [select(table).order_by(*table.primary_key) for table in kept]
        return [(await connection.execute(query)).mappings().all() for query in asked]

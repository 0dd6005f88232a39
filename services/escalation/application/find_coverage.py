"""What the directory lacks, as recorded now."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.application.escalation import Escalation
from services.escalation.domain.directory.coverage import Coverage, coverage_of
from services.escalation.store import directory


async def find_coverage(escalation: Escalation) -> Coverage:
    """Return the vacancies of now, and the people without a channel."""
    async with escalation.database.connect() as connection:
        posts = {p.key for a in await directory.rulebooks(connection) for p in a.rulebook.posts}
        now = escalation.clock.now()
        return await coverage_in(connection, posts, now, directory.after(await directory.newest(connection), now))


async def coverage_in(
    connection: AsyncConnection, posts: Collection[str], now: datetime, known_at: datetime
) -> Coverage:
    """As it is in the transaction of the caller."""
    contacts = await directory.contacts_known(connection, known_at)
    return coverage_of(
        await directory.units(connection),
        posts,
        await directory.tenures(connection, known_at),
        await directory.duties(connection, known_at),
        {row.holder_id for row in contacts},
        now,
    )

"""Queries for signed links: one notice, and the names of those who were notified and who acknowledged."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from services.escalation.store.tables import notice, roster, tenure


@dataclass(frozen=True)
class LinkedNotice:
    """A notice, as the page behind its link shows it."""

    notice_id: str
    incident_id: str | None
    """None for a test of a channel."""
    recipient: str
    purpose: str
    title: str
    body: str
    exercise: bool
    due_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


async def linked(connection: AsyncConnection, notice_id: str) -> LinkedNotice | None:
    columns = [notice.c[name] for name in LinkedNotice.__dataclass_fields__]
    row = (await connection.execute(select(*columns).where(notice.c.notice_id == notice_id))).one_or_none()
    return LinkedNotice(*row) if row else None


async def names(connection: AsyncConnection, holder_ids: Collection[str]) -> dict[str, str]:
    """Return the name last recorded for each of these ids. An office or a credential has none."""
    rows = await connection.execute(
        union_all(
            *(
                select(table.c.holder_id, table.c.holder_name, table.c.recorded_at).where(
                    table.c.holder_id.in_(list(holder_ids))
                )
                for table in (tenure, roster)
            )
        ).order_by("recorded_at")
    )
    return {row.holder_id: row.holder_name for row in rows}

"""The number of partitions, held against what was written: fewer would leave events that nobody reads."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import DatabaseError
from shared.messaging.outbox import Outbox
from shared.messaging.topology import partition_in


async def refuse_fewer_partitions(engine: AsyncEngine, outbox: Outbox, count: int) -> None:
    """Raise DatabaseError if an event was ever written to a partition that `count` leaves out.

    Call it when a service starts.
    """
    async with engine.connect() as connection:
        names = (await connection.scalars(select(outbox.streams.c.stream))).all()
    last = max(names, key=partition_in, default=None)
    if last is not None and partition_in(last) >= count:
        raise DatabaseError(
            f"TRUCBAN_PARTITIONS is {count}, and events were written to {last}, which nobody would read: "
            f"set it to {partition_in(last) + 1} or more"
        )

"""How many partitions the streams have, as the database says it: one row for each epoch, and the last one counts.

An epoch ends where `seq` cannot simply go on: with a change of the number of partitions, and with a restored backup.
"""

from collections.abc import Sequence

from sqlalchemy import Column, DateTime, Integer, MetaData, ScalarSelect, Table, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import DatabaseError
from shared.messaging.topology import partition_in

FIRST = 1


class PartitionsError(DatabaseError):
    """A process was told another number of partitions than the stored one. The text names both and the command."""

    sqlstate = "F0000"
    """PostgreSQL's config_file_error: only an operator can mend it. A consumer waits; a start does not."""


def epoch_table(metadata: MetaData) -> Table:
    """One in the schema of each service, all with the same rows."""
    return Table(
        "epoch",
        metadata,
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("partitions", Integer, nullable=False),
        Column("begun_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    )


def stored_partitions(epochs: Table) -> ScalarSelect[int]:
    """A query for the number of partitions; NULL before the first start."""
    return select(epochs.c.partitions).order_by(epochs.c.number.desc()).limit(1).scalar_subquery()


def check_partitions(count: int, stored: int | None) -> None:
    """Raises PartitionsError unless `count` is what is stored, or nothing is."""
    if stored is not None and stored != count:
        raise PartitionsError(
            f"TRUCBAN_PARTITIONS is {count}, and the events of this city have {stored}: set it to {stored}, "
            f"or stop the services and run: trucban partitions {count}"
        )


async def partitions_in(connection: AsyncConnection, epochs: Table, count: int, streams: Table | None = None) -> int:
    """Return what is stored, and `count` where nothing is, as in data from before the number was stored.

    `streams`: the counters of the service's outbox, if it has one. Raises PartitionsError if an event was written to a
    partition that `count` leaves out.
    """
    stored = await connection.scalar(select(stored_partitions(epochs)))
    if stored is not None:
        return stored
    names = (await connection.scalars(select(streams.c.stream))).all() if streams is not None else ()
    used = max(map(partition_in, names), default=0) + 1
    if used > count:
        raise PartitionsError(
            f"TRUCBAN_PARTITIONS is {count}, and events were written to {used}, of which nobody would read the last: "
            f"set it to {used} or more; when the services have run with it, trucban partitions {count} changes it"
        )
    return count


async def settle_partitions(engine: AsyncEngine, epochs: Table, count: int, streams: Table | None = None) -> None:
    """Store `count` where nothing is stored, and raise PartitionsError where something else is.

    Call it when a service starts. `streams` as for `partitions_in`.
    """
    async with engine.begin() as connection:
        if await connection.scalar(select(stored_partitions(epochs))) is None:
            found = await partitions_in(connection, epochs, count, streams)
            first = upsert(epochs).values(number=FIRST, partitions=found)
            await connection.execute(first.on_conflict_do_nothing())
        check_partitions(count, await connection.scalar(select(stored_partitions(epochs))))


async def begin_epoch(connection: AsyncConnection, tables: Sequence[Table], partitions: int) -> int:
    """Begin the next epoch in all of these tables, in the caller's transaction, and return its number."""
    number = await current_epoch(connection, tables) + 1
    for epochs in tables:
        await connection.execute(insert(epochs).values(number=number, partitions=partitions))
    return number


async def current_epoch(connection: AsyncConnection, tables: Sequence[Table]) -> int:
    found = [await connection.scalar(select(func.max(epochs.c.number))) for epochs in tables]
    return max([FIRST, *(number for number in found if number is not None)])

"""Changing the number of partitions of the streams, while the services are stopped: all of it or nothing."""

from dataclasses import dataclass, replace

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncConnection

from services.cli.errors import CommandError
from services.cli.infrastructure import has_database, infrastructure
from services.cli.stopped import empty_broker, stopped_city
from services.escalation.app import connect_escalation
from services.escalation.application.escalation import Escalation
from services.escalation.application.record_operation import record_partitions
from shared.clock import Clock
from shared.database import PATIENT, SERVICES
from shared.events import PartitionsChangedData, StreamNumbers, Who
from shared.messaging import (
    GROUPS,
    begin_epoch,
    current_epoch,
    epoch_table,
    move_rows,
    outbox_tables,
    partitions_in,
    producer_of,
    stream_name,
    stream_numbers,
)
from shared.settings import Settings

EPOCHS = {service: epoch_table(MetaData(schema=service)) for service in SERVICES}
OUTBOXES = {base: outbox_tables(MetaData(schema=producer_of(stream_name(base, 0)))) for base in GROUPS}


@dataclass(frozen=True)
class Changed:
    """What came of a change; `before` and `after` are equal where there was nothing to change."""

    before: int
    after: int
    epoch: int
    moved: int
    """How many events were still owed to some service, and go to it under new numbers."""


async def change_partitions(settings: Settings, count: int, who: Who) -> Changed:
    """Change the number to `count`. Raises CommandError, with nothing changed, while a service runs."""
    if not has_database(settings):
        where = "name its data folder with --data or TRUCBAN_DATA, or set DATABASE_URL"
        raise CommandError(f"there is no system in {settings.data}: {where}")
    async with infrastructure(settings) as ready:
        assert ready.redis_url is not None
        escalation = connect_escalation(ready, Clock(ready.clock), limits=PATIENT)
        try:
            return await change_partitions_of(escalation, ready.redis_url, count, who)
        finally:
            await escalation.database.dispose()


async def change_partitions_of(escalation: Escalation, redis_url: str, count: int, who: Who) -> Changed:
    """The same, given the core of escalation, whose `partitions` hold where no number is stored."""
    async with stopped_city(escalation.database) as connection:
        before = await stored_in_all(connection, escalation.partitions)
        if before == count:
            return Changed(before, count, await current_epoch(connection, list(EPOCHS.values())), 0)
        epoch = await begin_epoch(connection, list(EPOCHS.values()), count)
        numbers = [
            StreamNumbers.model_validate(each, from_attributes=True)
            for base, outbox in OUTBOXES.items()
            for each in await move_rows(connection, outbox, base, count)
        ]
        data = PartitionsChangedData(
            before=before, after=count, epoch=epoch, streams=tuple(numbers), author=who.subject
        )
        await record_partitions(replace(escalation.by(who), partitions=count), connection, data)
        await empty_broker(redis_url)
    return Changed(before, count, epoch, sum(each.moved for each in numbers))


async def stored_in_all(connection: AsyncConnection, count: int) -> int:
    """The stored number; `count` in a city that has not stored one yet. Raises PartitionsError if it is too low."""
    found = [await partitions_in(connection, outbox.epochs, count, outbox.streams) for outbox in OUTBOXES.values()]
    return max(found)


async def numbers_of_all(connection: AsyncConnection) -> list[StreamNumbers]:
    """Of every stream, as an event says them."""
    return [
        StreamNumbers.model_validate(each, from_attributes=True)
        for outbox in OUTBOXES.values()
        for each in await stream_numbers(connection, outbox)
    ]

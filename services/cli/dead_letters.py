"""The dead letters of all services: what there is, and what is to become of each."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.cli.errors import CommandError
from services.cli.infrastructure import existing_database
from shared.clock import Clock, monotonic
from shared.commitment import Committed, new_salt
from shared.database import SERVICES
from shared.events import DeadLetterDiscarded, DeadLetterDiscardedData, Event, Who, encode, parse
from shared.ids import uuid7
from shared.messaging import (
    DeadLetter,
    Outgoing,
    add,
    base_of,
    dead_letter_table,
    dead_letters_in,
    mark_dead_letter,
    outbox_tables,
    producer_of,
    route,
    take_dead_letter,
)
from shared.settings import Settings

TABLES = {service: dead_letter_table(MetaData(schema=service)) for service in SERVICES}
LOOK_SECONDS = 0.2


class Letter(NamedTuple):
    """A dead letter as it may be shown: who could not handle which event, and why, but nothing of what it says."""

    service: str
    row: DeadLetter
    event: Event | None
    """None if the body cannot be parsed."""

    @property
    def name(self) -> str:
        """By which a command is told of it."""
        return f"{self.service}/{self.row.id}"

    def as_json(self) -> dict[str, Any]:
        return {
            "letter": self.name,
            "service": self.service,
            "group": self.row.group,
            "stream": self.row.stream,
            "entry": self.row.entry_id,
            "event_id": self.event.id if self.event else None,
            "event_type": self.event.type if self.event else None,
            "digest": self.row.digest,
            "error": self.row.error,
            "at": self.row.at.isoformat(),
            "deliveries": self.row.deliveries,
            "retry_asked": self.row.is_marked,
        }


async def list_letters(settings: Settings) -> list[Letter]:
    """Those of every service, each service's oldest first."""
    async with existing_database(settings) as database:
        return await _letters(database)


async def retry_letters(settings: Settings, names: Sequence[str], *, wait: float) -> list[Letter]:
    """Mark letters, all of them where none is named, and wait until the services have tried; those that still exist.

    Raises CommandError for a letter that there is not, and for one that is no event: nothing is marked then.
    """
    async with existing_database(settings) as database:
        wanted = [letter for letter in await _chosen(database, names) if names or letter.event is not None]
        for letter in wanted:
            if letter.event is None:
                raise CommandError(f"{letter.name} is no event that this version knows: discard it, or upgrade first")
        async with database.begin() as connection:
            for letter in wanted:
                await mark_dead_letter(connection, TABLES[letter.service], letter.row.id)
        return await _outcome(database, {letter.name for letter in wanted}, monotonic() + wait)


async def _outcome(database: AsyncEngine, names: set[str], until: float) -> list[Letter]:
    while True:
        left = [letter for letter in await _letters(database) if letter.name in names]
        if monotonic() >= until or not any(letter.row.is_marked for letter in left):
            return left
        await asyncio.sleep(LOOK_SECONDS)


async def discard_letters(settings: Settings, names: Sequence[str], reason: str, who: Who) -> list[Letter]:
    """Delete letters for good. The ledger gets an event of each. Raises CommandError for one that there is not."""
    async with existing_database(settings) as database:
        wanted = await _chosen(database, names)
        now = Clock(settings.clock).now()
        async with database.begin() as connection:
            count = settings.partitions
            return [letter for letter in wanted if await _discard(connection, letter, reason, who, now, count)]


async def _discard(
    connection: AsyncConnection, letter: Letter, reason: str, who: Who, now: datetime, partitions: int
) -> bool:
    """False if it is gone already. The event goes the way of the one that it is about would go now."""
    if await take_dead_letter(connection, TABLES[letter.service], letter.row.id) is None:
        return False
    data = DeadLetterDiscardedData(
        cause=letter.event.id if letter.event else None,
        unit=letter.event.data.unit if letter.event else None,
        group=letter.row.group,
        stream=letter.row.stream,
        event_type=letter.event.type if letter.event else None,
        digest=letter.row.digest,
        who=who,
        author=who.subject,
        reason=Committed(salt=new_salt(), value=reason),
    )
    event = DeadLetterDiscarded(
        id=uuid7(now), source=f"/trucban/{letter.service}", subject=letter.row.digest, time=now, data=data
    )
    producer, ward = producer_of(letter.row.stream), data.unit.code if data.unit else ""
    stream = route(base_of(letter.row.stream), ward, partitions)
    outgoing = [Outgoing(event.id, stream, encode(event))]
    await add(connection, outbox_tables(MetaData(schema=producer)), outgoing, partitions=partitions)
    return True


async def _chosen(database: AsyncEngine, names: Sequence[str]) -> list[Letter]:
    """Those that are named, or all. Raises CommandError for a name of none."""
    found = {letter.name: letter for letter in await _letters(database)}
    for name in names:
        if name not in found:
            raise CommandError(f"there is no dead letter {name}: trucban dead-letters list shows their names")
    return [found[name] for name in dict.fromkeys(names)] if names else list(found.values())


async def _letters(database: AsyncEngine) -> list[Letter]:
    async with database.connect() as connection:
        return [
            Letter(service, row, _event(row.body))
            for service, table in TABLES.items()
            for row in await dead_letters_in(connection, table)
        ]


def _event(body: bytes) -> Event | None:
    try:
        return parse(body)
    except ValidationError:
        return None

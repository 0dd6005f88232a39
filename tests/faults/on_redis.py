"""Faults of Redis: what it forgets, what others do to its streams and groups, and memory that is short."""

import asyncio
from random import Random

from shared import messaging
from shared.messaging import ESCALATION, INTAKE
from tests.faults.administration import redis_command, redis_try
from tests.faults.on_processes import frozen
from tests.faults.stack import House

Place = tuple[str, str]
"""A stream and a group of it."""


async def flush(house: House, _: Random, __: float) -> None:
    """Redis forgets everything."""
    await redis_command(house.servers, "FLUSHALL")


async def trim(house: House, draw: Random, seconds: float) -> None:
    """Entries are deleted that a group has not read: its processes stand still meanwhile."""
    stream, group = _place(house, draw)
    async with frozen(house.of(group), seconds):
        await redis_try(house.servers, "XTRIM", stream, "MAXLEN", 0)


async def destroy_group(house: House, draw: Random, _: float) -> None:
    await redis_try(house.servers, "XGROUP", "DESTROY", *_place(house, draw))


async def skip_entries(house: House, draw: Random, seconds: float) -> None:
    """A group is set to the end of its stream: what it has not read counts as read."""
    stream, group = _place(house, draw)
    async with frozen(house.of(group), seconds):
        await redis_try(house.servers, "XGROUP", "SETID", stream, group, "$")


async def delete_consumers(house: House, draw: Random, seconds: float) -> None:
    """What a group's consumers have in hand counts as handled."""
    stream, group = _place(house, draw)
    members = house.of(group)
    async with frozen(members, seconds):
        for name in {member.consumer for member in members}:
            await redis_try(house.servers, "XGROUP", "DELCONSUMER", stream, group, name)


async def short_memory(house: House, draw: Random, seconds: float) -> None:
    """`maxmemory` is below what is used: every write is refused."""
    memory = await redis_command(house.servers, "INFO", "memory")
    await redis_try(house.servers, "CONFIG", "SET", "maxmemory", int(memory["used_memory"] * draw.uniform(0.5, 0.95)))
    try:
        await asyncio.sleep(seconds)
    finally:
        await redis_command(house.servers, "CONFIG", "SET", "maxmemory", 0)


def _place(house: House, draw: Random) -> Place:
    streams = messaging.streams(INTAKE, house.shape.partitions) | messaging.streams(ESCALATION, house.shape.partitions)
    stream = draw.choice(sorted(streams))
    return stream, draw.choice(streams[stream])

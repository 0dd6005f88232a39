"""A city of an older release becomes one of today's, as docs/operations.md has it, while faults happen already."""

import asyncio
from contextlib import suppress
from random import Random

from shared.messaging import is_transient
from tests.faults.administration import AWAY, session
from tests.faults.stack import House, furnish

UPGRADE_SECONDS = 180.0
"""Longer than any fault keeps an operator from it."""
AGAIN_SECONDS = 0.5
MIGRATION_SECONDS = 0.5
"""About as long as a migration takes, once it has begun."""
_BEGUN = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)"
"""While no service runs, only a migration takes such a lock, in the transaction of each schema."""


async def upgrade(house: House, draw: Random) -> None:
    """Migrate, then start all processes. An operator tries again while a server is away. Raises TimeoutError."""
    async with house.stopped, asyncio.timeout(UPGRADE_SECONDS):
        for _ in range(house.shape.migrations_killed):
            await _kill_in_the_middle(house, draw.uniform(0, MIGRATION_SECONDS))
        while not await house.runs_command("migrate"):  # noqa: ASYNC110 - the event is elsewhere
            await asyncio.sleep(AGAIN_SECONDS)
        while not await _is_furnished(house):  # noqa: ASYNC110 - the event is elsewhere
            await asyncio.sleep(AGAIN_SECONDS)
        house.start()


async def _kill_in_the_middle(house: House, seconds: float) -> None:
    """So long after a migration has begun to change the database; not at all if it has ended by then."""
    process = await house.begin_command("migrate")
    try:
        with suppress(*AWAY):
            async with session(house.servers) as connection:
                while process.returncode is None and not await connection.fetchval(_BEGUN):  # noqa: ASYNC110 - the event is elsewhere
                    await asyncio.sleep(0.01)
        await asyncio.sleep(seconds)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _is_furnished(house: House) -> bool:
    """Whether the wards, post-holders and the rule of a fault run could be brought in."""
    try:
        await furnish(house)
    except Exception as error:
        if not is_transient(error):
            raise
        return False
    return True

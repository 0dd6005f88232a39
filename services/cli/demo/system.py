"""The running system that the sample is played on."""

import asyncio
from datetime import datetime

from rich.console import Console

from services.cli.all_services import AllServices
from services.cli.demo.sample import SAMPLES
from services.escalation.application import due_work
from services.escalation.application.import_directory import ImportingError, import_directory, import_wards
from services.intake.application.intake import UNITS_FRESH_SECONDS
from shared import messaging
from shared.clock import Clock
from shared.messaging import ESCALATION, INTAKE
from shared.operator import operator
from shared.settings import Settings

SETTLE_SECONDS = 30.0
POLL_SECONDS = 0.005


class SampleSystem:
    """All services in this process, on one settable clock."""

    def __init__(self, settings: Settings, clock: Clock, services: AllServices, address: str, console: Console) -> None:
        """Close it with `aclose`."""
        assert settings.redis_url is not None
        self.settings, self.clock, self.address, self.console = settings, clock, address, console
        self._services = services
        self._redis = messaging.connect(settings.redis_url)

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def next_due_at(self) -> datetime | None:
        """When the next deadline falls due or the next delivery may go; None if nothing waits."""
        return await due_work.next_due_at(self._services.escalation.escalation)

    async def settle(self) -> None:
        """Wait until nothing is under way: nothing due, no event unpublished or unread. Raises TimeoutError.

        Each report that was sent is routed by now, so all that is due is in the database. It is waited for first,
        because it writes the last events.
        """
        intake, escalation = self._services.intake, self._services.escalation
        partitions = self.settings.partitions
        streams = {**messaging.streams(INTAKE, partitions), **messaging.streams(ESCALATION, partitions)}
        outboxes = [
            (intake.intake.database, intake.outbox),
            (escalation.escalation.database, escalation.outbox),
        ]
        async with asyncio.timeout(SETTLE_SECONDS):
            while not await due_work.is_idle(escalation.escalation):
                escalation.clock_moved()
                await asyncio.sleep(POLL_SECONDS)
            await messaging.wait_drained(self._redis, outboxes, streams, SETTLE_SECONDS)

    async def import_file(self, name: str) -> int:
        """Import a file of the sample; returns how many lines changed something. Raises ImportingError."""
        run = import_wards if name.startswith("wards") else import_directory
        imported = await run(self._services.escalation.escalation.by(operator()), (SAMPLES / name).read_bytes())
        if imported.errors:
            raise ImportingError(name, imported.errors)
        self.console.print(f"imported {name}: {imported.recorded} of {imported.lines} lines are new")
        return imported.recorded

    async def import_file_midway(self, name: str) -> int:
        """As `import_file`, while intake already knows wards: returns when it goes by the new ones."""
        recorded = await self.import_file(name)
        if name.startswith("wards"):
            await self.settle()
            await asyncio.sleep(UNITS_FRESH_SECONDS)
        return recorded

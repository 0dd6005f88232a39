"""All services, each as a process of its own."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from services.cli.front.orders import Orders
from services.cli.front.service_process import ServiceProcess
from shared.clock import Clock
from shared.database import SERVICES
from shared.settings import Settings


class ServiceProcesses:
    """In the order in which they start. Made by `spawned`."""

    def __init__(self, folder: Path) -> None:
        self._services = [ServiceProcess(name, folder / name) for name in SERVICES]

    def __iter__(self) -> Iterator[ServiceProcess]:
        yield from self._services

    @classmethod
    @asynccontextmanager
    async def spawned(cls) -> AsyncGenerator["ServiceProcesses"]:
        """The processes, which import what they need while the caller does something else."""
        # not in the data folder: its path may be too long for a socket, and another `up` on the same servers may use it
        with tempfile.TemporaryDirectory(prefix="trucban-", dir="/tmp") as folder:
            processes = cls(Path(folder))
            try:
                for service in processes:
                    await service.spawn()
                yield processes
            finally:
                await processes._stop()

    @asynccontextmanager
    async def running(self, settings: Settings, clock: Clock) -> AsyncGenerator[asyncio.Task[None]]:
        """Keep the services running on what `settings` name. They are stopped in order when the block is left.

        Yields a task that ends only by ServiceEndedError, if a service ends when it is first started.
        """
        keeping = asyncio.create_task(self._keep(lambda name, socket: Orders(settings.of(name), clock.shift, socket)))
        try:
            yield keeping
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            await self._stop()

    async def _keep(self, orders: Callable[[str, Path], Orders]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for service in self:
                    group.create_task(service.keep_running(partial(orders, service.name)))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def until_started(self) -> None:
        """Return once every service has answered."""
        for service in self:
            await service.started.wait()

    async def _stop(self) -> None:
        """The last that was started is the first to stop, as in one process."""
        for service in reversed(self._services):
            await service.stop()

"""Running services in this process: embedded servers where none are configured, migrations, HTTP, an orderly end."""

import asyncio
import contextlib
import gc
import json
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import uvicorn

from services.cli.embedded import InUseError, embedded_servers
from services.cli.errors import CommandError
from shared.clock import Clock
from shared.database import SERVICES, migrate
from shared.http.identity import verifier
from shared.http.web import Service, compose
from shared.settings import Settings

ADDRESSES = "addresses.json"


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process ends in order, servers last.

    `closing` is called before it waits for its connections, so that those end which would not by themselves.
    """

    closing: Sequence[Callable[[], None]] = ()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for close in self.closing:
            close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def infrastructure(settings: Settings) -> AsyncGenerator[Settings]:
    """Settings with both addresses set: those that were given, or those of embedded servers started here.

    The addresses of embedded servers are left in `data`/addresses.json for `joined`.
    """
    wants_redis, wants_postgres = settings.redis_url is None, settings.database_url is None
    if not (wants_redis or wants_postgres):
        yield settings
        return
    async with embedded_servers(settings.data, redis=wants_redis, postgres=wants_postgres) as servers:
        found = {
            "redis_url": settings.redis_url or servers.redis_url,
            "database_url": settings.database_url or servers.database_url,
        }
        addresses = settings.data / ADDRESSES
        addresses.write_text(json.dumps(found), encoding="utf-8")
        try:
            yield settings.model_copy(update=found)
        finally:
            addresses.unlink(missing_ok=True)


@asynccontextmanager
async def joined(settings: Settings) -> AsyncGenerator[Settings]:
    """As `infrastructure`, but beside a running `trucban up` its servers are used."""
    async with AsyncExitStack() as stack:
        try:
            ready = await stack.enter_async_context(infrastructure(settings))
        except InUseError:
            ready = settings.model_copy(update=_addresses(settings.data / ADDRESSES))
        yield ready


def _addresses(file: Path) -> dict[str, str]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"the system in {file.parent} is just starting or ending: try again") from error


async def migrate_all(settings: Settings) -> None:
    assert settings.database_url is not None
    for service in SERVICES:
        await migrate(settings.database_url, service)


def build(settings: Settings, clock: Clock, names: Sequence[str]) -> list[Service]:
    """Only what is named is imported: the other services would take a process a second longer to start."""
    return [import_module(f"services.{name}.app").build(settings, clock) for name in names]


def listening_socket(host: str, port: int) -> socket.socket:
    """Raises CommandError when the port is taken."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise CommandError(
            f"port {port} cannot be used ({error.strerror}): stop what holds it, or give --port"
        ) from error
    return sock


@asynccontextmanager
async def serving(
    services: Sequence[Service], settings: Settings, sock: socket.socket
) -> AsyncGenerator[asyncio.Task[None]]:
    """Serve the services on `sock`; yields the server's task once requests are answered."""
    config = uvicorn.Config(
        compose(services, verifier(settings.keys_dir)), log_level="warning", access_log=False, lifespan="on"
    )
    server = Server(config)
    server.closing = [s.end_connections for s in services if s.end_connections is not None]
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            if task.done():
                await task
                raise CommandError("the services did not start: the lines above say why")
            await asyncio.sleep(0.01)
        gc.freeze()  # what was imported stays for good: looking through it again would be a pause of 0.1 s
        yield task
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def stop_on_signals() -> AsyncGenerator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set, so that everything is left in order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def until(stop: asyncio.Event, work: asyncio.Task[Any]) -> bool:
    """Wait for `work` or `stop`; True if the work was done. Errors of the work are raised."""
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        work.result()
    return work.done()

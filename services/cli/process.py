"""Serving services from this process over HTTP, until they are done or a signal stops them."""

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvicorn
from starlette.types import ASGIApp

from services.cli.connections import BEHIND_FRONT, Bounds, Connections, bounds_of_process
from services.cli.errors import CommandError
from services.cli.log import uvicorn_level
from services.cli.options import ServiceName
from shared.background import in_background
from shared.blocking import watch_blocking
from shared.clock import Clock
from shared.http.health import logged
from shared.http.identity import TokenVerifier, verifier
from shared.http.web import Service, checks_of_all, compose
from shared.messaging import describe_error, passes_by_itself
from shared.settings import LogLevel, Settings

log = structlog.get_logger()
T = TypeVar("T")
LONGEST_WAIT_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 5
FRONT_KEEP_ALIVE_SECONDS = 3600
"""Longer than the front keeps a connection: ours may not close just when the front sends a request on it."""


class StoppedError(Exception):
    """A signal came while the process waited for what it needs to start."""


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: `stop_on_signals` ends the process in order."""

    end_connections: Sequence[Callable[[], None]] = ()
    """Called before the server waits for its connections: they end those that would stay open."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for end in self.end_connections:
            end()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def load_service(name: ServiceName) -> Callable[[Settings, Clock], Service]:
    """What builds one service. The others are not imported: they would delay the start by a second."""
    match name:
        case "intake":
            from services.intake.app import build
        case "escalation":
            from services.escalation.app import build
        case "ledger":
            from services.ledger.app import build
    return build


def private_socket(path: Path) -> socket.socket:
    """A Unix socket for `serving`, in a folder that is ours alone. One that a killed process left is replaced."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return sock


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket for `serving`. Raises CommandError when the port is taken."""
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


async def patiently(what: str, work: Callable[[], Awaitable[T]], stop: asyncio.Event | None = None) -> T:
    """Do the work again while database or broker are away, and say so in the log.

    A process may be started before its database, or while that starts again. Raises StoppedError once `stop` is set,
    and at once what waiting does not mend, such as a wrong password.
    """
    stop, seconds = stop or asyncio.Event(), 0.2
    while True:
        try:
            return await work()
        except Exception as error:
            if not passes_by_itself(error):
                raise
            reason = str(error)[:200] if isinstance(error, OSError) else ""
            log.warning(f"{what} waits", error=describe_error(error), reason=reason, again_in=f"{seconds:g} s")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
        if stop.is_set():
            raise StoppedError
        seconds = min(seconds * 2, LONGEST_WAIT_SECONDS)


@asynccontextmanager
async def running(services: Sequence[Service], stop: asyncio.Event | None = None) -> AsyncGenerator[None]:
    """Run the services, started in order, and tell the log of their readiness.

    One whose database is away is waited for, until `stop` is set: that raises StoppedError.
    """
    async with AsyncExitStack() as stack:
        for service in services:
            await patiently(f"start of {service.name}", lambda s=service: stack.enter_async_context(s.running()), stop)
        await stack.enter_async_context(logged(checks_of_all(services)))
        await stack.enter_async_context(in_background(watch_blocking(), "watch over blocking"))
        yield


@asynccontextmanager
async def serving(
    services: Sequence[Service],
    settings: Settings,
    sock: socket.socket,
    clock: Clock | None = None,
    *,
    stop: asyncio.Event | None = None,
    behind_front: bool = False,
) -> AsyncGenerator[asyncio.Task[None]]:
    """Run the services and serve them on `sock`; yields the server's task once requests are answered.

    `clock`: theirs, for the page at `/`. `stop`: as for `running`. `behind_front`: as for `answering`.
    """
    async with running(services, stop):
        # the one of a service knows what was revoked
        tokens: TokenVerifier = services[0].app.state.verifier if services else verifier(settings.keys_dir)
        app = compose(services, tokens, clock)
        ends = [s.end_connections for s in services if s.end_connections is not None]
        bounds = BEHIND_FRONT if behind_front else bounds_of_process(settings.connections_per_client)
        async with answering(app, settings.log_level, sock, ends, bounds, behind_front=behind_front) as server:
            yield server


@asynccontextmanager
async def answering(
    app: ASGIApp,
    log_level: LogLevel,
    sock: socket.socket,
    end_connections: Sequence[Callable[[], None]],
    bounds: Bounds,
    *,
    behind_front: bool = False,
) -> AsyncGenerator[asyncio.Task[None]]:
    """Serve `app` on `sock` within `bounds`; yields the server's task once requests are answered.

    `behind_front`: only our front process can reach `sock`. It is believed who the client is, and keeps connections.
    """
    connections = Connections(bounds)
    config = uvicorn.Config(
        app,
        http=connections.protocol(),
        ws="none",
        log_level=uvicorn_level(log_level),
        access_log=False,
        lifespan="off",  # the services run already. uvicorn would answer one that does not start with a traceback
        forwarded_allow_ips="*" if behind_front else None,
        timeout_keep_alive=FRONT_KEEP_ALIVE_SECONDS if behind_front else KEEP_ALIVE_SECONDS,
    )
    server = Server(config)
    server.end_connections = end_connections
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            if task.done():
                await task
                raise CommandError("the server did not start: the lines above say why")
            await asyncio.sleep(0.01)
        gc.freeze()  # what was imported stays for good: looking through it again would be a pause of 0.1 s
        async with in_background(connections.watch(), "watch over connections"):
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


async def wait_for(work: asyncio.Future[Any], stop: asyncio.Event) -> bool:
    """Wait until `work` is done or `stop` is set; True if the work is done. Raises the error of the work."""
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        work.result()
    return work.done()

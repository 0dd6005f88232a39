"""`trucban up`: everything in one process tree, with the sample or without it."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from services.cli.connections import bounds_of_process, raise_open_files
from services.cli.demo.settings import sample_settings
from services.cli.doctor.start import print_start
from services.cli.embedded import erase
from services.cli.errors import CommandError
from services.cli.front.app import Front, process_check
from services.cli.front.service_process import ServiceEndedError
from services.cli.front.service_processes import ServiceProcesses
from services.cli.infrastructure import infrastructure, migrate_all
from services.cli.process import StoppedError, answering, listening_socket, patiently, stop_on_signals, wait_for
from services.ledger.app import load_signer
from services.ledger.application import newest_recorded_at
from shared.background import in_background
from shared.blocking import watch_blocking
from shared.clock import Clock, local
from shared.credentials.following import OWNERS, Following
from shared.database import SERVICES, connect
from shared.http.health import Check, logged
from shared.http.identity import verifier
from shared.settings import Settings


async def run_everything(settings: Settings, *, port: int, sample: bool, demo: bool, console: Console) -> int:
    """Run until a signal, or with `demo` until the sample was played. Returns the exit code."""
    try:
        return await _run(settings, port=port, sample=sample, demo=demo, console=console)
    except StoppedError:
        return 0
    except ServiceEndedError as ended:
        return ended.code


async def _run(settings: Settings, *, port: int, sample: bool, demo: bool, console: Console) -> int:
    if (sample or demo) and (settings.database_url or settings.redis_url):
        raise CommandError(
            "the sample night plays on embedded servers only: unset DATABASE_URL and REDIS_URL, or say --no-sample"
        )
    if sample or demo:
        folder = settings.data / ("demo" if demo else "sample")
        settings = sample_settings(settings, folder).model_copy(update={"print_notices": console.is_terminal})
    done = settings.data / "sample.json"
    plays = demo or (sample and not done.exists())
    async with AsyncExitStack() as stack:
        sock = stack.enter_context(listening_socket("127.0.0.1", 0 if demo else port))
        address = f"http://127.0.0.1:{sock.getsockname()[1]}"
        if plays:
            erase(settings.data)
        stop = await stack.enter_async_context(stop_on_signals())
        raise_open_files()  # the services' processes inherit it
        # before the servers: they import meanwhile, also while the sample plays
        processes = None if demo else await stack.enter_async_context(ServiceProcesses.spawned())
        ready = await stack.enter_async_context(infrastructure(_with_public_url(settings, address)))
        await patiently("migration", lambda: migrate_all(ready), stop)
        resumes = sample and not plays
        clock = Clock(await patiently("clock", lambda: _resume_at(ready), stop) if resumes else settings.clock)
        if plays:
            from services.cli.demo.run import run_sample  # imports all services

            code = await run_sample(ready, clock, sock, console, done, stop)
            if processes is None or code is None:
                return 1 if code is None else code
        assert processes is not None
        keeping = await stack.enter_async_context(processes.running(ready, clock))
        server = await stack.enter_async_context(_front(processes, ready, sock, clock))
        if await wait_for(_first(keeping, server, asyncio.create_task(processes.until_started())), stop):
            _print_addresses(console, address, ready, clock)
            print_start(console, ready, sample=sample)
            await wait_for(_first(keeping, server), stop)
    return 0


@asynccontextmanager
async def _front(
    processes: ServiceProcesses, settings: Settings, sock: socket.socket, clock: Clock
) -> AsyncGenerator[asyncio.Task[None]]:
    """Serve the city on `sock`; yields the server's task."""
    assert settings.database_url is not None
    tokens = verifier(settings.keys_dir)
    front = Front(processes, tokens, clock)
    bounds = bounds_of_process(settings.connections_per_client)
    database = connect(settings.database_url, pool_size=1)
    following = Following(database, OWNERS, tokens.revoked, on_poll=tokens.reload)

    async def checks() -> list[Check]:
        return [process_check(service) for service in processes]  # a service tells the log of its other checks itself

    async with (
        _disposing(database),
        following.running(),
        logged(checks),
        in_background(watch_blocking(), "watch over blocking"),
        answering(front, settings.log_level, sock, [front.end_streams], bounds) as server,
    ):
        yield server


@asynccontextmanager
async def _disposing(database: AsyncEngine) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await database.dispose()


def _first(*works: asyncio.Task[None]) -> asyncio.Task[None]:
    """A task that ends as the first of `works` does."""

    async def end() -> None:
        done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        for work in done:
            work.result()

    return asyncio.create_task(end())


def _with_public_url(settings: Settings, address: str) -> Settings:
    """Links lead to this process, unless another address is configured."""
    if settings.public_url != Settings.model_fields["public_url"].default:
        return settings
    return settings.model_copy(update={"public_url": address})


async def _resume_at(settings: Settings) -> datetime | None:
    """Where the clock of a sample that was played goes on: at the newest entry of its ledger."""
    assert settings.database_url is not None
    database = connect(settings.database_url, pool_size=1)
    try:
        return await newest_recorded_at(database)
    finally:
        await database.dispose()


def _print_addresses(console: Console, address: str, settings: Settings, clock: Clock) -> None:
    if clock.is_moved:
        now = local(clock.now())
        console.print(f"[bold]SAMPLE DATA[/bold]: the clock was moved and now says {now:%Y-%m-%d %H:%M} (+07:00)")
    console.print(f"Trực Ban serves {address}  (stop: Ctrl-C)", highlight=False)
    for name in SERVICES:
        console.print(f"  {address}/{name}/docs", highlight=False)
    vkey = load_signer(settings).verifier.vkey()
    console.print(f"  ledger key: {vkey}", highlight=False, soft_wrap=True)
    console.print(f"  notices are written to {settings.data / 'outbox.ndjson'}", highlight=False, soft_wrap=True)
    console.print(
        f"  a token: trucban token issue --role desk --subject me --data {settings.data}",
        highlight=False,
        soft_wrap=True,
    )

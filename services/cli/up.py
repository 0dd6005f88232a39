"""`trucban up`: everything in one process tree, with the sample or without it."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime

from rich.console import Console

from services.cli.all_services import build_all
from services.cli.demo.play import play_sample
from services.cli.demo.sample import START
from services.cli.demo.settings import sample_settings
from services.cli.demo.system import SampleSystem
from services.cli.doctor.start import print_start
from services.cli.embedded import erase
from services.cli.errors import CommandError
from services.cli.infrastructure import infrastructure, migrate_all
from services.cli.process import StoppedError, listening_socket, patiently, serving, stop_on_signals, wait_for
from services.ledger.app import load_signer
from services.ledger.application import newest_recorded_at
from shared.clock import Clock, local
from shared.database import SERVICES, connect
from shared.settings import Settings


async def run_everything(settings: Settings, *, port: int, sample: bool, demo: bool, console: Console) -> int:
    """Run until a signal, or with `demo` until the sample was played. Returns the exit code."""
    try:
        return await _run(settings, port=port, sample=sample, demo=demo, console=console)
    except StoppedError:
        return 0


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
        ready = await stack.enter_async_context(infrastructure(_with_public_url(settings, address)))
        await patiently("migration", lambda: migrate_all(ready), stop)
        resumes = sample and not plays
        now = await patiently("clock", lambda: _resume_at(ready), stop) if resumes else settings.clock
        clock = Clock(START if plays else now)
        services = build_all(ready, clock)
        server = await stack.enter_async_context(serving(list(services), ready, sock, clock, stop=stop))
        if plays:
            system = SampleSystem(ready, clock, services, address, console)
            stack.push_async_callback(system.aclose)
            playing = asyncio.create_task(play_sample(system, done))
            if not await wait_for(playing, stop):
                playing.cancel()
                await asyncio.wait({playing})
                console.print("stopped during the sample night; the next run plays it from its beginning")
                return 1
            if demo:
                return playing.result()
        _print_addresses(console, address, ready, clock)
        print_start(console, ready, sample=sample)
        await wait_for(server, stop)
    return 0


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

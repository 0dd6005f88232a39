"""`trucban up`: everything in one process tree, with the sample night on its moved clock."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import select

from services.cli.all_services import AllServices, build_all
from services.cli.auditing import verify_source
from services.cli.demo.sample import (
    COUNTED_PURPOSES,
    POLL_SECONDS,
    SAMPLES,
    Night,
    Result,
    Tokens,
    delivered,
    whole_sample,
)
from services.cli.embedded import erase
from services.cli.process import (
    CommandError,
    infrastructure,
    listening_socket,
    migrate_all,
    serving,
    stop_on_signals,
    until,
)
from services.escalation.application import import_directory
from services.escalation.application.escalation import Escalation
from services.escalation.store import tables as escalation_tables
from services.escalation.store import timers
from services.intake.application.intake import UNITS_FRESH_SECONDS
from services.intake.store import outbox as intake_outbox
from services.ledger.app import load_signer
from services.ledger.store.queries import newest_recording
from shared import messaging
from shared.clock import Clock, local
from shared.database import SERVICES, connect
from shared.http.identity import issuer
from shared.messaging import ESCALATION, INTAKE
from shared.settings import Settings

SETTLE_SECONDS = 30.0
BEFORE_THE_NIGHT = datetime.fromisoformat("2023-01-06T08:00:00+07:00")


@dataclass(frozen=True)
class Running:
    """What runs, for those who play the sample on it."""

    settings: Settings
    clock: Clock
    services: AllServices
    address: str
    console: Console

    @property
    def escalation(self) -> Escalation:
        return self.services.escalation.escalation

    async def settle(self) -> None:
        await settle(self)

    async def next_due(self) -> datetime | None:
        async with self.escalation.database.connect() as connection:
            return await timers.next_due(connection)

    async def bring_in(self, name: str) -> int:
        recorded = await import_file(self, name)
        if name.startswith("wards"):
            await self.settle()
            await asyncio.sleep(UNITS_FRESH_SECONDS)  # so long intake goes by the units that it read before
        return recorded


async def up(settings: Settings, *, port: int, sample: bool, demo: bool, console: Console) -> int:
    """Run until a signal, or with `demo` until the sample night is over. Returns the exit code."""
    if (sample or demo) and (settings.database_url or settings.redis_url):
        raise CommandError(
            "the sample night plays on embedded servers only: unset DATABASE_URL and REDIS_URL, or say --no-sample"
        )
    if sample or demo:
        folder = settings.data / ("demo" if demo else "sample")
        settings = of_its_own(settings, folder).model_copy(update={"print_notices": console.is_terminal})
    done = settings.data / "sample.json"
    plays = demo or (sample and not done.exists())
    sock = listening_socket("127.0.0.1", 0 if demo else port)
    if plays:
        erase(settings.data)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    if settings.public_url == Settings.model_fields["public_url"].default:
        settings = settings.model_copy(update={"public_url": address})
    async with AsyncExitStack() as stack:
        stack.enter_context(sock)
        stop = await stack.enter_async_context(stop_on_signals())
        ready = await stack.enter_async_context(infrastructure(settings))
        await migrate_all(ready)
        clock = Clock(await _start(ready, plays=plays, sample=sample))
        services = build_all(ready, clock)
        running = Running(ready, clock, services, address, console)
        server = await stack.enter_async_context(serving(list(services), ready, sock))
        if plays:
            night = asyncio.create_task(play(running, done))
            if not await until(stop, night):
                night.cancel()
                await asyncio.wait({night})
                console.print("stopped during the sample night; the next run plays it from its beginning")
                return 1
            if demo:
                return night.result()
        say_where(running)
        await until(stop, server)
    return 0


def of_its_own(settings: Settings, folder: Path) -> Settings:
    """The sample tells nobody real and signs with no real key, whatever is configured for the city."""
    own = (
        "keys",
        "clock",
        "partitions",
        "desk_channel",
        "leadership_channel",
        "log_channel",
        "heartbeat_url",
        "public_url",
        "ledger_origin",
    )
    defaults = {name: Settings.model_fields[name].default for name in own}
    return settings.model_copy(update=defaults | {"data": folder})


async def _start(settings: Settings, *, plays: bool, sample: bool) -> datetime | None:
    """The clock begins before the night, goes on from the ledger's newest entry, or is the configured or real one."""
    if plays:
        return BEFORE_THE_NIGHT
    if not sample:
        return settings.clock
    assert settings.database_url is not None
    engine = connect(settings.database_url, pool_size=1)
    try:
        async with engine.connect() as connection:
            return await newest_recording(connection)
    finally:
        await engine.dispose()


async def play(running: Running, done: Path) -> int:
    """Import the sample directory, play the night, verify the ledger; 0 if all is as expected."""
    console = running.console
    await import_sample(running)
    sample = whole_sample()
    tokens = Tokens(issuer(running.settings.keys_dir))
    async with httpx.AsyncClient(base_url=running.address, timeout=60) as client:
        night = Night(client, tokens, running.clock, running)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("sample night", total=len(sample))
            result = await night.play(sample, lambda: progress.advance(task))
    verified = await _verify(running, tokens)
    code = _report(running, result, verified, await _issued(running))
    await asyncio.to_thread(done.write_text, json.dumps({"code": code}))
    return code


async def import_sample(running: Running) -> None:
    for name in ("wards.csv", "directory.csv"):
        await import_file(running, name)
    await settle(running)


async def import_file(running: Running, name: str) -> int:
    """Returns how many lines changed something. Raises ImportingError."""
    run = import_directory.import_wards if name.startswith("wards") else import_directory.import_directory
    imported = await run(running.escalation, (SAMPLES / name).read_bytes())
    if imported.errors:
        raise import_directory.ImportingError(name, imported.errors)
    running.console.print(f"imported {name}: {imported.recorded} of {imported.lines} lines are new")
    return imported.recorded


async def settle(running: Running) -> None:
    """Until nothing is under way: no delivery or deadline due, no event unpublished or unread.

    In this order, as reports are known to be routed: all that sends or waits was written before, and its last events
    are on their way when it has ended.
    """
    settings, escalation = running.settings, running.escalation
    assert settings.redis_url is not None
    streams = {
        **messaging.streams(INTAKE, settings.partitions),
        **messaging.streams(ESCALATION, settings.partitions),
    }
    outboxes = [(escalation.database, intake_outbox), (escalation.database, escalation_tables.outbox)]
    redis = messaging.connect(settings.redis_url)
    async with asyncio.timeout(SETTLE_SECONDS):
        while not await _is_idle(escalation):
            running.services.escalation.timers.wake()
            await asyncio.sleep(POLL_SECONDS)
        await messaging.wait_settled(redis, outboxes, streams, SETTLE_SECONDS)
    await redis.aclose()


async def _is_idle(escalation: Escalation) -> bool:
    async with escalation.database.connect() as connection:
        return await timers.is_idle(connection, escalation.clock.now())


@dataclass(frozen=True)
class Verified:
    ok: bool
    entries: int
    failures: Sequence[str]


async def _verify(running: Running, tokens: Tokens) -> Verified:
    vkey = load_signer(running.settings).verifier.vkey()
    token = tokens.role("auditor")["authorization"].removeprefix("Bearer ")
    report = await asyncio.to_thread(verify_source, running.address, vkey, token, None)
    return Verified(report.is_verified, report.entries, [str(f) for f in report.failures])


async def _issued(running: Running) -> set[str]:
    """Ids of the notices to post-holders and of step-ups, exercises apart."""
    notice = escalation_tables.notice
    counted = select(notice.c.notice_id).where(notice.c.purpose.in_(COUNTED_PURPOSES), notice.c.exercise.is_(False))
    async with running.escalation.database.connect() as connection:
        return set(await connection.scalars(counted))


def _report(running: Running, result: Result, verified: Verified, issued: set[str]) -> int:
    console = running.console
    arrived = delivered(running.settings.data / "outbox.ndjson")
    problems = [
        *result.differences,
        *(f"notice {notice_id} did not reach its channel" for notice_id in sorted(issued - arrived)),
        *(f"ledger: {f}" for f in verified.failures),
    ]
    for problem in problems:
        console.print(f"[red]differs[/red] {problem}", soft_wrap=True)
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(result.outcomes.items()))
    console.print(f"{result.rows} rows played: reports {outcomes}; {len(problems)} differences", soft_wrap=True)
    console.print(
        f"demo: {result.reports} reports, {result.incidents} incidents, {result.decisions} decisions, "
        f"{len(arrived)} notices delivered, ledger of {verified.entries} entries "
        f"{'verified' if verified.ok else 'NOT verified'}",
        soft_wrap=True,
        highlight=False,
    )
    return 0 if verified.ok and not problems else 1


def say_where(running: Running) -> None:
    console, settings = running.console, running.settings
    if running.clock.is_moved:
        now = local(running.clock.now())
        console.print(f"[bold]SAMPLE DATA[/bold]: the clock was moved and now says {now:%Y-%m-%d %H:%M} (+07:00)")
    console.print(f"Trực Ban serves {running.address}  (stop: Ctrl-C)", highlight=False)
    for name in SERVICES:
        console.print(f"  {running.address}/{name}/docs", highlight=False)
    console.print(f"  ledger key: {load_signer(settings).verifier.vkey()}", highlight=False, soft_wrap=True)
    console.print(f"  notices are written to {settings.data / 'outbox.ndjson'}", highlight=False, soft_wrap=True)
    console.print(
        f"  a token: trucban token issue --role desk --subject me --data {settings.data}",
        highlight=False,
        soft_wrap=True,
    )

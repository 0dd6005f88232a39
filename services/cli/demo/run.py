"""The services in this process, for as long as the sample is played on them: it moves the one clock of all."""

import asyncio
import socket
from contextlib import aclosing
from pathlib import Path

from rich.console import Console

from services.cli.all_services import build_all
from services.cli.demo.play import play_sample
from services.cli.demo.sample import START
from services.cli.demo.system import SampleSystem
from services.cli.process import serving, wait_for
from shared.clock import Clock
from shared.settings import Settings


async def run_sample(
    settings: Settings, clock: Clock, sock: socket.socket, console: Console, done: Path, stop: asyncio.Event
) -> int | None:
    """Play the sample, served on a copy of `sock`. Returns what `play_sample` does; None if `stop` came before the end.

    `clock` is left where the sample ends.
    """
    clock.set(START)
    services = build_all(settings, clock)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with (
        serving(list(services), settings, sock.dup(), clock, stop=stop),
        aclosing(SampleSystem(settings, clock, services, address, console)) as system,
    ):
        playing = asyncio.create_task(play_sample(system, done))
        if await wait_for(playing, stop):
            return playing.result()
        playing.cancel()
        await asyncio.wait({playing})
        console.print("stopped during the sample night; the next run plays it from its beginning")
    return None

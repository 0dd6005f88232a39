"""`trucban up`, `serve` and `migrate`: running the system."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.common import Data, console, run
from services.cli.errors import CommandError
from services.cli.log import set_log_level
from services.cli.options import ServiceName, read_settings
from shared.clock import Clock
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.http.web import Service  # takes long to import, and most commands need none


def up(
    data: Data = None,
    port: Annotated[int, typer.Option(help="HTTP port on 127.0.0.1", min=0, max=65535)] = 8080,
    sample: Annotated[bool, typer.Option("--sample/--no-sample", help="with the sample night of Tết 2023")] = True,
    demo: Annotated[bool, typer.Option(help="play the sample night, compare, and exit")] = False,
) -> None:
    """Everything in one process tree on embedded servers. Example: trucban up --no-sample --port 9000"""
    from services.cli.doctor.settings import refuse_wrong_channels
    from services.cli.up import run_everything

    settings = read_settings(data)
    refuse_wrong_channels(settings)
    raise SystemExit(run(run_everything(settings, port=port, sample=sample, demo=demo, console=console)))


def serve(
    service: Annotated[ServiceName, typer.Argument()],
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    behind_front: Annotated[bool, typer.Option("--behind-front", hidden=True)] = False,
) -> None:
    """One service against REDIS_URL and DATABASE_URL. Example: trucban serve intake --port 8081"""
    from services.cli.process import listening_socket, load_service

    if behind_front:  # `trucban up` started us
        _serve_behind_front(service)
        return
    from services.cli.doctor.settings import refuse_wrong_channels
    from services.cli.doctor.start import log_start

    settings = read_settings()
    if settings.redis_url is None or settings.database_url is None:
        raise CommandError("serve needs REDIS_URL and DATABASE_URL; for embedded servers use: trucban up --no-sample")

    if service == "escalation":
        refuse_wrong_channels(settings)
    log_start(settings, where=service == "escalation")
    with listening_socket(host, port) as sock:
        build = load_service(service)
        run(_serve(build, settings, Clock(settings.clock), sock))


def _serve_behind_front(service: ServiceName) -> None:
    from services.cli.front.orders import take_orders
    from services.cli.process import load_service, private_socket

    build = load_service(service)  # it takes long: orders come meanwhile
    orders = take_orders()
    set_log_level(orders.settings.log_level)
    with private_socket(orders.socket) as sock:
        run(_serve(build, orders.settings, Clock(shift=orders.clock_shift), sock, behind_front=True))


async def _serve(
    build: "Callable[[Settings, Clock], Service]",
    settings: Settings,
    clock: Clock,
    sock: socket.socket,
    *,
    behind_front: bool = False,
) -> None:
    """Serve one service until a signal comes."""
    from services.cli.process import StoppedError, serving, stop_on_signals, wait_for

    services = [build(settings, clock)]
    with suppress(StoppedError):
        async with (
            stop_on_signals() as stop,
            serving(services, settings, sock, stop=stop, behind_front=behind_front) as server,
        ):
            await wait_for(server, stop)


def migrate() -> None:
    """Schemas to their newest version, and keys made; idempotent. Example: DATABASE_URL=… trucban migrate"""
    from services.cli.infrastructure import infrastructure, migrate_all, set_passwords
    from services.cli.keys import deal_keys, make_keys

    async def work() -> None:
        async with infrastructure(read_settings()) as settings:
            await migrate_all(settings)
            await set_passwords(settings)
            make_keys(settings.keys_dir)
            deal_keys(settings.keys_dir)

    run(work())
    console.print("schemas are at their newest version")

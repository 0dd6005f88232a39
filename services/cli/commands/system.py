"""`trucban up`, `serve` and `migrate`: running the system."""

from contextlib import suppress
from typing import Annotated

import typer

from services.cli.commands.common import Data, console, run
from services.cli.errors import CommandError
from services.cli.options import ServiceName, read_settings
from shared import pseudonym
from shared.clock import Clock
from shared.keys import secret, write_public_key

INTAKE_SECRETS = ("content", "reporter")


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
) -> None:
    """One service against REDIS_URL and DATABASE_URL. Example: trucban serve intake --port 8081"""
    from services.cli.doctor.settings import refuse_wrong_channels
    from services.cli.doctor.start import log_start
    from services.cli.process import (
        StoppedError,
        build_service,
        listening_socket,
        serving,
        stop_on_signals,
        wait_for,
    )

    settings = read_settings()
    if settings.redis_url is None or settings.database_url is None:
        raise CommandError("serve needs REDIS_URL and DATABASE_URL; for embedded servers use: trucban up --no-sample")

    if service == "escalation":
        refuse_wrong_channels(settings)
    log_start(settings, where=service == "escalation")

    async def work() -> None:
        with listening_socket(host, port) as sock:
            built = build_service(service, settings, Clock(settings.clock))
            with suppress(StoppedError):
                async with stop_on_signals() as stop, serving([built], settings, sock, stop=stop) as server:
                    await wait_for(server, stop)

    run(work())


def migrate() -> None:
    """Schemas to their newest version, and keys made; idempotent. Example: DATABASE_URL=… trucban migrate"""
    from services.cli.infrastructure import infrastructure, migrate_all
    from services.ledger.app import load_signer

    async def work() -> None:
        async with infrastructure(read_settings()) as settings:
            await migrate_all(settings)
            load_signer(settings)
            write_public_key(settings.keys_dir, "token")
            # all keys, so that services can be given them read-only
            for name in (*INTAKE_SECRETS, "link", pseudonym.KEY):
                secret(settings.keys_dir, name)

    run(work())
    console.print("schemas are at their newest version")

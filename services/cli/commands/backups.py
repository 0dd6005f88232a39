"""`trucban backup` and `restore`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands.common import AsJson, Data, console, run, show_progress
from services.cli.files import read_text
from services.cli.options import read_settings
from shared.clock import local

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="folder of the backup")]


def backup(folder: Folder, data: Data = None, as_json: AsJson = False) -> None:
    """Database and keys into a new folder, as they are at one moment, while the system runs or not.

    The folder holds private keys and personal data: keep it as you keep those. Example: trucban backup /srv/backup/1
    """
    from services.cli.backup import make_backup, read_backup
    from services.cli.infrastructure import existing_system

    settings = read_settings(data)

    async def work() -> None:
        async with existing_system(settings) as ready:
            assert ready.database_url is not None
            with show_progress("tables", as_json=as_json) as progress:
                await make_backup(ready.database_url, ready.keys_dir, folder, progress)

    run(work())
    with show_progress("files checked", as_json=as_json) as progress:
        made = read_backup(folder, progress)
    rows, size = sum(table.rows for table in made.tables), sum(file.bytes for file in made.files)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "rows": rows, "bytes": size, "ledger_size": made.ledger_size}))
    else:
        when = f"{local(made.made_at):%Y-%m-%d %H:%M} (+07:00)"
        console.print(
            f"backup of {when} in {folder}: {rows} rows, {size} bytes, ledger of {made.ledger_size} entries",
            highlight=False,
            soft_wrap=True,
        )


def restore(
    folder: Folder,
    data: Data = None,
    known: Annotated[Path | None, typer.Option(help="the newest ledger checkpoint that somebody kept")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="delete what the database and the keys hold now")] = False,
    lose_entries: Annotated[
        bool, typer.Option("--lose-entries", help="go on although the ledger is known to have been longer")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """A backup back into database, keys and streams, with the services stopped: all of it or nothing.

    Example: trucban restore /srv/backup/1 --known checkpoint.txt
    """
    from services.cli.backup import read_backup, restore_backup
    from services.cli.infrastructure import infrastructure

    note = read_text("checkpoint", known) if known else None
    with show_progress("files checked", as_json=as_json) as progress:
        manifest = read_backup(folder, progress)
    settings = read_settings(data)

    async def work() -> None:
        async with infrastructure(settings) as ready:
            with show_progress("tables", as_json=as_json) as progress:
                done = await restore_backup(
                    ready, folder, manifest, progress, known=note, replace=replace, lose_entries=lose_entries
                )
        if as_json:
            said = {"rows": done.rows, "ledger_size": done.ledger_size, "lost": done.lost}
            typer.echo(json.dumps(said | {"keys": str(ready.keys_dir.resolve())}))
            return
        lost = f"; {done.lost} entries that the ledger had are lost" if done.lost else ""
        restored = f"restored: {done.rows} rows, ledger of {done.ledger_size} entries{lost}"
        console.print(f"{restored}; keys in {ready.keys_dir.resolve()}", highlight=False, soft_wrap=True)
        console.print("now start the services, and verify the ledger: docs/operations.md", highlight=False)

    run(work())

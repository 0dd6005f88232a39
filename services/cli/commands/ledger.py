"""`trucban ledger`: the auditor's commands."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands.common import AsJson, Data, Token, read_settings_with_key, show_progress
from services.cli.files import read_text

app = typer.Typer(help="The audit ledger.", no_args_is_help=True)


@app.command("verify")
def verify(
    source: Annotated[str, typer.Argument(help="an export file, or the address of the system")],
    key: Annotated[str, typer.Option(help="the ledger's verifier key, from somebody you trust")],
    known: Annotated[Path | None, typer.Option(help="a checkpoint that you kept: the log must extend it")] = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Check that the ledger is whole, in order and unchanged, off-line.

    Example: trucban ledger verify export.ndjson --key 'trucban.local/ledger+…'
    """
    from services.cli.verify_ledger import verify_ledger

    earlier = read_text("checkpoint", known) if known else None
    with show_progress("entries", as_json=as_json) as progress:
        done = verify_ledger(source, key, token, progress, earlier)
    if as_json:
        failures = [str(failure) for failure in done.failures]
        shown = {"ok": done.is_verified, "entries": done.entries, "failed": done.failed, "failures": failures}
        typer.echo(json.dumps(shown))
    else:
        for failure in done.failures:
            sys.stderr.write(f"{failure}\n")
        typer.echo(f"ledger of {done.entries} entries {'verified' if done.is_verified else 'NOT verified'}")
    raise SystemExit(0 if done.is_verified else 1)


@app.command("key")
def show_key(data: Data = None) -> None:
    """The ledger's verifier key, to be handed to auditors. Example: trucban ledger key"""
    from services.ledger.app import load_signer

    typer.echo(load_signer(read_settings_with_key(data, "ledger")).verifier.vkey())

"""`trucban dead-letters`: events that a service could not handle."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.common import AsJson, By, Data, one_line, run
from services.cli.options import read_settings
from shared.operator import operator

if TYPE_CHECKING:
    from services.cli.dead_letters import Letter

Letters = Annotated[list[str] | None, typer.Argument(help="names as list shows them, such as escalation/3")]
All = Annotated[bool, typer.Option("--all", help="every dead letter")]
app = typer.Typer(help="Events that a service could not handle.", no_args_is_help=True)


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """What each service could not handle, and why; nothing of what an event says. Exit 0, also when there are some.

    Example: trucban dead-letters list
    """
    from services.cli.dead_letters import list_letters

    letters = run(list_letters(read_settings(data)))
    if as_json:
        typer.echo(json.dumps([letter.as_json() for letter in letters]))
        return
    for letter in letters:
        typer.echo(_line(letter))
    typer.echo(f"{len(letters)} dead letters")


@app.command("retry")
def retry(
    letters: Letters = None,
    everything: All = False,
    wait: Annotated[float, typer.Option(min=0, max=3600, help="seconds to wait for the services to try")] = 10,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Have the service handle events again: now if it runs, else when it runs next. Exit 1 if one failed again.

    What is handled is no dead letter any more. Example: trucban dead-letters retry --all
    """
    from services.cli.dead_letters import retry_letters

    names = _names(letters, everything=everything)
    left = run(retry_letters(read_settings(data), names, wait=wait))
    failed = [letter for letter in left if not letter.row.is_marked]
    if as_json:
        typer.echo(json.dumps([letter.as_json() for letter in left]))
    else:
        for letter in left:
            typer.echo(_line(letter))
        typer.echo(f"{len(failed)} failed again, {len(left) - len(failed)} wait for their service to run")
    raise SystemExit(1 if failed else 0)


@app.command("discard")
def discard(
    reason: Annotated[str, typer.Option(callback=one_line, help="why nobody will miss it; goes into the ledger")],
    letters: Letters = None,
    everything: All = False,
    by: By = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Give events up for good. The ledger keeps who did so, why, and which event it was.

    Example: trucban dead-letters discard escalation/3 --reason "a test of the sensor's maker"
    """
    from services.cli.dead_letters import discard_letters

    if not reason.strip():
        raise typer.BadParameter("--reason is empty: say why nobody will miss it")
    names = _names(letters, everything=everything)
    done = run(discard_letters(read_settings(data), names, reason.strip(), operator(by)))
    typer.echo(json.dumps([letter.as_json() for letter in done]) if as_json else f"{len(done)} discarded")


def _names(letters: Sequence[str] | None, *, everything: bool) -> Sequence[str]:
    """Empty for all of them."""
    if everything == bool(letters):
        raise typer.BadParameter("name the letters, or say --all")
    return letters or ()


def _line(letter: "Letter") -> str:
    event = f"{letter.event.type} {letter.event.id}" if letter.event else f"no event: SHA-256 {letter.row.digest}"
    state = "to be retried" if letter.row.is_marked else f"{letter.row.deliveries} deliveries, {letter.row.error}"
    return f"{letter.name}  {letter.row.at:%Y-%m-%d %H:%M:%SZ}  {letter.row.stream}  {event}  {state}"

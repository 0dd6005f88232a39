"""`trucban contacts`: whether the channels of people in office reach them."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.commands.common import LOCAL, AsJson, Token, Url, console, show_progress
from shared.clock import local

if TYPE_CHECKING:
    from services.cli.contact_tests import Followed

app = typer.Typer(help="The channels of people in office.", no_args_is_help=True)


@app.command("test")
def test(
    ward: Annotated[str | None, typer.Option(help="code, CODE@VALID_FROM or name; default: all wards")] = None,
    wait: Annotated[float, typer.Option(min=0, max=3600, help="seconds to follow the sending")] = 60,
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send a test message to every channel of everybody in office, with a link to confirm.

    It takes a token of the desk or of an administrator. Exit 0 if every channel took its message, or will when quiet
    hours end; 1 if one did not, or somebody has none. Who has confirmed later: trucban contacts list.

    Example: trucban contacts test --ward "P. Ba Đình"
    """
    from services.cli.contact_tests import start_test

    with _progress(as_json=as_json) as progress:
        done = start_test(url, token, ward, progress, wait=wait)
    _print(done, done.troubled, as_json=as_json)
    raise SystemExit(1 if done.troubled or not done.heard else 0)


@app.command("list")
def list_(
    test: Annotated[str, typer.Argument(help="id of a test")] = "latest",
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Who has not confirmed a test, and whose channel failed. Exit 0 if every channel of a test was confirmed, else 1.

    Example: trucban contacts list --json
    """
    from services.cli.contact_tests import read_test

    done = read_test(url, token, test)
    _print(done, done.unconfirmed, as_json=as_json)
    raise SystemExit(1 if done.unconfirmed else 0)


@contextmanager
def _progress(*, as_json: bool) -> Generator[Callable[[int, int], None]]:
    """A bar on a terminal, else a line whenever more is sent; nothing for JSON."""
    if as_json or console.is_terminal:
        with show_progress("test messages", as_json=as_json, transient=True) as shown:
            yield shown
        return
    last = -1

    def show(done: int, total: int) -> None:
        nonlocal last
        if done != last:
            typer.echo(f"test messages: {done} of {total} sent, or waiting for quiet hours to end")
        last = done

    yield show


def _print(done: "Followed", listed: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(done.test, ensure_ascii=False))
        return
    for contact in listed:
        typer.echo(_line(contact))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(done.test["outcomes"].items()))
    typer.echo(f"test {done.test['id']}: {counts}; links until {_local(done.test['confirm_by'])}")


def _local(instant: str) -> str:
    """The city's time, to the minute."""
    return local(datetime.fromisoformat(instant)).isoformat(timespec="minutes")


def _line(contact: dict[str, Any]) -> str:
    posts = "; ".join(f"{held['post']} {held['kind']} {held['ward']['name']}" for held in contact["posts"])
    why = contact["error"] or (f"not before {_local(contact['not_before'])}" if contact["not_before"] else "")
    said = f"{contact['outcome']}{f' ({why})' if why else ''}"
    return f"{contact['holder_id']}  {contact['holder_name']}  {posts}  {contact['channel'] or '-'}  {said}"

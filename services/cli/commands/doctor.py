"""`trucban doctor`: what is wrong with this installation."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from services.cli.commands.common import AsJson, Data, console, run
from services.cli.options import check_address, read_settings

Url = Annotated[
    str | None, typer.Option(envvar="TRUCBAN_URL", help="address of the running system, whose readiness is asked too")
]


def doctor(data: Data = None, url: Url = None, as_json: AsJson = False) -> None:
    """What is wrong with this installation, and what to do: a line each. Exit 0 if nothing is, else 1.

    Example: trucban doctor --data var --json
    """
    from services.cli.doctor import examine
    from services.cli.doctor.settings import where_it_goes

    settings = read_settings(data)
    found = run(examine(settings, check_address(url) if url else None))
    if as_json:
        told = {"findings": [asdict(finding) for finding in found], "goes_to": where_it_goes(settings)}
        typer.echo(json.dumps(told, ensure_ascii=False))
        raise SystemExit(1 if found else 0)
    for name, place in where_it_goes(settings).items():
        typer.echo(f"{name}: {place}")
    for finding in found:
        console.print(f"{finding.check}: {finding}", soft_wrap=True, highlight=False, markup=False)
    typer.echo(f"{len(found)} findings" if found else "nothing is wrong")
    raise SystemExit(1 if found else 0)

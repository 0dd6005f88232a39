"""`trucban partitions`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from services.cli.commands.common import AsJson, By, Data, console, run
from services.cli.options import read_settings
from shared.operator import operator


def partitions(
    count: Annotated[int, typer.Argument(metavar="N", min=1, max=64, help="how many each stream is to have")],
    by: By = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Divide the streams into N partitions, by ward, with the services stopped: all of it or nothing.

    Nothing is lost, and the events of a ward keep their order. Example: trucban partitions 4
    """
    from services.cli.partitions import change_partitions

    done = run(change_partitions(read_settings(data), count, operator(by)))
    if as_json:
        typer.echo(json.dumps(asdict(done)))
    elif done.before == done.after:
        console.print(f"{done.after} partitions already, in epoch {done.epoch}: nothing to change", highlight=False)
    else:
        changed = f"{done.after} partitions, which were {done.before}; epoch {done.epoch}"
        console.print(f"{changed}; {done.moved} events that wait go to them in their order", highlight=False)
        console.print(f"now start the services with TRUCBAN_PARTITIONS={done.after}", highlight=False)

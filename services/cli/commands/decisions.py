"""`trucban decisions`: computing decisions again."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.common import AsJson, Data, run, show_progress
from services.cli.errors import CommandError
from services.cli.options import read_settings
from shared.settings import Settings

if TYPE_CHECKING:
    from services.escalation.application.replay_decisions import ReplayTotals

app = typer.Typer(help="Decisions that were made.", no_args_is_help=True)


@app.command("replay")
def replay(
    decision_id: Annotated[str | None, typer.Argument(help="one decision", metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every decision")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Compute decisions again from their recorded inputs; exit 1 on any difference, naming each.

    Example: trucban decisions replay --all
    """
    if everything == (decision_id is not None):
        raise typer.BadParameter("give the ID of one decision, or --all")
    settings = read_settings(data)
    with show_progress("decisions", as_json=as_json) as progress:
        done = run(_replay(settings, decision_id, progress))
    (_print_as_json if as_json else _print)(done)
    raise SystemExit(1 if done.differing else 0)


async def _replay(settings: Settings, decision_id: str | None, progress: Callable[[int, int], None]) -> "ReplayTotals":
    """Raises CommandError for a decision that there is not."""
    from services.cli.infrastructure import existing_database
    from services.escalation.application.replay_decisions import (
        ReplayTotals,
        replay_all_decisions,
        replay_decision,
    )

    async with existing_database(settings) as database:
        if decision_id is None:
            return await replay_all_decisions(database, progress)
        replayed = await replay_decision(database, decision_id)
    if replayed is None:
        raise CommandError(f"there is no decision {decision_id}: GET /escalation/v1/incidents/… names those of one")
    done = ReplayTotals()
    done.add(replayed)
    return done


def _print(done: "ReplayTotals") -> None:
    for replayed in done.differing:
        for difference in replayed.differences:
            sys.stderr.write(f"decision {replayed.decision_id}: {difference}\n")
    if not done.decisions:
        typer.echo("there are no decisions: nothing was computed again")
        return
    typer.echo(f"{done.decisions} decisions computed again, {len(done.differing)} differ")


def _print_as_json(done: "ReplayTotals") -> None:
    shown = [{"decision_id": r.decision_id, "differences": list(r.differences)} for r in done.differing]
    typer.echo(json.dumps({"decisions": done.decisions, "differ": len(shown), "differing": shown}, ensure_ascii=False))

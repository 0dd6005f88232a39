"""`trucban decisions`: every decision computed again from its recorded inputs."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import typer
import uvloop
from rich.console import Console
from rich.progress import Progress

from services.cli.errors import CommandError
from services.cli.options import settings_of
from services.cli.reading import reading
from services.escalation.domain.rules.replay import Replayed
from services.escalation.domain.rules.replay import replay as replay_one
from services.escalation.store import decisions, directory, incident_queries
from shared.settings import Settings

console = Console()


@dataclass
class ReplayTotals:
    decisions: int = 0
    differing: list[Replayed] = field(default_factory=list[Replayed])


def replay(decision_id: str | None, data: Path | None, *, as_json: bool) -> None:
    """Compute decisions again from their recorded inputs, one or all; exit 1 on any difference, naming each."""
    with Progress(console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("decisions")
        done = uvloop.run(
            _replay(settings_of(data), decision_id, lambda n, of: progress.update(task, completed=n, total=of))
        )
    (_print_json if as_json else _print)(done)
    raise SystemExit(1 if done.differing else 0)


async def _replay(settings: Settings, decision_id: str | None, progress: Callable[[int, int], None]) -> ReplayTotals:
    """Raises CommandError for a decision that there is not."""
    done = ReplayTotals()
    async with reading(settings) as engine, engine.connect() as connection:
        books = {book.rulebook.version: book for book in await directory.rulebooks(connection)}
        if decision_id is not None:
            row = await incident_queries.decision_by_id(connection, decision_id)
            if row is None:
                raise CommandError(
                    f"there is no decision {decision_id}: GET /escalation/v1/incidents/… names those of one"
                )
            _add(done, replay_one(row.decision_id, row.inputs, row.record, books))
            return done
        total = await decisions.count(connection)
        async for row in decisions.every(connection):
            _add(done, replay_one(row.decision_id, row.inputs, row.record, books))
            progress(done.decisions, max(total, done.decisions))
    return done


def _add(done: ReplayTotals, replayed: Replayed) -> None:
    done.decisions += 1
    if not replayed.equal:
        done.differing.append(replayed)


def _print(done: ReplayTotals) -> None:
    for replayed in done.differing:
        for difference in replayed.differences:
            sys.stderr.write(f"decision {replayed.decision_id}: {difference}\n")
    if not done.decisions:
        typer.echo("there are no decisions: nothing was computed again")
        return
    typer.echo(f"{done.decisions} decisions computed again, {len(done.differing)} differ")


def _print_json(done: ReplayTotals) -> None:
    shown = [{"decision_id": r.decision_id, "differences": list(r.differences)} for r in done.differing]
    typer.echo(json.dumps({"decisions": done.decisions, "differ": len(shown), "differing": shown}, ensure_ascii=False))

"""`trucban rulebook`: is a rulebook fit to be adopted, and what would it have decided differently?"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import typer
import uvloop
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from services.cli.options import content_of, settings_of
from services.cli.reading import has_system, reading
from services.escalation.application.adopt_rulebooks import packaged_rulebooks
from services.escalation.domain.rules.accountability import Decision, Inputs
from services.escalation.domain.rules.backtest import Difference, compare
from services.escalation.domain.rules.lint import Inspection, Remark, inspect
from services.escalation.domain.rules.rulebook import AdoptedRulebook
from services.escalation.store import decisions, directory
from shared.clock import HO_CHI_MINH
from shared.settings import Settings

console = Console()


def check(file: Path, data: Path | None, *, as_json: bool) -> None:
    """Whether a rulebook can be adopted; every problem with its line.

    Compares with the adopted versions of the system, if there is one.
    """
    found = _inspected(file, settings_of(data))
    _say(file, found, as_json=as_json)
    raise SystemExit(1 if found.problems else 0)


def _inspected(file: Path, settings: Settings) -> Inspection:
    content = content_of("rulebook file", file)
    return inspect(content, uvloop.run(_adopted(settings)), datetime.now(UTC))


async def _adopted(settings: Settings) -> list[AdoptedRulebook]:
    """Of the system, and those that come with the program, which it adopts when it starts."""
    books = {book.rulebook.version: book for book in packaged_rulebooks()}
    if has_system(settings):
        async with reading(settings) as engine, engine.connect() as connection:
            books |= {book.rulebook.version: book for book in await directory.rulebooks(connection)}
    return list(books.values())


def _say(file: Path, found: Inspection, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_inspection_json(file, found), ensure_ascii=False))
        return
    for remark in found.remarks:
        sys.stderr.write(f"{file}:{remark.line}: {remark}\n")
    warnings = f", {len(found.warnings)} warnings" if found.warnings else ""
    if found.problems:
        typer.echo(f"{file}: {len(found.problems)} problems{warnings}")
    elif found.book is not None:
        typer.echo(f"{file}: rulebook {found.book.rulebook.version} can be adopted{warnings}")


def _inspection_json(file: Path, found: Inspection) -> dict[str, Any]:
    def shown(remarks: list[Remark]) -> list[dict[str, Any]]:
        return [{"line": r.line, "place": r.place, "detail": r.text} for r in remarks]

    return {
        "file": str(file),
        "ok": not found.problems,
        "version": found.book.rulebook.version if found.book else None,
        "sha256": found.book.sha256 if found.book else None,
        "problems": shown(found.problems),
        "warnings": shown(found.warnings),
    }


@dataclass
class Trial:
    """What came of trying a rulebook on past decisions."""

    incidents: int = 0
    differences: list[Difference] = field(default_factory=list[Difference])
    unreadable: list[str] = field(default_factory=list[str])
    """Ids of decisions whose stored inputs or record cannot be read: see `trucban decisions replay`."""


def try_(file: Path, since: str | None, data: Path | None, *, as_json: bool) -> None:
    """Which past decisions would have differed under a rulebook, as if it had always been in force. Changes nothing."""
    begin, settings = _instant(since), settings_of(data)
    found = _inspected(file, settings)
    if found.problems or found.book is None:
        _say(file, found, as_json=as_json)
        raise SystemExit(1)
    with Progress(console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("incidents")
        trial = uvloop.run(
            _try(settings, found.book, begin, lambda n, of: progress.update(task, completed=n, total=of))
        )
    (_print_json if as_json else _print)(found.book, begin, trial)
    raise SystemExit(1 if trial.unreadable else 0)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=HO_CHI_MINH)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"--since {text} is no time: write 2023-01-20 or 2023-01-20T18:00:00+07:00") from error


async def _try(
    settings: Settings, book: AdoptedRulebook, since: datetime | None, progress: Callable[[int, int], None]
) -> Trial:
    done = Trial()
    async with reading(settings) as engine, engine.connect() as connection:
        total = await decisions.count_incidents(connection, since)
        async for row in decisions.latest(connection, since):
            done.incidents += 1
            try:
                decided, inputs = Decision.model_validate_json(row.record), Inputs.model_validate(row.inputs)
            except ValidationError:
                done.unreadable.append(row.decision_id)
                continue
            if (difference := compare(decided, inputs, book)) is not None:
                done.differences.append(difference)
            progress(done.incidents, total)
    return done


def _print(book: AdoptedRulebook, since: datetime | None, trial: Trial) -> None:
    for decision_id in trial.unreadable:
        sys.stderr.write(f"decision {decision_id} cannot be read: trucban decisions replay {decision_id}\n")
    for difference in trial.differences:
        typer.echo(str(difference))
    when = f" since {since.astimezone(HO_CHI_MINH):%Y-%m-%d %H:%M}" if since else ""
    if not trial.incidents:
        typer.echo(f"there are no incidents{when}: nothing was tried")
        return
    typer.echo(
        f"{len(trial.differences)} of {trial.incidents} incidents{when} would have been decided differently"
        f" under {book.rulebook.version}"
    )


def _print_json(book: AdoptedRulebook, since: datetime | None, trial: Trial) -> None:
    shown = {
        "version": book.rulebook.version,
        "sha256": book.sha256,
        "since": since,
        "incidents": trial.incidents,
        "differ": len(trial.differences),
        "differences": [difference.as_json() for difference in trial.differences],
        "unreadable": trial.unreadable,
    }
    typer.echo(orjson.dumps(shown).decode())

"""`trucban rulebook`: can a rulebook be adopted, and what would it have decided differently?"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from services.cli.commands.common import AsJson, Data, run, show_progress
from services.cli.files import read_file
from services.cli.options import read_settings
from shared.clock import HO_CHI_MINH
from shared.settings import Settings

if TYPE_CHECKING:
    from services.escalation.application.try_rulebook import RulebookTrial
    from services.escalation.domain.rules.lint import Inspection, Remark
    from services.escalation.domain.rules.rulebook import AdoptedRulebook

app = typer.Typer(help="The rule as a file.", no_args_is_help=True)


@app.command("check")
def check(file: Path, data: Data = None, as_json: AsJson = False) -> None:
    """Whether a rulebook can be adopted; every problem with its line. Example: trucban rulebook check 2023-02.yaml

    Compares with the adopted versions of the system, if there is one.
    """
    inspection = _check(file, read_settings(data))
    _print_inspection(file, inspection, as_json=as_json)
    raise SystemExit(1 if inspection.problems else 0)


@app.command("try")
def try_(
    file: Path,
    since: Annotated[str | None, typer.Option(help="only incidents opened since; a day or time of the city")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Which past decisions would have differed under a rulebook, as if it had always been in force. Changes nothing.

    Example: trucban rulebook try 2023-02.yaml --since 2023-01-20
    """
    begin, settings = _instant(since), read_settings(data)
    inspection = _check(file, settings)
    if inspection.problems or inspection.book is None:
        _print_inspection(file, inspection, as_json=as_json)
        raise SystemExit(1)
    trial = _try(settings, inspection.book, begin, as_json=as_json)
    (_print_trial_as_json if as_json else _print_trial)(inspection.book, begin, trial)
    raise SystemExit(1 if trial.unreadable else 0)


def _check(file: Path, settings: Settings) -> "Inspection":
    from services.cli.infrastructure import existing_database, has_database
    from services.escalation.application.check_rulebook import check_rulebook

    content, now = read_file("rulebook file", file), datetime.now(UTC)

    async def work() -> "Inspection":
        if not has_database(settings):
            return await check_rulebook(content, now, None)
        async with existing_database(settings) as database:
            return await check_rulebook(content, now, database)

    return run(work())


def _try(settings: Settings, book: "AdoptedRulebook", since: datetime | None, *, as_json: bool) -> "RulebookTrial":
    from services.cli.infrastructure import existing_database
    from services.escalation.application.try_rulebook import try_rulebook

    async def work() -> "RulebookTrial":
        async with existing_database(settings) as database:
            return await try_rulebook(database, book, since, progress)

    with show_progress("incidents", as_json=as_json) as progress:
        return run(work())


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=HO_CHI_MINH)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"--since {text} is no time: write 2023-01-20 or 2023-01-20T18:00:00+07:00") from error


def _print_inspection(file: Path, inspection: "Inspection", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_inspection_as_json(file, inspection), ensure_ascii=False))
        return
    for remark in inspection.remarks:
        sys.stderr.write(f"{file}:{remark.line}: {remark}\n")
    warnings = f", {len(inspection.warnings)} warnings" if inspection.warnings else ""
    if inspection.problems:
        typer.echo(f"{file}: {len(inspection.problems)} problems{warnings}")
    elif inspection.book is not None:
        typer.echo(f"{file}: rulebook {inspection.book.rulebook.version} can be adopted{warnings}")


def _inspection_as_json(file: Path, inspection: "Inspection") -> dict[str, Any]:
    def shown(remarks: "list[Remark]") -> list[dict[str, Any]]:
        return [{"line": r.line, "place": r.place, "detail": r.text} for r in remarks]

    book = inspection.book
    return {
        "file": str(file),
        "ok": not inspection.problems,
        "version": book.rulebook.version if book else None,
        "sha256": book.sha256 if book else None,
        "problems": shown(inspection.problems),
        "warnings": shown(inspection.warnings),
    }


def _print_trial(book: "AdoptedRulebook", since: datetime | None, trial: "RulebookTrial") -> None:
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


def _print_trial_as_json(book: "AdoptedRulebook", since: datetime | None, trial: "RulebookTrial") -> None:
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

"""What several commands share: their options, the console, a bar of progress, and how they run."""

from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress

from services.cli.errors import CommandError
from services.cli.options import read_settings
from shared.settings import Settings
from shared.text import clean_line

T = TypeVar("T")
console = Console()
LOCAL = "http://127.0.0.1:8080"
Data = Annotated[Path | None, typer.Option(help="data folder; default TRUCBAN_DATA or var")]
AsJson = Annotated[bool, typer.Option("--json", help="machine output")]
Url = Annotated[str, typer.Option(envvar="TRUCBAN_URL", help="address of the running system")]
Token = Annotated[str | None, typer.Option(envvar="TRUCBAN_TOKEN", help="bearer token")]


def one_line(value: str | None) -> str | None:
    """A callback of options that are recorded. Raises BadParameter for characters that cannot be seen."""
    try:
        return value if value is None else clean_line(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


By = Annotated[str | None, typer.Option(callback=one_line, help="who decides; default: the account of this machine")]


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work in an event loop of its own."""
    import uvloop

    return uvloop.run(work)


@contextmanager
def show_progress(what: str, *, as_json: bool, transient: bool = False) -> Generator[Callable[[int, int], None]]:
    """A bar on a terminal, unless the output is JSON. Yields what is to be called with how many are done, and of all.

    `transient`: the bar goes away in the end.
    """
    with Progress(console=console, disable=as_json or not console.is_terminal, transient=transient) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def read_settings_with_key(data: Path | None, name: str) -> Settings:
    """Settings of a system that has started before. Raises CommandError where it has no key `name`.

    A key that was made here would be one that the system does not know.
    """
    settings = read_settings(data)
    path = settings.keys_dir / f"{name}.pem"
    if not path.exists():
        raise CommandError(
            f"there is no key {path}: start the system first, or name its data folder with --data or TRUCBAN_DATA"
        )
    return settings

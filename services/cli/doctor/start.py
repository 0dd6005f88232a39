"""What a process says when it starts: where notices and links go, and what in the settings reaches nobody."""

import structlog
from rich.console import Console
from rich.markup import escape

from services.cli.doctor.finding import Finding
from services.cli.doctor.settings import check_clock, check_destinations, check_names, where_it_goes
from shared.settings import Settings

log = structlog.get_logger()


def log_start(settings: Settings, *, where: bool) -> None:
    """Tell the log. `where`: of a service that sends."""
    if where:
        log.info("where notices and links go", **where_it_goes(settings))
    for finding in _warnings(settings, where=where):
        log.warning("setting", what=finding.what, value=finding.value, way_out=finding.way_out)


def print_start(console: Console, settings: Settings, *, sample: bool) -> None:
    """Tell the terminal. The sample goes to a file and leads to this machine on purpose."""
    for name, place in where_it_goes(settings).items():
        console.print(f"  {name}: {escape(place)}", highlight=False, soft_wrap=True)
    for finding in _warnings(settings, where=not sample):
        console.print(f"[yellow]warning[/yellow] {escape(str(finding))}", highlight=False, soft_wrap=True)


def _warnings(settings: Settings, *, where: bool) -> list[Finding]:
    return [*check_names(), *([*check_destinations(settings), *check_clock(settings)] if where else ())]

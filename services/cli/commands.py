"""The commands of `trucban`. Exit codes: 0 done, 1 failed, 2 usage.

The services are imported by the commands that need them, since importing them takes longer than most commands do.
"""

import io
import json
import logging
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import httpx
import structlog
import typer
from rich.console import Console
from rich.progress import Progress

from services.cli import sending
from services.cli.auditing import verify_source
from services.cli.errors import CommandError
from services.cli.options import address, bearer, settings_of, text_of
from shared.clock import Clock
from shared.http.identity import Principal, Role, issuer
from shared.ids import uuid7
from shared.keys import KeyFileError, publish, secret
from shared.settings import Settings

app = typer.Typer(
    help="Trực Ban: incident reports, who answers for them, and the proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
token_app = typer.Typer(help="Access tokens.", no_args_is_help=True)
import_app = typer.Typer(help="Bring data in from files.", no_args_is_help=True)
ledger_app = typer.Typer(help="The audit ledger.", no_args_is_help=True)
rulebook_app = typer.Typer(help="The rule as a file.", no_args_is_help=True)
decisions_app = typer.Typer(help="Decisions that were made.", no_args_is_help=True)
app.add_typer(token_app, name="token")
app.add_typer(import_app, name="import")
app.add_typer(ledger_app, name="ledger")
app.add_typer(rulebook_app, name="rulebook")
app.add_typer(decisions_app, name="decisions")

T = TypeVar("T")
console = Console()
ServiceName = Literal["intake", "escalation", "ledger"]
Data = Annotated[Path | None, typer.Option(help="data folder; default TRUCBAN_DATA or var")]
KeepGoing = Annotated[bool, typer.Option(help="record the good lines when some are bad")]
DryRun = Annotated[bool, typer.Option(help="change nothing; show what the import would change")]
AsJson = Annotated[bool, typer.Option("--json", help="machine output")]
Url = Annotated[str, typer.Option(envvar="TRUCBAN_URL", help="address of the running system")]
Token = Annotated[str | None, typer.Option(envvar="TRUCBAN_TOKEN", help="bearer token")]
LOCAL = "http://127.0.0.1:8080"
INTAKE_SECRETS = ("content", "reporter")
ROUTING_SECONDS = 5
"""How long `report` waits, once its report is safe, to tell which incident it came to."""


def main() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be none that can be written
    try:
        app()
    except CommandError as error:
        _fail(error, error.exit_code)
    except KeyFileError as error:
        _fail(error)
    except UnicodeError as error:
        _fail(f"what was given is not UTF-8 ({error}): write it in UTF-8", 2)
    except Exception as error:
        _explain(error)
        raise


def _explain(error: Exception) -> None:
    """End with one line, if the error is one that may happen."""
    from sqlalchemy.exc import SQLAlchemyError

    from services.cli.embedded import EmbeddedError
    from services.escalation.application.import_directory import ImportingError
    from services.escalation.domain.rules.rulebook import RulebookError
    from shared.database import DatabaseError

    if isinstance(error, (DatabaseError, EmbeddedError, RulebookError, ImportingError)):
        _fail(error)
    if isinstance(error, (OSError, SQLAlchemyError)):
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        _fail(f"{type(error).__name__}: {reason[:200]}: check DATABASE_URL, REDIS_URL and the disk")


def _fail(error: BaseException | str, code: int = 1) -> NoReturn:
    sys.stderr.write(f"trucban: {error}\n")
    raise SystemExit(code)


def _settings_with_key(data: Path | None, name: str) -> Settings:
    """Settings of a system that has started before: a key that we made here would be one that it does not know."""
    settings = settings_of(data)
    path = settings.keys_dir / f"{name}.pem"
    if not path.exists():
        _fail(f"there is no key {path}: start the system first, or name its data folder with --data or TRUCBAN_DATA")
    return settings


def _run(work: Coroutine[Any, Any, T]) -> T:
    import uvloop

    return uvloop.run(work)


@app.command(name="up")
def up_command(
    data: Data = None,
    port: Annotated[int, typer.Option(help="HTTP port on 127.0.0.1", min=0, max=65535)] = 8080,
    sample: Annotated[bool, typer.Option("--sample/--no-sample", help="with the sample night of Tết 2023")] = True,
    demo: Annotated[bool, typer.Option(help="play the sample night, compare, and exit")] = False,
) -> None:
    """Everything in one process tree on embedded servers. Example: trucban up --no-sample --port 9000"""
    from services.cli import up

    raise SystemExit(_run(up.up(settings_of(data), port=port, sample=sample, demo=demo, console=console)))


@app.command()
def serve(
    service: Annotated[ServiceName, typer.Argument()],
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
) -> None:
    """One service against REDIS_URL and DATABASE_URL. Example: trucban serve intake --port 8081"""
    from services.cli.process import build, listening_socket, serving, stop_on_signals, until

    settings = settings_of()
    if settings.redis_url is None or settings.database_url is None:
        _fail("serve needs REDIS_URL and DATABASE_URL; for embedded servers use: trucban up --no-sample")

    async def work() -> None:
        clock = Clock(settings.clock)
        sock = listening_socket(host, port)
        async with stop_on_signals() as stop, serving(build(settings, clock, [service]), settings, sock) as server:
            await until(stop, server)

    _run(work())


@app.command()
def migrate() -> None:
    """Schemas to their newest version, and keys made; idempotent. Example: DATABASE_URL=… trucban migrate"""
    from services.cli.process import infrastructure, migrate_all
    from services.ledger.app import load_signer

    async def work() -> None:
        async with infrastructure(settings_of()) as settings:
            await migrate_all(settings)
            load_signer(settings)
            publish(settings.keys_dir, "token")
            for name in (*INTAKE_SECRETS, "link"):  # all keys, so that services can be given them read-only
                secret(settings.keys_dir, name)

    _run(work())
    console.print("schemas are at their newest version")


@token_app.command("issue")
def issue(
    role: Annotated[Role, typer.Option()],
    subject: Annotated[str, typer.Option(help="who it is for; of an official: the holder id")],
    ward: Annotated[str | None, typer.Option(help="ward code, for officer and official")] = None,
    post: Annotated[str | None, typer.Option(help="post key, for official")] = None,
    days: Annotated[float, typer.Option(min=0.01, max=400)] = 30,
    data: Data = None,
) -> None:
    """A signed token on standard output. Example: trucban token issue --role officer --subject cb-07 --ward 14776"""
    if role in {"officer", "official"} and ward is None:
        raise typer.BadParameter(f"role {role} needs --ward")
    if role == "official" and post is None:
        raise typer.BadParameter("role official needs --post, such as party_secretary or chair")
    keys = _settings_with_key(data, "token").keys_dir
    typer.echo(issuer(keys).issue(Principal(subject, role, ward, post), days))


@app.command()
def report(
    ward: Annotated[str, typer.Option(help="code or name")],
    category: Annotated[str, typer.Option(help="such as FIRECRACKER_SET_OFF")],
    occurred_at: Annotated[str, typer.Option(help="RFC 3339 with an offset")],
    description: Annotated[str, typer.Option()] = "",
    deaths: Annotated[int | None, typer.Option()] = None,
    injured: Annotated[int | None, typer.Option()] = None,
    life_threatening: Annotated[int | None, typer.Option(help="persons")] = None,
    property_vnd: Annotated[int | None, typer.Option()] = None,
    report_id: Annotated[str | None, typer.Option(help="to send the same report again safely")] = None,
    url: Url = LOCAL,
    token: Token = None,
) -> None:
    """Send one report and print its receipt.

    Example: trucban report --ward "P. Ba Đình" --category FIRE --occurred-at 2023-01-21T23:50:00+07:00
    """
    harm = {"deaths": deaths, "injured": injured, "life_threatening": life_threatening, "property_vnd": property_vnd}
    known = {name: figure for name, figure in harm.items() if figure is not None}
    body: dict[str, Any] = {
        "report_id": report_id or uuid7(datetime.now(UTC)),
        "ward": ward,
        "category": category,
        "occurred_at": occurred_at,
    }
    body |= ({"description": description} if description else {}) | ({"harm": known} if known else {})
    _print_receipt(address(url), body, {"prefer": f"wait={ROUTING_SECONDS}"} | bearer(token))


def _print_receipt(url: str, body: dict[str, Any], headers: dict[str, str]) -> NoReturn:
    again = f"Send again with --report-id {body['report_id']}"
    try:
        answer = httpx.post(f"{url}/intake/v1/reports", json=body, headers=headers, timeout=30)
    except httpx.HTTPError as error:
        _fail(f"{url} cannot be reached ({error}): is the system running? {again}")
    try:
        receipt = answer.json()
    except ValueError:
        _fail(f"{sending.strange(url, answer)} {again}")
    typer.echo(json.dumps(receipt, ensure_ascii=False))
    raise SystemExit(0 if answer.status_code < 300 else 1)


@import_app.command("wards")
def import_wards(
    file: Path, data: Data = None, keep_going: KeepGoing = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Wards from CSV or XLSX: code,valid_from,name,type[,valid_to,successors,legal_act].

    Example: trucban import wards samples/wards.csv --dry-run
    """
    _import_file("wards", file, data, keep_going=keep_going, dry_run=dry_run, as_json=as_json)


@import_app.command("directory")
def import_directory(
    file: Path, data: Data = None, keep_going: KeepGoing = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Post-holders, rosters or contacts from CSV, told apart by the header; or XLSX with a sheet for each.

    Example: trucban import directory samples/directory.csv --dry-run
    """
    _import_file("directory", file, data, keep_going=keep_going, dry_run=dry_run, as_json=as_json)


def _import_file(
    what: Literal["wards", "directory"],
    file: Path,
    data: Path | None,
    *,
    keep_going: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from services.cli import importing

    with Progress(console=console, disable=as_json or not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)
        work = importing.import_file(
            settings_of(data),
            what,
            file,
            keep_going=keep_going,
            dry_run=dry_run,
            progress=lambda n, of: progress.update(task, completed=n, total=of),
        )
        done = _run(work)
    if as_json:
        typer.echo(json.dumps(importing.import_as_json(done), ensure_ascii=False))
    else:
        importing.print_import(console, file, done)
    raise SystemExit(1 if done.errors else 0)


@import_app.command("reports")
def import_reports(
    file: Annotated[str, typer.Argument(help="NDJSON or CSV; - for standard input")],
    url: Url = LOCAL,
    token: Token = None,
    keep_going: Annotated[bool, typer.Option(help="take the good lines when some are bad")] = False,
    as_json: AsJson = False,
) -> None:
    """Reports from a file, sent in batches; safe to repeat. Example: trucban import reports tonight.ndjson"""
    with Progress(console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("reports")
        done = sending.send_reports(
            file, url, token, lambda n, of: progress.update(task, completed=n, total=of), keep_going=keep_going
        )
    _report_import(Path(file), done, as_json)


def _report_import(file: Path, done: sending.SubmissionTotals, as_json: bool) -> None:
    if as_json:
        errors = [{"line": e.line, "detail": e.detail} for e in done.errors]
        typer.echo(json.dumps({"lines": done.lines, "recorded": done.recorded, "errors": errors}, ensure_ascii=False))
    else:
        for error in done.errors:
            sys.stderr.write(f"{file}:{error.line}: {error.detail}\n")
        typer.echo(f"{file}: {done.lines} lines, {done.recorded} recorded, {len(done.errors)} with errors")
    raise SystemExit(1 if done.errors else 0)


@ledger_app.command("verify")
def verify(
    source: Annotated[str, typer.Argument(help="an export file, or the address of the system")],
    key: Annotated[str, typer.Option(help="the ledger's verifier key, from somebody you trust")],
    known: Annotated[Path | None, typer.Option(help="a checkpoint that you kept: the log must extend it")] = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Check that the ledger is whole, in order and unchanged, off-line.

    Example: trucban ledger verify export.ndjson --key 'trucban.local/ledger+…'
    """
    with Progress(console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("entries")
        earlier = text_of("checkpoint", known) if known else None
        done = verify_source(source, key, token, lambda n, of: progress.update(task, completed=n, total=of), earlier)
    if as_json:
        failures = [str(f) for f in done.failures]
        typer.echo(
            json.dumps({"ok": done.is_verified, "entries": done.entries, "failed": done.failed, "failures": failures})
        )
    else:
        for failure in done.failures:
            sys.stderr.write(f"{failure}\n")
        typer.echo(f"ledger of {done.entries} entries {'verified' if done.is_verified else 'NOT verified'}")
    raise SystemExit(0 if done.is_verified else 1)


@ledger_app.command("key")
def ledger_key(data: Data = None) -> None:
    """The ledger's verifier key, to be handed to auditors. Example: trucban ledger key"""
    from services.ledger.app import load_signer

    typer.echo(load_signer(_settings_with_key(data, "ledger")).verifier.vkey())


@rulebook_app.command("check")
def check_rulebook(file: Path, data: Data = None, as_json: AsJson = False) -> None:
    """Whether a rulebook can be adopted; every problem with its line. Example: trucban rulebook check 2023-02.yaml

    Compares with the adopted versions of the system, if there is one.
    """
    from services.cli import rulebooks

    rulebooks.check(file, data, as_json=as_json)


@rulebook_app.command("try")
def try_rulebook(
    file: Path,
    since: Annotated[str | None, typer.Option(help="only incidents opened since; a day or time of the city")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Which past decisions would have differed under a rulebook, as if it had always been in force. Changes nothing.

    Example: trucban rulebook try 2023-02.yaml --since 2023-01-20
    """
    from services.cli import rulebooks

    rulebooks.try_(file, since, data, as_json=as_json)


@decisions_app.callback()
def decisions_group() -> None:
    """So that the one command keeps its name."""


@decisions_app.command("replay")
def replay_decisions(
    decision_id: Annotated[str | None, typer.Argument(help="one decision", metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every decision")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Compute decisions again from their recorded inputs; exit 1 on any difference, naming each.

    Example: trucban decisions replay --all
    """
    from services.cli import decisions

    if everything == (decision_id is not None):
        raise typer.BadParameter("give the ID of one decision, or --all")
    decisions.replay(decision_id, data, as_json=as_json)

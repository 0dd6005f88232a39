"""`trucban token`: access tokens, and every other credential."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.common import AsJson, By, Data, console, one_line, read_settings_with_key, run
from services.cli.errors import UsageError
from services.cli.options import read_settings
from shared.clock import local
from shared.http.identity import Principal, Role, issuer, names_a_ward
from shared.operator import operator

if TYPE_CHECKING:
    from services.escalation.application.credentials import Credential

app = typer.Typer(help="Access tokens, and other credentials.", no_args_is_help=True)


@app.command("issue")
def issue(
    role: Annotated[Role, typer.Option()],
    subject: Annotated[str, typer.Option(callback=one_line, help="who it is for; of an official: the holder id")],
    ward: Annotated[
        str | None,
        typer.Option(help="CODE or CODE@VALID_FROM, for an officer or a device; a code alone: the unit in force now"),
    ] = None,
    post: Annotated[
        str | None, typer.Option(help="post key, for an official who acts for this one of their posts only")
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, max=400)] = 30,
    by: By = None,
    unrecorded: Annotated[
        bool, typer.Option("--unrecorded", help="where no database can be reached: nobody can list it")
    ] = False,
    data: Data = None,
) -> None:
    """A signed token on standard output. Example: trucban token issue --role officer --subject cb-07 --ward 14776

    Its issue is recorded in the database and in the ledger, while the system runs or not. Where an official may act,
    and an officer whose postings are recorded, the directory says, in one ward or several.
    """
    if ward is not None and not names_a_ward(ward):
        raise typer.BadParameter("--ward is a code of five digits, or CODE@VALID_FROM such as 14797@2025-07-01")
    settings, principal = read_settings_with_key(data, "token"), Principal(subject, role, ward, post)
    if unrecorded:
        sys.stderr.write("not recorded: no list shows this token, and it is revoked by its text only\n")
        typer.echo(issuer(settings.keys_dir).issue(principal, days))
        return
    from services.cli.credentials import issue_token

    typer.echo(run(issue_token(settings, principal, days, operator(by))))


@app.command("list")
def list_(
    subject: Annotated[str | None, typer.Option(help="of this person or device only")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="those too that have expired or were revoked")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 1_000,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Credentials that were issued and recorded, the newest first. Example: trucban token list --subject cb-07"""
    from services.cli.credentials import list_credentials

    found = run(list_credentials(read_settings(data), subject, ended=ended, limit=limit))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], default=str, ensure_ascii=False))
        return
    for each in found:
        console.print(_line(each), soft_wrap=True, highlight=False, markup=False)


def _line(each: "Credential") -> str:
    scope = " ".join(part for part in (each.ward, each.post) if part)
    end = f"revoked {local(each.revoked_at):%Y-%m-%d %H:%M} by {each.revoked_by}" if each.revoked_at else ""
    until = end or f"until {local(each.expires_at):%Y-%m-%d %H:%M}"
    who = " ".join(part for part in (each.role, each.subject, scope) if part)
    return f"{each.credential_id} {each.kind} {who}, {until}, issued by {each.issued_by}"


@app.command("revoke")
def revoke(
    credentials: Annotated[list[str] | None, typer.Argument(help="ids, or texts of tokens")] = None,
    reason: Annotated[str, typer.Option(help="why; it stands in the ledger")] = "",
    subject: Annotated[str | None, typer.Option(help="all of this person or device")] = None,
    link: Annotated[str | None, typer.Option(help="the link of this notice")] = None,
    by: By = None,
    data: Data = None,
) -> None:
    """End credentials: every service refuses them within a second. Example: trucban token revoke --subject cb-07

    With --subject also tokens without an id, and links, that were issued until now.
    """
    from services.cli.credentials import revoke as revoke_them

    if not (credentials or subject or link):
        raise UsageError("nothing to revoke: give ids or texts of tokens, --subject or --link")
    if not reason.strip():
        raise UsageError("--reason is missing: say why, it stands in the ledger")
    settings = read_settings_with_key(data, "token")
    done = run(revoke_them(settings, credentials or [], operator(by), reason, subject=subject, notice=link))
    for each in done:
        what = each.credential or f"all of {each.holder} without an id"
        console.print(f"revoked: {each.kind} {what}", soft_wrap=True, highlight=False, markup=False)
    if not done:
        console.print("all of it was revoked before", highlight=False)


@app.command("rotate-key")
def rotate_key(
    end_old: Annotated[bool, typer.Option("--end-old", help="refuse all tokens of earlier keys at once")] = False,
    data: Data = None,
) -> None:
    """Another key signs from now on; nobody is signed out, unless it is said. Example: trucban token rotate-key"""
    from services.cli.credentials import rotate_key as rotate

    old, new = rotate(read_settings_with_key(data, "token"), end_old=end_old)
    fate = "is accepted no more" if end_old else "is accepted until it expires"
    console.print(f"key {new} signs from now on; what {old} signed {fate}", soft_wrap=True, highlight=False)

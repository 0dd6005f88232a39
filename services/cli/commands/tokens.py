"""`trucban token`: access tokens."""

from typing import Annotated

import typer

from services.cli.commands.common import Data, one_line, read_settings_with_key
from shared.http.identity import Principal, Role, issuer, names_a_ward

app = typer.Typer(help="Access tokens.", no_args_is_help=True)


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
    data: Data = None,
) -> None:
    """A signed token on standard output. Example: trucban token issue --role officer --subject cb-07 --ward 14776

    Where an official may act, and an officer whose postings are recorded, the directory says, in one ward or several.
    """
    if ward is not None and not names_a_ward(ward):
        raise typer.BadParameter("--ward is a code of five digits, or CODE@VALID_FROM such as 14797@2025-07-01")
    keys = read_settings_with_key(data, "token").keys_dir
    typer.echo(issuer(keys).issue(Principal(subject, role, ward, post), days))

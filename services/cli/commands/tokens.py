"""`trucban token`: access tokens."""

from typing import Annotated

import typer

from services.cli.commands.common import Data, one_line, read_settings_with_key
from shared.http.identity import Principal, Role, issuer

app = typer.Typer(help="Access tokens.", no_args_is_help=True)


@app.command("issue")
def issue(
    role: Annotated[Role, typer.Option()],
    subject: Annotated[str, typer.Option(callback=one_line, help="who it is for; of an official: the holder id")],
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
    keys = read_settings_with_key(data, "token").keys_dir
    typer.echo(issuer(keys).issue(Principal(subject, role, ward, post), days))

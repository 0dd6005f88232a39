"""`trucban report`: one report, sent to a running system."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import typer

from services.cli.commands.common import LOCAL, Token, Url
from services.cli.errors import CommandError
from services.cli.options import bearer_header, check_address
from shared.ids import uuid7

ROUTING_SECONDS = 5
"""How long the command waits, once the report is safe, to tell which incident it came to."""


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
    _send(check_address(url), body, {"prefer": f"wait={ROUTING_SECONDS}"} | bearer_header(token))


def _send(url: str, body: dict[str, Any], headers: dict[str, str]) -> NoReturn:
    """Print the receipt, and exit."""
    import httpx

    from services.cli.send_reports import unexpected_answer

    again = f"Send again with --report-id {body['report_id']}"
    try:
        answer = httpx.post(f"{url}/intake/v1/reports", json=body, headers=headers, timeout=30)
    except httpx.HTTPError as error:
        raise CommandError(f"{url} cannot be reached ({error}): is the system running? {again}") from error
    try:
        receipt = answer.json()
    except ValueError as error:
        raise CommandError(f"{unexpected_answer(url, answer)} {again}") from error
    typer.echo(json.dumps(receipt, ensure_ascii=False))
    raise SystemExit(0 if answer.status_code < 300 else 1)

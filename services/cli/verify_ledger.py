"""Verifying the ledger: an export is read from a file or fetched from a running system, and checked here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from services.cli.errors import CommandError
from services.cli.files import reason_of
from services.cli.options import bearer_header, check_address
from services.ledger.domain.verify import Verification, verify_export


def verify_ledger(
    source: str, vkey: str, token: str | None, progress: Callable[[int, int], None] | None, known: str | None = None
) -> Verification:
    """Verify an export from a file, or from the ledger at a URL. Raises CommandError when it cannot be read.

    `known`: a checkpoint that was kept; the ledger must continue it.
    """
    if source.startswith(("http://", "https://")):
        return _verify_url(source, vkey, token, progress, known)
    try:
        with Path(source).open("rb") as lines:
            return verify_export(lines, vkey, known=known, progress=progress)
    except OSError as error:
        raise CommandError(f"export {source} cannot be read ({reason_of(error)}): give a file or a URL") from error


def _verify_url(
    url: str, vkey: str, token: str | None, progress: Callable[[int, int], None] | None, known: str | None
) -> Verification:
    export, headers = f"{check_address(url)}/ledger/v1/export", bearer_header(token)
    try:
        with httpx.stream("GET", export, headers=headers, params={"format": "ndjson"}, timeout=60) as answer:
            if answer.status_code != 200:
                answer.read()
                raise CommandError(f"{export} answered {answer.status_code}: {_detail(answer)}")
            return verify_export(_lines(answer), vkey, known=known, progress=progress)
    except httpx.HTTPError as error:
        raise CommandError(f"{export} cannot be reached ({error}): is the system running?") from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, LookupError, TypeError):
        return answer.reason_phrase


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Lines with their end, split on LF only: a body may hold other characters that count as line ends in text."""
    rest = b""
    for chunk in answer.iter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest

"""Sending reports from a file to intake's API, as any other sender does."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import orjson

from services.cli.errors import CommandError
from services.cli.files import read_text
from services.cli.options import bearer_header, check_address

BATCH = 500
ATTEMPTS = 6
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class BadLine:
    line: int
    detail: str


@dataclass
class SendTotals:
    lines: int = 0
    recorded: int = 0
    """How many reports were not known before."""
    known: int = 0
    """How many were: the same was sent before, in this file or earlier."""
    errors: Sequence[BadLine] = field(default_factory=list[BadLine])


def send_reports(
    file: str, url: str, token: str | None, progress: Callable[[int, int], None], *, keep_going: bool
) -> SendTotals:
    """Send reports in batches. Repeating is safe: a report that is known is counted as known, and not doubled.

    Raises CommandError when the file cannot be read or the system does not answer.
    """
    url, headers = check_address(url), bearer_header(token)
    reports, errors = _read_reports(file)
    if errors and not keep_going:
        return SendTotals(len(reports) + len(errors), errors=errors)
    done = SendTotals(len(reports) + len(errors), errors=errors)
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        for start in range(0, len(reports), BATCH):
            part = reports[start : start + BATCH]
            results = _send(client, [body for _, body in part])
            for (line, _), result in zip(part, results, strict=True):
                if "problem" in result:
                    done.errors = [*done.errors, BadLine(line, str(result["problem"].get("detail")))]
                elif result["status"] == HTTPStatus.OK:
                    done.known += 1
                else:
                    done.recorded += 1
            progress(start + len(part), len(reports))
    return done


def _send(client: httpx.Client, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One batch, again while the system is busy or away: the report ids make that safe.

    What was recorded by an attempt of which others were put off is known to the next one, and counts as recorded.
    """
    reason, recorded = "", dict[int, dict[str, Any]]()
    attempt = 0
    while attempt < ATTEMPTS:
        try:
            answer = client.post("/intake/v1/reports:batch", json=bodies)
        except httpx.HTTPError as error:
            reason = f"cannot be reached ({error})"
        else:
            if answer.status_code == 200:
                results = [recorded.get(n, result) for n, result in enumerate(_results(client, answer, len(bodies)))]
                recorded |= {n: r for n, r in enumerate(results) if r["status"] == HTTPStatus.CREATED}
                put_off = [r["problem"]["detail"] for r in results if r["status"] == 503]
                if not put_off:
                    return results
                reason = f"did not take {len(put_off)} reports: {put_off[0]}"
            elif answer.status_code == 429:  # it is well, and we are too fast: that is no attempt
                time.sleep(_retry_after(answer))
                continue
            else:
                reason = f"answered {answer.status_code}: {answer.text[:200]}"
                if answer.status_code < 500:
                    break
        time.sleep(min(0.2 * 2**attempt, 5))
        attempt += 1
    raise CommandError(f"{client.base_url} {reason}; what was sent is safe, run the import again")


def _retry_after(answer: httpx.Response) -> float:
    said = answer.headers.get("retry-after", "")
    return min(float(said), LONGEST_PAUSE_SECONDS) if said.isdecimal() else 1.0


def _results(client: httpx.Client, answer: httpx.Response, count: int) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = answer.json()["results"]
        if len(found) == count and all("status" in result for result in found):
            return found
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise CommandError(unexpected_answer(str(client.base_url).rstrip("/"), answer))


def unexpected_answer(url: str, answer: httpx.Response) -> str:
    """The error for an answer that no intake gives."""
    return f"{url} answered {answer.status_code}, and not as Trực Ban does: is it the address of the running system?"


def _read_reports(file: str) -> tuple[list[tuple[int, dict[str, Any]]], list[BadLine]]:
    text = read_text("reports file", Path("/dev/stdin" if file == "-" else file))
    if file.endswith(".csv"):
        return _read_csv(text)
    good: list[tuple[int, dict[str, Any]]] = []
    bad: list[BadLine] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            good.append((number, orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            bad.append(BadLine(number, f"not JSON: {error}"))
    return good, bad


def _read_csv(text: str) -> tuple[list[tuple[int, dict[str, Any]]], list[BadLine]]:
    rows = csv.DictReader(io.StringIO(text), restkey="")
    good: list[tuple[int, dict[str, Any]]] = []
    bad: list[BadLine] = []
    try:
        for row in rows:
            if "" in row:
                bad.append(BadLine(rows.line_num, "not a report: more cells than the header has columns"))
            else:
                good.append((rows.line_num, {name: cell for name, cell in row.items() if cell}))
    except csv.Error as error:
        bad.append(BadLine(rows.line_num + 1, f"not CSV, and not read from here on: {error}"))
    return good, bad

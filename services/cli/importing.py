"""`trucban import`: wards and directory straight into the database, reports through intake's own door."""

import asyncio
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from services.cli.process import CommandError, joined, migrate_all
from services.escalation import importing
from services.escalation.app import wired
from services.escalation.directory import LineError
from shared.clock import Clock
from shared.ids import uuid7
from shared.settings import Settings

BATCH = 500
ATTEMPTS = 6


@dataclass
class Done:
    lines: int = 0
    recorded: int = 0
    errors: Sequence[LineError] = field(default_factory=list[LineError])


def new_report_id() -> str:
    return uuid7(datetime.now(UTC))


async def import_file(settings: Settings, what: Literal["wards", "directory"], file: Path, *, keep_going: bool) -> Done:
    """Raises CommandError when the file cannot be read."""
    try:
        content = await asyncio.to_thread(file.read_bytes)
    except OSError as error:
        raise CommandError(f"{what} file {file} cannot be read: {error.strerror}") from error
    async with joined(settings) as ready:
        await migrate_all(ready)
        escalation = wired(ready, Clock(ready.clock))
        try:
            await importing.adopt_rulebooks(escalation, importing.packaged_rulebooks())
            run = importing.import_wards if what == "wards" else importing.import_directory
            imported = await run(escalation, content, keep_going=keep_going)
        finally:
            await escalation.engine.dispose()
    return Done(imported.lines, imported.recorded, imported.errors)


def send_reports(
    file: str, url: str, token: str | None, progress: Callable[[int, int], None], *, keep_going: bool
) -> Done:
    """Send reports in batches. Repeating is safe: a report that is known is counted as recorded, not doubled.

    Raises CommandError when the file cannot be read or the system does not answer.
    """
    reports, errors = _read_reports(file)
    if errors and not keep_going:
        return Done(len(reports) + len(errors), 0, errors)
    done = Done(len(reports) + len(errors), 0, errors)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        for start in range(0, len(reports), BATCH):
            part = reports[start : start + BATCH]
            results = _send(client, [body for _, body in part])
            for (line, _), result in zip(part, results, strict=True):
                if "problem" in result:
                    done.errors = [*done.errors, LineError(line, str(result["problem"].get("detail")))]
                else:
                    done.recorded += 1
            progress(start + len(part), len(reports))
    return done


def _send(client: httpx.Client, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One batch, again while the system is busy or away: the report ids make that safe."""
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            answer = client.post("/intake/v1/reports:batch", json=bodies)
        except httpx.HTTPError as error:
            reason = f"cannot be reached ({error})"
        else:
            if answer.status_code == 200:
                results: list[dict[str, Any]] = answer.json()["results"]
                put_off = [r["problem"]["detail"] for r in results if r["status"] == 503]
                if not put_off:
                    return results
                reason = f"did not take {len(put_off)} reports: {put_off[0]}"
            else:
                reason = f"answered {answer.status_code}: {answer.text[:200]}"
                if answer.status_code < 500:
                    break
        time.sleep(min(0.2 * 2**attempt, 5))
    raise CommandError(f"{client.base_url} {reason}; what was sent is safe, run the import again")


def _read_reports(file: str) -> tuple[list[tuple[int, dict[str, Any]]], list[LineError]]:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"reports file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"reports file {file}: byte {error.start} is not UTF-8") from error
    if file.endswith(".csv"):
        rows = csv.DictReader(io.StringIO(text))
        return [(rows.line_num, {k: v for k, v in row.items() if v}) for row in rows], []
    good: list[tuple[int, dict[str, Any]]] = []
    bad: list[LineError] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            good.append((number, json.loads(line)))
        except ValueError as error:
            bad.append(LineError(number, f"not JSON: {error}"))
    return good, bad

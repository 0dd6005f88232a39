"""Importing wards or the directory from a file into the database, beside a running system or without one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from services.cli.errors import UsageError
from services.cli.files import read_file
from services.cli.infrastructure import migrate_all, shared_infrastructure
from services.escalation.app import connect_escalation
from services.escalation.application import adopt_rulebooks, import_directory
from services.escalation.domain.directory.readers import MAX_BYTES
from services.escalation.sending.channels import WayOut
from shared.clock import Clock
from shared.database import PATIENT
from shared.operator import operator
from shared.settings import Settings


async def import_file(
    settings: Settings,
    what: Literal["wards", "directory"],
    file: Path,
    *,
    keep_going: bool,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> import_directory.ImportSummary:
    """Import a file. Raises CommandError where it cannot be read, and UsageError where a setting is wrong.

    A dry run records nothing; it too brings the schemas to their newest version.
    """
    try:
        way_out = WayOut.of(settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    content = await asyncio.to_thread(read_file, f"{what} file", file, MAX_BYTES + 1)  # enough to know it is too large
    async with shared_infrastructure(settings) as ready:
        await migrate_all(ready)
        escalation = connect_escalation(ready, Clock(ready.clock), limits=PATIENT).by(operator())
        try:
            if not dry_run:
                await adopt_rulebooks.adopt_rulebooks(escalation, adopt_rulebooks.packaged_rulebooks())
            if what == "wards":
                return await import_directory.import_wards(
                    escalation, content, keep_going=keep_going, dry_run=dry_run, progress=progress
                )
            return await import_directory.import_directory(
                escalation,
                content,
                check_channel=way_out.error,
                keep_going=keep_going,
                dry_run=dry_run,
                progress=progress,
            )
        finally:
            await escalation.database.dispose()

"""Import wards and the directory from files."""

from collections.abc import Sequence

from services.escalation.application.adopt_rulebooks import packaged_rulebooks
from services.escalation.application.escalation import Escalation
from services.escalation.application.record_directory import ChannelCheck, ImportSummary, Progress, record
from services.escalation.domain.directory.readers import read_directory, read_wards
from services.escalation.domain.directory.schemas import LineError


class ImportingError(Exception):
    """Nothing was imported from a file. The text gives each line that is wrong."""

    def __init__(self, name: str, errors: Sequence[LineError]) -> None:
        super().__init__("; ".join(f"{name} line {e.line}: {e.detail}" for e in errors))


async def import_wards(
    escalation: Escalation,
    content: bytes,
    *,
    keep_going: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportSummary:
    """Import units from CSV or XLSX. If any line has an error nothing is recorded, unless `keep_going`."""
    return await record(escalation, read_wards(content), keep_going=keep_going, dry_run=dry_run, progress=progress)


async def import_directory(
    escalation: Escalation,
    content: bytes,
    *,
    check_channel: ChannelCheck | None = None,
    keep_going: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportSummary:
    """Import tenures, rosters, postings or contacts from CSV, or all of them from a workbook.

    A row supersedes the records that it contradicts. `check_channel`: as for `record`.
    If any line has an error nothing is recorded, unless `keep_going`.
    """
    posts = {post.key for book in packaged_rulebooks() for post in book.rulebook.posts}
    return await record(
        escalation,
        read_directory(content),
        posts=posts,
        check_channel=check_channel,
        keep_going=keep_going,
        dry_run=dry_run,
        progress=progress,
    )

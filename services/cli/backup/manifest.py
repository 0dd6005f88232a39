"""What a backup says of itself: `backup.json`, written last. A folder without it is no backup."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from services.cli.errors import CommandError
from services.cli.files import read_file, reason_of

FILE = "backup.json"
_CHUNK = 1 << 20
Progress = Callable[[int, int], None]
"""Called with the number of files that are done, and of all."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredFile(_Part):
    """One file of the backup. `path` is relative to its folder."""

    path: str
    bytes: int
    sha256: str


class StoredTable(_Part):
    """The rows of one table, in PostgreSQL's binary COPY format."""

    service: str
    name: str
    columns: Sequence[str]
    rows: int
    file: StoredFile


class Manifest(_Part):
    """What the backup holds."""

    format: Literal[1] = 1
    made_at: AwareDatetime
    revisions: dict[str, str]
    """The version of each service's schema, by service (alembic's revision)."""
    tables: Sequence[StoredTable]
    """In an order in which they can be filled: what refers to a table comes after it."""
    keys: Sequence[StoredFile]
    ledger_size: int
    checkpoint: str | None
    """The ledger's newest checkpoint (C2SP signed note); None before the ledger's first start."""

    @property
    def files(self) -> list[StoredFile]:
        return [*(table.file for table in self.tables), *self.keys]


def describe_file(folder: Path, path: Path) -> StoredFile:
    """Read a file of the backup to its end, for its size and hash."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return StoredFile(path=str(path.relative_to(folder)), bytes=size, sha256=digest.hexdigest())


def read_backup(folder: Path, progress: Progress) -> Manifest:
    """Read the manifest, and check every file against it. Raises CommandError that names the first wrong file."""
    try:
        manifest = Manifest.model_validate_json(read_file("backup", folder / FILE))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CommandError(
            f"{folder / FILE} is no manifest of a backup that this version reads ({first['msg']} at {where})"
        ) from None
    for done, stored in enumerate(manifest.files):
        _check(folder, stored)
        progress(done + 1, len(manifest.files))
    return manifest


def _check(folder: Path, stored: StoredFile) -> None:
    path = folder / stored.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CommandError(f"{folder / FILE} names {stored.path}, which is outside of the backup: it was tampered with")
    try:
        found = describe_file(folder, path)
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({reason_of(error)}): take another copy of the backup") from error
    if found != stored:
        raise CommandError(
            f"{path} has {found.bytes} bytes and SHA-256 {found.sha256[:12]}…, the backup was made with "
            f"{stored.bytes} and {stored.sha256[:12]}…: take another copy of the backup"
        )

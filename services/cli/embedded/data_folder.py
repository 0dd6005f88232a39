"""The data folder of embedded servers: one process at a time uses it, and each server has a private folder in it."""

import fcntl
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import structlog

from services.cli.embedded.account import Account
from services.cli.embedded.errors import EmbeddedError, InUseError

log = structlog.get_logger()

VAR_LIB = Path("/var/lib/trucban")
"""For what an unprivileged account cannot reach inside root's data folder or environment."""
LET_GO_SECONDS = 5.0
"""How long a process that was killed may still seem to hold a folder: a server that it was just starting has its files
open until it is the server's program."""
_SHORT_PATH = re.compile(r"[A-Za-z0-9/._-]{1,80}")
"""A path that does for sockets: `sun_path` holds 107 bytes, and some characters mean something in URLs and settings."""


@contextmanager
def lock_data(data: Path) -> Generator[None]:
    """Hold `data`/.lock. The kernel lets go of it when this process ends, however it ends. Raises InUseError."""
    lock = os.open(data / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until = monotonic() + LET_GO_SECONDS
        while holder := _holder_of(lock):
            if monotonic() > until or Path("/proc", holder).exists():
                raise InUseError(
                    f"data folder {data} is in use by process {holder}: stop it, or set TRUCBAN_DATA to another"
                )
            sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder_of(lock: int) -> str:
    """Take the lock, or return the id of the process that has it. Empty if we have it now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 20, 0).decode().strip() or "unknown"
    return ""


def open_data(data: Path) -> Path:
    """Make the data folder and return its resolved path.

    Root's is made with mode 0711, because `nobody` must reach PostgreSQL's folder in it. What is private in it has a
    mode of its own. A folder that already holds something keeps its mode.
    """
    data = data.resolve()
    if data.exists() and not data.is_dir():
        raise EmbeddedError(f"data folder {data} is a file: set TRUCBAN_DATA to a folder")
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0 and not any(data.iterdir()):
        data.chmod(0o711)
    (data / "log").mkdir(mode=0o700, exist_ok=True)
    return data


def private_home(data: Path, name: str, account: Account) -> Path:
    """The folder `data`/`name` of `account`; a link into `VAR_LIB` where `account` cannot reach `data`."""
    home = data / name
    if home.is_symlink():
        return _linked_home(home, account)
    account.make_private(home)
    if not account.is_foreign or account.can_enter(home):
        return home
    if any(home.iterdir()):
        raise EmbeddedError(
            f"{home} holds a database that uid {account.uid} can no longer reach: "
            "give the folders above it back their execute permission (chmod o+x)"
        )
    # The name is random, so that a data folder which was deleted and made anew starts with an empty database.
    place = VAR_LIB / f"{hashlib.sha256(os.fsencode(data)).hexdigest()[:8]}-{secrets.token_hex(4)}"
    VAR_LIB.mkdir(mode=0o711, parents=True, exist_ok=True)
    place.mkdir(mode=0o711)
    (place / "data-folder").write_bytes(os.fsencode(data))
    account.make_private(place / name)
    if not account.can_enter(place / name):
        raise EmbeddedError(
            f"{place / name} cannot be reached by uid {account.uid}: make {VAR_LIB} passable (chmod 711), "
            "or set DATABASE_URL"
        )
    home.rmdir()
    home.symlink_to(place / name)
    log.info("database kept outside the data folder", data=str(data), kept=str(place / name))
    return place / name


def _linked_home(link: Path, account: Account) -> Path:
    home = link.readlink()
    if not home.is_dir():
        raise EmbeddedError(f"{link} leads to {home}, which is gone: restore it, or remove the link to begin anew")
    account.make_private(home)
    note, data = home.parent / "data-folder", link.parent
    earlier = Path(os.fsdecode(note.read_bytes()))
    if earlier == data:
        return home
    if (earlier / link.name).is_symlink() and (earlier / link.name).readlink() == home:
        raise EmbeddedError(
            f"{link} leads to the database of {earlier}: one cannot serve both, remove the link to begin anew"
        )
    note.write_bytes(os.fsencode(data))  # the data folder was moved
    return home


def socket_folder(home: Path, record: Path, account: Account) -> Path:
    """`home`, or a private folder elsewhere if the path is too long for a socket. `record` keeps where that is."""
    if _SHORT_PATH.fullmatch(str(home)):
        return home
    if record.exists():
        known = Path(record.read_text())
        if account.is_private(known):
            return known
    made = Path(tempfile.mkdtemp(prefix="trucban-", dir="/tmp"))  # $TMPDIR may be long, or root's own
    account.make_private(made)
    record.write_text(str(made))
    return made

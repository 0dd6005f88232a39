"""Where the embedded servers' files live, whose they are, and that one parent at a time uses them."""

import fcntl
import hashlib
import os
import pwd
import re
import secrets
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()

VAR_LIB = Path("/var/lib/trucban")
"""For what an unprivileged account cannot reach inside root's data folder or environment."""
_BRIEF = re.compile(r"[A-Za-z0-9/._-]{1,80}")
"""A folder fit for sockets: `sun_path` holds 107 bytes, and settings and URLs reserve characters."""


class EmbeddedError(Exception):
    """An embedded server cannot be had; the text is one line: the thing, the value and the way out."""


class InUseError(EmbeddedError):
    """Another living process runs the servers of this data folder."""


@dataclass(frozen=True)
class Account:
    """The user that a server runs as; `foreign` when that is not the user of this process."""

    uid: int
    gid: int
    foreign: bool = False

    @classmethod
    def own(cls) -> "Account":
        return cls(os.geteuid(), os.getegid())

    @classmethod
    def unprivileged(cls) -> "Account":
        """Our own account, or `nobody` where we are root: PostgreSQL refuses to run as root."""
        if os.geteuid() != 0:
            return cls.own()
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise EmbeddedError(
                "user nobody, as which root runs PostgreSQL, does not exist: add it, or set DATABASE_URL"
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid, foreign=True)

    def spawn(self, command: Sequence[str | Path], output: int) -> subprocess.Popen[bytes]:
        """Start `command` as this account, in a session of its own so that a terminal's Ctrl-C passes it by.

        The environment stays behind: PG* variables would change the server, and secrets are not for it.
        """
        return subprocess.Popen(  # noqa: S603 - our own binaries and paths, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
            user=self.uid if self.foreign else None,
            group=self.gid if self.foreign else None,
            extra_groups=[] if self.foreign else None,
        )

    def run(self, *command: str | Path) -> tuple[bool, str]:
        """Whether `command` succeeds as this account, and what it printed."""
        try:
            with self.spawn(command, subprocess.PIPE) as process:
                output, _ = process.communicate()
        except OSError as error:
            return False, str(error)
        return process.returncode == 0, output.decode(errors="replace")

    def reaches(self, folder: Path) -> bool:
        """Tried, not guessed: every folder above takes part, and so do mounts and access lists."""
        return self.run("/bin/sh", "-c", 'cd "$1" && test -w .', "sh", folder)[0]

    def owns_privately(self, folder: Path) -> bool:
        try:
            found = folder.lstat()
        except FileNotFoundError:
            return False
        return found.st_uid == self.uid and found.st_mode & 0o7777 == 0o700 and folder.is_dir()

    def make_private(self, folder: Path) -> None:
        """Make `folder`, mode 0700, unless it is there; raise `EmbeddedError` where it is somebody else's."""
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat().st_uid
        if owner == self.uid:
            return
        if owner != os.geteuid():
            raise EmbeddedError(
                f"{folder} belongs to uid {owner}, not to uid {self.uid}: "
                "start as the user who made it, or set TRUCBAN_DATA to another folder"
            )
        os.chown(folder, self.uid, self.gid)


@contextmanager
def exclusive(data: Path) -> Generator[None]:
    """Hold `data`/.lock; the kernel lets go of it when this process ends, however it ends."""
    lock = os.open(data / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
            raise InUseError(
                f"data folder {data} is in use by process {holder}: stop it, or set TRUCBAN_DATA to another"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def open_data(data: Path) -> Path:
    """Make the data folder and return its resolved path.

    As root it may be passed through (0711): `nobody` must reach its PostgreSQL, and what is private in it
    has a mode of its own. A folder that already holds something keeps its mode.
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
    if not account.foreign or account.reaches(home):
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
    if not account.reaches(place / name):
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
    """`home`, or a short private folder where the path does not do for a socket; `record` keeps its name."""
    if _BRIEF.fullmatch(str(home)):
        return home
    if record.exists():
        known = Path(record.read_text())
        if account.owns_privately(known):
            return known
    made = Path(tempfile.mkdtemp(prefix="trucban-", dir="/tmp"))  # $TMPDIR may be long, or root's own
    account.make_private(made)
    record.write_text(str(made))
    return made

"""The user that an embedded server runs as, and what that user can reach."""

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.cli.embedded.errors import EmbeddedError
from services.cli.parent import end_with_parent


@dataclass(frozen=True)
class Account:
    """The user that a server runs as; `is_foreign` when that is not the user of this process."""

    uid: int
    gid: int
    is_foreign: bool = False

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
        return cls(nobody.pw_uid, nobody.pw_gid, is_foreign=True)

    def spawn(
        self, command: Sequence[str | Path], output: int, *, when_we_end: signal.Signals | None = None
    ) -> subprocess.Popen[bytes]:
        """Start `command` as this account, in a session of its own so that a terminal's Ctrl-C passes it by.

        The environment stays behind: PG* variables would change the server, and secrets are not for it.
        `when_we_end`: the signal that it gets from the kernel when the thread that calls this ends.
        """
        # Python warns of preexec_fn beside threads. This one takes no lock and imports nothing.
        bound = partial(end_with_parent, os.getpid(), when_we_end) if when_we_end is not None else None
        return subprocess.Popen(  # noqa: S603 - our own binaries and paths, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
            user=self.uid if self.is_foreign else None,
            group=self.gid if self.is_foreign else None,
            extra_groups=[] if self.is_foreign else None,
            preexec_fn=bound,
        )

    def run(self, *command: str | Path) -> tuple[bool, str]:
        """Whether `command` succeeds as this account, and what it printed."""
        try:
            with self.spawn(command, subprocess.PIPE) as process:
                output, _ = process.communicate()
        except OSError as error:
            return False, str(error)
        return process.returncode == 0, output.decode(errors="replace")

    def can_enter(self, folder: Path) -> bool:
        """Whether this account can enter `folder` and write in it.

        Tried out: the folders above, mounts and access lists all have a say.
        """
        return self.run("/bin/sh", "-c", 'cd "$1" && test -w .', "sh", folder)[0]

    def is_private(self, folder: Path) -> bool:
        """Whether `folder` is this account's own, and closed to all others."""
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

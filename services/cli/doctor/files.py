"""What is wrong with the data folder: the room on its disk, and who may read the keys."""

import os
import shutil
from pathlib import Path

from services.cli.doctor.finding import Finding

LEAST_FREE = 2**30
"""Bytes. With less, one bad night may fill the disk."""
OTHERS = 0o077
"""Permission bits of the group and of everybody else."""


def check_disk(folder: Path) -> list[Finding]:
    """`folder` may not be there yet: then its disk is that of the nearest folder above."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free >= LEAST_FREE:
        return []
    value = f"{free // 2**20} MB are free, less than {LEAST_FREE // 2**20}"
    return [Finding("disk", str(folder), value, "make room, or move the data folder to a larger disk")]


def check_keys(folder: Path) -> list[Finding]:
    """The secret halves are for this user only."""
    found: list[Finding] = []
    for path in sorted((*folder.glob("*.pem"), *folder.glob("*.key"))):
        mode = path.stat().st_mode & 0o777
        if mode & OTHERS:
            found.append(Finding("keys", str(path), f"has mode {mode:04o}, so others may read it", f"chmod 600 {path}"))
        if not os.access(path, os.R_OK):
            found.append(Finding("keys", str(path), "cannot be read", "give it to the user who runs this"))
    return found

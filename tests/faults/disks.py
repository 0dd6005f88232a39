"""Small disks for the data of the two servers, which a file can fill. Only root may mount them."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

SIZES = {"postgres": "300m", "redis": "200m"}
"""By the folder of the data folder that a server keeps its data in."""
Disks = Mapping[str, Path]
"""Where each small disk is; empty without them."""


def can_mount() -> bool:
    """Whether a process may mount disks that nobody else sees."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        [*PRIVATELY, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


PRIVATELY = ("unshare", "--mount", "--propagation", "private")
"""Before a command: what it mounts is seen by nobody else, and is gone with it."""


@contextmanager
def running_disks(data: Path, wanted: bool) -> Generator[Disks]:
    """Raises CalledProcessError where mounts are refused."""
    mounted: dict[str, Path] = {}
    try:
        if wanted:
            data.mkdir(mode=0o711)
            for name, size in SIZES.items():
                place = data / name
                place.mkdir(mode=0o700)
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", place], check=True)
                mounted[name] = place
        yield mounted
    finally:
        for place in mounted.values():
            subprocess.run(["umount", "--lazy", place], check=False)


async def fill(disk: Path, seconds: float) -> None:
    """A file takes all that is free, and whatever is freed; it is removed in the end."""
    descriptor, ballast = tempfile.mkstemp(dir=disk)
    try:
        async with asyncio.timeout(seconds):
            while True:
                _grow(descriptor)
                await asyncio.sleep(0.2)
    except TimeoutError:
        pass
    finally:
        os.close(descriptor)
        _remove(ballast)


def _remove(path: str) -> None:
    Path(path).unlink()


def _grow(descriptor: int) -> None:
    free = os.fstatvfs(descriptor)
    with suppress(OSError):  # others write meanwhile, so that less is free
        if free.f_bavail:
            os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, free.f_bavail * free.f_frsize)

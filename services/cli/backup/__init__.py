"""Backups: a folder with everything that a city's installation is made of, and how one comes back from it."""

from services.cli.backup.make import make_backup
from services.cli.backup.manifest import Manifest, read_backup
from services.cli.backup.restore import Restored, restore_backup

__all__ = ["Manifest", "Restored", "make_backup", "read_backup", "restore_backup"]

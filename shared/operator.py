"""Who gives a command on the machine itself, where no token says it."""

import getpass
import os

from shared.events import Who

ROLE = "operator"


def operator(name: str | None = None) -> Who:
    """Return the operator of this name, or else by the account under which this process runs."""
    return Who(subject=name or _account(), role=ROLE, means="cli")


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid {os.getuid()}"

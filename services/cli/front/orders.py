"""What the front process tells the process of a service, on its standard input."""

import os
import pickle
import signal
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from services.cli.parent import end_with_parent
from shared.settings import Settings


@dataclass(frozen=True)
class Orders:
    """All that a service is to know. It reads no settings itself: those of the sample are not in the environment."""

    settings: Settings
    clock_shift: timedelta
    """What the clock of the whole city is ahead of real time."""
    socket: Path
    """Where the service is to answer."""
    front: int = field(default_factory=os.getpid)

    def as_bytes(self) -> bytes:
        return pickle.dumps(self)


def take_orders() -> Orders:
    """Wait for the orders of the front process. From then on this process is killed when the front ends.

    Ends this process if the front has gone.
    """
    try:
        orders = pickle.load(sys.stdin.buffer)  # noqa: S301 - the pipe of the process that started us
    except EOFError:
        raise SystemExit(1) from None
    assert isinstance(orders, Orders)
    end_with_parent(orders.front, signal.SIGKILL)
    return orders

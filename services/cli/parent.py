"""A process that ends with the process that started it, also where that one is killed. Linux only."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # not in `end_with_parent`, which may run between fork and exec


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send `number` to this process when its parent ends. Call it in the child.

    `parent`: the parent's process id. The kernel means the thread that made the child: the main thread has to.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), number)

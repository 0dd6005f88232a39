"""What commands that only read the database share: where it is, beside a running system or without one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext

from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.cli.errors import CommandError
from services.cli.process import joined
from shared.database import connect
from shared.settings import Settings

_NO_SUCH_TABLE = frozenset({"42P01", "42703", "3F000"})


def has_system(settings: Settings) -> bool:
    """A database is configured, or the data folder holds one."""
    return settings.database_url is not None or (settings.data / "postgres").exists()


@asynccontextmanager
async def reading(settings: Settings) -> AsyncGenerator[AsyncEngine]:
    """The system's database. Raises CommandError where there is none, or one from before this version."""
    if not has_system(settings):
        where = "name its data folder with --data or TRUCBAN_DATA, or set DATABASE_URL"
        raise CommandError(f"there is no system in {settings.data}: {where}")
    async with nullcontext(settings) if settings.database_url else joined(settings) as ready:
        assert ready.database_url is not None
        engine = connect(ready.database_url, pool_size=1)
        try:
            yield engine
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) not in _NO_SUCH_TABLE:
                raise
            raise CommandError(
                "the database is not of this version: run trucban migrate, or start the system"
            ) from error
        finally:
            await engine.dispose()

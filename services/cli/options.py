"""What a command is given from outside: settings, files, the address of the running system and a token for it."""

from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import ValidationError

from services.cli.errors import CommandError, UsageError
from services.cli.log import set_log_level
from shared.settings import Settings


def settings_of(data: Path | None = None) -> Settings:
    """The settings of this process, whose log begins at their level from now on.

    Raises UsageError that names each setting that is wrong, without its value.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = [f"{_variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise UsageError(f"{'; '.join(wrong)}: correct it in the environment or in .env, or unset it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f".env cannot be read ({reason_of(error)}): write it anew in UTF-8") from None
    _check("REDIS_URL", settings.redis_url, _redis, "redis://host:6379/0")
    _check("DATABASE_URL", settings.database_url, _database, "postgresql://user@host/database")
    set_log_level(settings.log_level)
    return settings.model_copy(update={"data": data}) if data else settings


def _variable(field: str) -> str:
    return f"TRUCBAN_{field.upper()}" if field in Settings.model_fields else field


def _check(name: str, url: str | None, can_use: Callable[[str], bool], example: str) -> None:
    if url is not None and not can_use(url):
        raise UsageError(f"{name} is no such address: write one like {example}, or unset it")


def _redis(url: str) -> bool:
    from shared import messaging  # takes long to import, and most commands need none

    try:
        messaging.connect(url)
    except ValueError:
        return False
    return True


def _database(url: str) -> bool:
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from shared.database import DatabaseError, async_url

    try:
        make_url(async_url(url))
    except (ValueError, SQLAlchemyError, DatabaseError):
        return False
    return True


def address(url: str) -> str:
    """Raises UsageError for what is no address of a running system."""
    try:
        parts = httpx.URL(url)
        if parts.scheme in {"http", "https"} and parts.host.encode("idna"):
            return url.rstrip("/")
    except (httpx.InvalidURL, UnicodeError):
        pass
    raise UsageError(f"{url} is no address (--url or TRUCBAN_URL): write one like http://127.0.0.1:8080")


def bearer(token: str | None) -> dict[str, str]:
    """The header that a token goes in; none without a token. Raises UsageError."""
    if token and not (token.isascii() and token.isprintable()):
        raise UsageError("--token or TRUCBAN_TOKEN is no token: give what trucban token issue printed")
    return {"authorization": f"Bearer {token}"} if token else {}


def content_of(what: str, file: Path, limit: int = -1) -> bytes:
    """The file, or its first `limit` bytes. Raises CommandError naming the file and the reason."""
    try:
        with file.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise CommandError(f"{what} {file} cannot be read: {reason_of(error)}") from error


def text_of(what: str, file: Path) -> str:
    try:
        return content_of(what, file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"{what} {file}: {reason_of(error)}: save it in UTF-8") from error


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return error.strerror or type(error).__name__

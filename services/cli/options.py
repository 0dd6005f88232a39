"""Settings, and the address and the token of the running system: each checked before a command uses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from services.cli.errors import UsageError
from services.cli.files import reason_of
from services.cli.log import set_log_level
from shared.settings import Settings

ServiceName = Literal["intake", "escalation", "ledger"]


def read_settings(data: Path | None = None) -> Settings:
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
    _check_url("REDIS_URL", settings.redis_url, _is_redis_url, "redis://host:6379/0")
    _check_url("DATABASE_URL", settings.database_url, _is_database_url, "postgresql://user@host/database")
    set_log_level(settings.log_level)
    return settings.model_copy(update={"data": data}) if data else settings


def _variable(field: str) -> str:
    return f"TRUCBAN_{field.upper()}" if field in Settings.model_fields else field


def _check_url(name: str, url: str | None, is_usable: Callable[[str], bool], example: str) -> None:
    if url is not None and not is_usable(url):
        raise UsageError(f"{name} is no such address: write one like {example}, or unset it")


def _is_redis_url(url: str) -> bool:
    from shared import messaging  # takes long to import, and most commands need none

    try:
        messaging.connect(url)
    except ValueError:
        return False
    return True


def _is_database_url(url: str) -> bool:
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from shared.database import DatabaseError, async_url

    try:
        make_url(async_url(url))
    except (ValueError, SQLAlchemyError, DatabaseError):
        return False
    return True


def check_address(url: str) -> str:
    """The address without a slash at its end. Raises UsageError for what is no address of a running system."""
    import httpx  # most commands need none

    try:
        parts = httpx.URL(url)
        if parts.scheme in {"http", "https"} and parts.host.encode("idna"):
            return url.rstrip("/")
    except (httpx.InvalidURL, UnicodeError):
        pass
    raise UsageError(f"{url} is no address (--url or TRUCBAN_URL): write one like http://127.0.0.1:8080")


def bearer_header(token: str | None) -> dict[str, str]:
    """The header that carries the token; empty without a token. Raises UsageError."""
    if token and not (token.isascii() and token.isprintable()):
        raise UsageError("--token or TRUCBAN_TOKEN is no token: give what trucban token issue printed")
    return {"authorization": f"Bearer {token}"} if token else {}

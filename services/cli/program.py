"""The start of `trucban`, and its end: exit code 0 done, 1 failed, 2 usage; an error is one line."""

import io
import sys
from typing import NoReturn

from services.cli.commands import app
from services.cli.errors import CommandError
from services.cli.log import start_log
from shared.keys import KeyFileError


def main() -> None:
    start_log()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be none that can be written
    try:
        app()
    except CommandError as error:
        _fail(error, error.exit_code)
    except KeyFileError as error:
        _fail(error)
    except UnicodeError as error:
        _fail(f"what was given is not UTF-8 ({error}): write it in UTF-8", 2)
    except Exception as error:
        _fail_if_expected(error)
        raise


def _fail_if_expected(error: Exception) -> None:
    """End with one line, if the error is one that is no fault of the program."""
    from sqlalchemy.exc import SQLAlchemyError

    from services.cli.embedded import EmbeddedError
    from services.escalation.application.import_directory import ImportingError
    from services.escalation.domain.rules.rulebook import RulebookError
    from services.ledger.application import LogError
    from services.ledger.domain.checkpoint import NoteError
    from shared.database import DatabaseError
    from shared.messaging import BrokerError

    if isinstance(error, (DatabaseError, EmbeddedError, RulebookError, ImportingError, LogError, NoteError)):
        _fail(error)
    if isinstance(error, (OSError, SQLAlchemyError, BrokerError)):
        reason = " ".join(str(getattr(error, "driver_exception", None) or error).split())
        _fail(f"{type(error).__name__}: {reason[:200]}: {_way_out(error)}")


def _way_out(error: Exception) -> str:
    from sqlalchemy.exc import SQLAlchemyError

    from shared.messaging import NOT_MIGRATED, BrokerError, sqlstate_of

    if sqlstate_of(error) in NOT_MIGRATED:
        return "the database is not of this version: run trucban migrate"
    if isinstance(error, BrokerError):
        return "check REDIS_URL and its Redis"
    if isinstance(error, SQLAlchemyError):
        return "check DATABASE_URL and its PostgreSQL"
    return "check DATABASE_URL, REDIS_URL and the disk"


def _fail(error: BaseException | str, code: int = 1) -> NoReturn:
    sys.stderr.write(f"trucban: {error}\n")
    raise SystemExit(code)

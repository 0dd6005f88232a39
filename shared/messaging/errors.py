"""Errors: which of them pass by themselves, and what may be said of one in a log."""

from functools import singledispatch

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_TRANSIENT_SQLSTATES = ("08", "25006", "40", "53", "55P03", "57P", "58")
"""Connection, read-only (failover), serialization and deadlock, resources, lock, operator action, system error."""


@singledispatch
def is_transient(error: BaseException) -> bool:
    """Whether the same work may well succeed later without anybody changing it.

    Knows the errors of the operating system and of PostgreSQL. A broker's room registers its broker's errors.
    """
    if isinstance(error, OSError | OperationalError | InterfaceError | PoolTimeoutError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", "") or "").startswith(_TRANSIENT_SQLSTATES)


def describe_error(error: BaseException) -> str:
    """Type of the error and where it arose; never its text, which may quote a person's words."""
    name = type(error).__name__
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        return f"{name}: {first['type']} at {'.'.join(str(part) for part in first['loc'])}"[:200]
    trace = error.__traceback__
    while trace and trace.tb_next and "site-packages" not in trace.tb_next.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
    return f"{name}{place}"

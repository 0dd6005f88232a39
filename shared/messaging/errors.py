"""Errors: what may come of waiting after one, and what may be said of one in a log.

Who asks is a consumer that has an event in hand, a loop, or a route. The question is always whether the *work* is to
blame. An event that is not to blame waits; it never becomes a dead letter for the state of a server. An event that is
to blame must not hold up the others.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import singledispatch
from traceback import walk_tb
from typing import NamedTuple

import asyncpg
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Outlook(Enum):
    """What comes of doing the same work again later."""

    PASSES = "it succeeds by itself"
    MENDED = "it succeeds once somebody has mended the installation; the work is not to blame"
    LASTS = "it fails again: the work or the program is to blame"


class Ruling(NamedTuple):
    outlook: Outlook
    why: str


_PASSES, _MENDED, _LASTS = Outlook.PASSES, Outlook.MENDED, Outlook.LASTS

SQLSTATES: Mapping[str, Ruling] = {
    "01": Ruling(_LASTS, "a warning; raised as an error only by a function that somebody added"),
    "02": Ruling(_LASTS, "no data; raised as an error only by a function that somebody added"),
    "03": Ruling(_LASTS, "the program used a statement before it was complete"),
    "08": Ruling(_PASSES, "the connection was lost or refused; poolers report any trouble of theirs as 08P01"),
    "09": Ruling(_LASTS, "a trigger refuses the row"),
    "0A": Ruling(_LASTS, "the server does not have the feature"),
    "0B": Ruling(_LASTS, "the program began a transaction in the wrong place"),
    "0F": Ruling(_LASTS, "the program used a wrong locator"),
    "0L": Ruling(_LASTS, "a GRANT is wrong; services grant nothing"),
    "0P": Ruling(_LASTS, "a role is wrong; services name none"),
    "0Z": Ruling(_LASTS, "diagnostics were asked for outside a handler"),
    "10": Ruling(_LASTS, "XQuery; services use none"),
    "20": Ruling(_LASTS, "a CASE without a branch for the value"),
    "21": Ruling(_LASTS, "a subquery gave more rows than one, or a row came twice in an upsert"),
    "22": Ruling(_LASTS, "the data does not fit: a NUL in a text, a number too large, a division by zero"),
    "23": Ruling(_LASTS, "a constraint refuses the row; a race for a key is lost, and found lost when tried again"),
    "24": Ruling(_LASTS, "the program used a cursor in the wrong state"),
    "25": Ruling(_LASTS, "the program used a transaction in the wrong state"),
    "25006": Ruling(_PASSES, "the server is read-only: a standby, until the failover is over"),
    "25P03": Ruling(
        _PASSES, "this process stood still in a transaction and lost it; the same work fits into a new one"
    ),
    "25P04": Ruling(_PASSES, "the transaction took too long, because the machine or a lock was slow"),
    "26": Ruling(_MENDED, "a prepared statement is gone: DATABASE_URL leads through a proxy that pools by transaction"),
    "27": Ruling(_LASTS, "a trigger changed the row that is being changed"),
    "28": Ruling(_MENDED, "the password or the role is not accepted"),
    "2B": Ruling(_LASTS, "something still depends on what is dropped; services drop nothing"),
    "2D": Ruling(_LASTS, "the program ended a transaction in the wrong place"),
    "2F": Ruling(_LASTS, "a function of SQL is wrong"),
    "34": Ruling(_LASTS, "the program named a wrong cursor"),
    "38": Ruling(_LASTS, "a function outside SQL is wrong"),
    "39": Ruling(_LASTS, "a function outside SQL or a trigger broke its protocol"),
    "3B": Ruling(_LASTS, "the program named a wrong savepoint"),
    "3D": Ruling(_MENDED, "the database is not there: not made yet, or being restored"),
    "3F": Ruling(_MENDED, "the schema is not there: not migrated yet"),
    "40": Ruling(_PASSES, "a deadlock or a conflict with another transaction: the loser goes again"),
    "42": Ruling(_LASTS, "the statement is wrong"),
    # The statements of a release fit its schema, which tests see to. So what is missing is not migrated yet, or a
    # migration is under way, and what is forbidden is a right that was forgotten. An event must survive both.
    "42501": Ruling(_MENDED, "a right is missing: a migration or a restore gave the tables to another role"),
    "42703": Ruling(_MENDED, "a column is missing: the schema is of another version, a migration is to come"),
    "42704": Ruling(_MENDED, "a type or an index is missing: as with a column"),
    "42883": Ruling(_MENDED, "a function is missing: as with a column"),
    "42P01": Ruling(_MENDED, "a table is missing: as with a column"),
    "44": Ruling(_LASTS, "the check of a view refuses the row"),
    "53": Ruling(_PASSES, "disk, memory or connections are used up"),
    "54": Ruling(_LASTS, "the row or the statement is larger than PostgreSQL allows; in halves it may fit"),
    "55": Ruling(_LASTS, "the program used an object in the wrong state"),
    "55000": Ruling(_MENDED, "the database or an object is kept closed: ALLOW_CONNECTIONS false, a recovery"),
    "55006": Ruling(_PASSES, "another session uses the object"),
    "55P03": Ruling(_PASSES, "a lock was not to be had in time"),
    "57": Ruling(_PASSES, "an operator, a shutdown or a time-out of statements (57014) stopped the work"),
    "57P04": Ruling(_MENDED, "the database was dropped: it is being restored"),
    "58": Ruling(_PASSES, "the operating system failed: an I/O error, a file that is missing"),
    "72": Ruling(_PASSES, "the snapshot became too old: the next one is new"),
    "F0": Ruling(_MENDED, "a file of settings of the server is wrong; also the ledger's LogError"),
    "HV": Ruling(_LASTS, "a foreign table; services have none"),
    "P0": Ruling(_LASTS, "PL/pgSQL that somebody added refuses the row"),
    # One damaged page must not stop all wards. Its events become dead letters, are loud, and can be retried.
    "XX": Ruling(_LASTS, "an internal error, or damaged data; what touches other rows goes on"),
}
"""By the beginning of an SQLSTATE; the longest that fits counts. PostgreSQL's manual lists them in appendix A."""

NOT_MIGRATED = frozenset({"3F000", "42703", "42704", "42883", "42P01"})
"""What a database says that `trucban migrate` has not brought to this version."""

_TYPES: Sequence[tuple[type[Exception], Ruling]] = (
    (asyncpg.InvalidCachedStatementError, Ruling(_PASSES, "the schema changed; the statement is prepared anew")),
    (asyncpg.OutdatedSchemaCacheError, Ruling(_PASSES, "the schema changed; it is looked up anew")),
    (asyncpg.DataError, Ruling(_LASTS, "the driver cannot encode the value, such as a number too large")),
    (asyncpg.ClientConfigurationError, Ruling(_MENDED, "DATABASE_URL or a setting of the driver is wrong")),
    (asyncpg.UnsupportedClientFeatureError, Ruling(_LASTS, "the driver does not have the feature")),
    (asyncpg.UnsupportedServerFeatureError, Ruling(_LASTS, "the server does not have the feature")),
    (asyncpg.InterfaceError, Ruling(_PASSES, "the connection is closed or busy; another one is not")),
    (asyncpg.InternalClientError, Ruling(_PASSES, "the connection is in disorder; another one is not")),
)
"""Errors of the driver that have no SQLSTATE, or one that says less. The first that fits counts."""

_OTHER_TYPES: Sequence[tuple[type[Exception], Ruling]] = (
    (OperationalError, Ruling(_PASSES, "a driver's word for a server that is away")),
    (InterfaceError, Ruling(_PASSES, "a driver's word for a connection that is lost")),
    (PoolTimeoutError, Ruling(_PASSES, "all connections of this process are in use")),
    (DisconnectionError, Ruling(_PASSES, "the connection was found to be lost")),
    (PendingRollbackError, Ruling(_PASSES, "the connection was lost earlier in this transaction")),
    (OSError, Ruling(_PASSES, "the network, the disk, or a time-out of asyncio: all of them are OSErrors")),
)


@singledispatch
def outlook_of(error: BaseException) -> Outlook:
    """What comes of doing the same work again later.

    Knows the errors of the operating system and of PostgreSQL. A broker's room registers its broker's errors. What
    nobody knows lasts.
    """
    driver = error.driver_exception if isinstance(error, DBAPIError) else error
    found = _of_type(driver, _TYPES)
    if found is None and isinstance(error, DBAPIError) and error.connection_invalidated:
        return Outlook.PASSES
    ruling = found or ruling_of_sqlstate(sqlstate_of(error)) or _of_type(error, _OTHER_TYPES)
    return ruling.outlook if ruling else Outlook.LASTS


def is_transient(error: BaseException) -> bool:
    """Whether the same work may well succeed later without anybody changing it."""
    return outlook_of(error) is not Outlook.LASTS


def passes_by_itself(error: BaseException) -> bool:
    """Whether waiting is enough, and no operator is needed. False is no reason to give an event up."""
    return outlook_of(error) is Outlook.PASSES


def sqlstate_of(error: BaseException) -> str:
    """PostgreSQL's code of five characters; "" where there is none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(cause, "sqlstate", None) or "")


def ruling_of_sqlstate(sqlstate: str) -> Ruling | None:
    """None for a class that PostgreSQL does not have."""
    return next((SQLSTATES[sqlstate[:n]] for n in range(len(sqlstate), 1, -1) if sqlstate[:n] in SQLSTATES), None)


def _of_type(error: BaseException | None, table: Sequence[tuple[type[Exception], Ruling]]) -> Ruling | None:
    return next((ruling for kind, ruling in table if isinstance(error, kind)), None)


_NOT_OURS = ("site-packages", "/lib/python3")


def describe_error(error: BaseException) -> str:
    """Type of the error, its SQLSTATE, and where it arose; never its text, which may quote a person's words."""
    name = type(error).__name__
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        return f"{name}: {first['type']} at {'.'.join(str(part) for part in first['loc'])}"[:200]
    if sqlstate := sqlstate_of(error):
        name = f"{name} {sqlstate}"
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    ours = [place for place in places if not any(folder in place[0] for folder in _NOT_OURS)]
    file, line = (ours or places or [("", 0)])[-1]
    return f"{name} at {file}:{line}" if file else name

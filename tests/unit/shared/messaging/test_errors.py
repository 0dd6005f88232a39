"""Which errors pass by themselves, and what is said of an error."""

import asyncio

import asyncpg
import pytest
from redis.exceptions import BusyLoadingError, DataError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.messaging import describe_error, is_transient, passes_by_itself
from shared.messaging.errors import SQLSTATES, ruling_of_sqlstate

KNOWN: dict[str, type[Exception]] = {
    error.sqlstate: error
    for error in vars(asyncpg.exceptions).values()
    if isinstance(error, type) and getattr(error, "sqlstate", None)
}
"""Every SQLSTATE that the driver knows, which are those of PostgreSQL's appendix A."""
PASS = {
    *("08000", "08001", "08003", "08004", "08006", "08007", "08P01"),
    *("25006", "25P03", "25P04"),
    *("40000", "40001", "40002", "40003", "40P01"),
    *("53000", "53100", "53200", "53300", "53400"),
    *("55006", "55P03"),
    *("57000", "57014", "57P01", "57P02", "57P03", "57P05"),
    *("58000", "58030", "58P01", "58P02", "58P03"),
    "72000",
}
WAIT_FOR_AN_OPERATOR = {
    *("26000", "28000", "28P01", "3D000", "3F000"),
    *("42501", "42703", "42704", "42883", "42P01"),
    *("55000", "57P04", "F0000", "F0001"),
}


class DriverError(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def of_database(sqlstate: str, invalidated: bool = False) -> DBAPIError:
    return DBAPIError("SELECT 1", None, DriverError(sqlstate), connection_invalidated=invalidated)


def of_driver(error: Exception) -> DBAPIError:
    return DBAPIError("SELECT 1", None, error)


def test_every_sqlstate_that_the_driver_knows_has_a_ruling_with_a_reason() -> None:
    assert len(KNOWN) > 200
    for sqlstate in KNOWN:
        ruling = ruling_of_sqlstate(sqlstate)
        assert ruling is not None, sqlstate
        assert ruling.why, sqlstate


def test_no_ruling_is_about_what_there_is_not() -> None:
    for beginning in SQLSTATES:
        assert any(sqlstate.startswith(beginning) for sqlstate in KNOWN), beginning


def test_which_sqlstates_are_waited_out_and_which_need_an_operator_too() -> None:
    assert {s for s in KNOWN if passes_by_itself(of_database(s))} == PASS
    assert {s for s in KNOWN if is_transient(of_database(s))} == PASS | WAIT_FOR_AN_OPERATOR


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        OperationalError("SELECT 1", None, DriverError("")),
        InterfaceError("SELECT 1", None, DriverError("")),
        PoolTimeoutError(),
        PendingRollbackError(),
        of_database("40P01"),
        of_database("57P01"),
        of_database("22012", invalidated=True),
        of_driver(asyncpg.InterfaceError("connection is closed")),
        of_driver(asyncpg.InternalClientError("unexpected message")),
        of_driver(asyncpg.InvalidCachedStatementError("cached plan must not change result type")),
        DriverError("08006"),
        asyncpg.QueryCanceledError(),
        RedisConnectionError(),
        RedisConnectionError("max number of clients reached", status_code="ERR"),
        RedisTimeoutError(),
        BusyLoadingError(),
        ResponseError("NOGROUP No such key"),
        ResponseError("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed"),
        RedisError(),
    ],
    ids=repr,
)
def test_what_passes_by_itself(error: Exception) -> None:
    assert is_transient(error)
    assert passes_by_itself(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        of_database("22012"),
        of_database("ZZ999"),
        IntegrityError("INSERT", None, DriverError("23505")),
        InterfaceError("INSERT", None, asyncpg.DataError("invalid input for query argument $1: value out of range")),
        DriverError("23505"),
        DataError(),
        ResponseError("ERR wrong number of arguments for 'xadd' command"),
        ResponseError("CROSSSLOT Keys in request don't hash to the same slot"),
    ],
    ids=repr,
)
def test_what_lasts(error: Exception) -> None:
    assert not is_transient(error)


@pytest.mark.parametrize("code", ["NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE"])
def test_what_redis_refuses_until_it_is_mended_is_no_events_fault(code: str) -> None:
    error = ResponseError(f"{code} whatever it says")
    assert is_transient(error)
    assert not passes_by_itself(error)


def test_an_error_is_described_without_its_words() -> None:
    try:
        raise ValueError("Nguyễn Văn A")
    except ValueError as error:
        said = describe_error(error)
    assert said.startswith("ValueError at ")
    assert "Nguyễn" not in said


def test_an_error_of_the_database_is_described_with_its_code() -> None:
    assert describe_error(of_database("53100")) == "DBAPIError 53100"


def test_a_time_out_of_asyncio_passes_and_a_cancellation_is_none() -> None:
    """`asyncio.timeout` turns the cancellation that it asked for into a TimeoutError; any other ends the work."""

    async def too_slow() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as slow:
        asyncio.run(too_slow())
    assert is_transient(slow.value)
    assert not is_transient(asyncio.CancelledError())

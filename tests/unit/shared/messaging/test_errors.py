"""Which errors pass by themselves, and what is said of an error."""

import pytest
from redis.exceptions import BusyLoadingError, DataError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.messaging import describe_error, is_transient


class DriverError(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def of_database(sqlstate: str, invalidated: bool = False) -> DBAPIError:
    return DBAPIError("SELECT 1", None, DriverError(sqlstate), connection_invalidated=invalidated)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        OperationalError("SELECT 1", None, DriverError("")),
        InterfaceError("SELECT 1", None, DriverError("")),
        PoolTimeoutError(),
        of_database("40P01"),
        of_database("57P01"),
        of_database("22012", invalidated=True),
        DriverError("08006"),
        RedisConnectionError(),
        RedisTimeoutError(),
        BusyLoadingError(),
        ResponseError("NOGROUP No such key"),
        RedisError(),
    ],
    ids=repr,
)
def test_what_passes_by_itself(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        of_database("22012"),
        IntegrityError("INSERT", None, DriverError("23505")),
        DriverError("23505"),
        DataError(),
    ],
    ids=repr,
)
def test_what_lasts(error: Exception) -> None:
    assert not is_transient(error)


def test_an_error_is_described_without_its_words() -> None:
    try:
        raise ValueError("Nguyễn Văn A")
    except ValueError as error:
        said = describe_error(error)
    assert said.startswith("ValueError at ")
    assert "Nguyễn" not in said

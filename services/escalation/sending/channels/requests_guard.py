"""What Apprise's plug-ins may do over HTTP: they call `requests`, which nothing else here uses.

They connect to hosts that are judged when the connection is made, follow no redirect, take no proxy and no password
from the environment, and read no more of an answer than a person would send, since a body may be endless.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from socket import socket
from typing import Any, cast

from requests import sessions
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError

from services.escalation.sending.channels.connecting import addresses
from shared.clock import monotonic

LONGEST_ANSWER = 1_000_000
"""Bytes of an answer that are read."""
LONGEST_ANSWER_SECONDS = 5.0


class Judged(HTTPConnection):
    """A connection to an address that was judged, under the host's name."""

    def _new_conn(self) -> socket:
        return _connect(self, super()._new_conn)


class JudgedTls(HTTPSConnection):
    """The same with TLS, which is for the host's name."""

    def _new_conn(self) -> socket:
        return _connect(self, super()._new_conn)


class _Pool(HTTPConnectionPool):
    ConnectionCls: Any = Judged


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls: Any = JudgedTls


class Guarded(HTTPAdapter):
    """How `requests` sends."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = cast("Any", {"http": _Pool, "https": _TlsPool})

    def send(self, request: Any, *more: Any, **options: Any) -> Any:
        response = super().send(request, *more, **options | {"stream": True, "proxies": {}})
        response.headers.pop("location", None)  # without it `requests` sees no redirect
        body, until = bytearray(), monotonic() + LONGEST_ANSWER_SECONDS
        while len(body) < LONGEST_ANSWER and monotonic() < until:
            part = response.raw.read1(LONGEST_ANSWER - len(body), decode_content=True)
            if not part:
                break
            body += part
        response.raw.close()
        response.raw = BytesIO(body)
        return response


@cache
def install() -> None:
    """Let every session of `requests` send so, and no plug-in write into the log: it would name numbers and tokens."""
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    setattr(sessions, "HTTPAdapter", Guarded)  # noqa: B010 - it is not among the names that the module exports
    setattr(sessions, "get_netrc_auth", _no_password)  # noqa: B010 - the same


def _no_password(*_: object) -> None:
    """What `requests` finds in ~/.netrc: no channel has its password there."""


def _connect(connection: HTTPConnection, connect: Callable[[], socket]) -> socket:
    """Connect to the first address of the host that answers."""
    name = connection.host
    try:
        found = addresses(name, connection.port)
    except OSError as error:
        raise NewConnectionError(connection, f"not connected: {error}") from error
    try:
        for address in found[:-1]:
            connection.host = address
            with suppress(HTTPError):
                return connect()
        connection.host = found[-1]
        return connect()
    finally:
        connection.host = name

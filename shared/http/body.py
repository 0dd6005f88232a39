"""Reading a request's body: of a known caller, and no more than a limit."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from shared.http.guard import principal
from shared.http.problem import Problem


async def read(request: Request, limit: int) -> bytes:
    """Raises Problem 413 as soon as the limit is passed, before the rest is read, and 400 where it breaks off."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > limit:
                raise _too_large(limit)
    except ClientDisconnect as error:
        raise Problem(400, "the body broke off: send it again") from error
    return bytes(content)


def _too_large(limit: int) -> Problem:
    return Problem(413, f"body is larger than {limit} bytes: send less at once")


class _Read(Request):
    """A request whose body has been read."""

    def __init__(self, request: Request, content: bytes) -> None:
        super().__init__(request.scope, request.receive)
        self._content = content

    async def body(self) -> bytes:
        return self._content


def bounded(limit: int) -> type[APIRoute]:
    """Routes for callers with a token; FastAPI itself would read and parse anybody's body before it asks who they are.

    Raises Problem 401 before a byte is read, and 413 over `limit` bytes.
    """

    class Bounded(APIRoute):
        body_limit = limit

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def known(request: Request) -> Response:
                principal(request)
                return await handle(_Read(request, await read(request, limit)))

            return known

    return Bounded

"""Who calls: the caller of a request, whom the table of rights lets in."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from shared.http.identity import Principal, TokenVerifier, unauthenticated
from shared.http.rate import Rate
from shared.http.rights import Rights

SCHEME = "token"


def principal(request: Request) -> Principal:
    """The caller of this request; the app's `state.verifier` checks the token. Raises Problem 401."""
    return _verifier(request).verify(_token(request))


@contextmanager
def until_revoked(request: Request) -> Generator[asyncio.Event]:
    """Yields an event that is set when the token of the request, which was accepted, is revoked."""
    tokens, token, revoked = _verifier(request), _token(request), asyncio.Event()

    def look() -> None:
        if tokens.is_revoked(token):
            revoked.set()

    tokens.revoked.on_change.append(look)
    try:
        look()  # since it was accepted
        yield revoked
    finally:
        tokens.revoked.on_change.remove(look)


def _verifier(request: Request) -> TokenVerifier:
    return request.app.state.verifier


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("send 'Authorization: Bearer <token>'; an administrator issues one")
    return token.strip()


def row_name(method: str, route: Any) -> str:
    """The name of the route's row in the table of rights."""
    return f"{method} {route.path_format}"


class Guard(SecurityBase):
    """A dependency that lets in the roles that the app's `state.rights` have for the route.

    FastAPI documents it as the token which it asks for.
    """

    def __init__(self) -> None:
        self.scheme_name = SCHEME
        self.model = HTTPBearer(
            bearerFormat="JWT", description="Signed with Ed25519; `trucban token issue` makes one for a role."
        )

    # async, though it waits for nothing: FastAPI would send a plain function to a thread
    async def __call__(self, request: Request) -> Principal:
        """Raises Problem 401, 403, or 429 where the caller asks too much."""
        caller = principal(request)
        rate: Rate = request.app.state.rate
        rate.take(caller.subject)
        rights: Rights = request.app.state.rights
        rights[row_name(request.method, request.scope["route"])].insist(caller.role)
        return caller


guarded = Depends(Guard())
"""Of a route that does not look at who calls."""
Caller = Annotated[Principal, guarded]
"""Of every other route that is not public."""

"""Who may call a route: the caller of a request, and the roles that a route names."""

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from shared.http.identity import Principal, Role, TokenVerifier, unauthenticated
from shared.http.problem import Problem

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


class Guard(SecurityBase):
    """A dependency that lets in certain roles, and that FastAPI documents as the token which it asks for."""

    def __init__(self, roles: Iterable[Role], takers: Iterable[Role]) -> None:
        self.roles, self.takers = tuple(roles), tuple(takers)
        self.scheme_name = SCHEME
        self.model = HTTPBearer(
            bearerFormat="JWT", description="Signed with Ed25519; `trucban token issue` makes one for a role."
        )

    # async, though it waits for nothing: FastAPI would send a plain function to a thread
    async def __call__(self, request: Request) -> Principal:
        """Raises Problem 401 or 403."""
        caller = principal(request)
        if caller.role not in self.roles:
            raise Problem(403, f"role {caller.role} may not do this; it takes {' or '.join(self.roles)}")
        return caller


def require(*roles: Role, takers: Iterable[Role] | None = None) -> Guard:
    """A route's guard: `caller: Annotated[Principal, Depends(require("desk", "admin"))]`. Raises Problem 403.

    `takers`: the roles that the document names, where what is behind the guard refuses some of `roles` by itself.
    """
    return Guard(roles, roles if takers is None else takers)

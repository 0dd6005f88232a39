"""Who may call a route: the caller of a request, and the roles that a route names."""

from collections.abc import Iterable

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from shared.http.identity import Principal, Role, TokenVerifier, unauthenticated
from shared.http.problem import Problem
from shared.http.rate import Rate

SCHEME = "token"


def principal(request: Request) -> Principal:
    """The caller of this request; the app's `state.verifier` checks the token. Raises Problem 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("send 'Authorization: Bearer <token>'; an administrator issues one")
    tokens: TokenVerifier = request.app.state.verifier
    return tokens.verify(token.strip())


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
        """Raises Problem 401, 403, or 429 where the caller asks too much."""
        caller = principal(request)
        rate: Rate = request.app.state.rate
        rate.take(caller.subject)
        if caller.role not in self.roles:
            raise Problem(403, f"role {caller.role} may not do this; it takes {' or '.join(self.roles)}")
        return caller


def require(*roles: Role, takers: Iterable[Role] | None = None) -> Guard:
    """A route's guard: `caller: Annotated[Principal, Depends(require("desk", "admin"))]`. Raises Problem 403.

    `takers`: the roles that the document names, where what is behind the guard refuses some of `roles` by itself.
    """
    return Guard(roles, roles if takers is None else takers)

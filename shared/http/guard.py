"""Who may call a route: the caller of a request, and the roles that a route names."""

from collections.abc import Awaitable, Callable

from fastapi import Request

from shared.http.identity import Principal, Role, TokenVerifier, unauthenticated
from shared.http.problem import Problem


def principal(request: Request) -> Principal:
    """The caller of this request; the app's `state.verifier` checks the token. Raises Problem 401."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("send 'Authorization: Bearer <token>'; an administrator issues one")
    tokens: TokenVerifier = request.app.state.verifier
    return tokens.verify(token.strip())


def require(*roles: Role) -> Callable[[Request], Awaitable[Principal]]:
    """A route's guard: `caller: Annotated[Principal, Depends(require("desk", "admin"))]`. Raises Problem 403."""

    # async, though it waits for nothing: FastAPI would send a plain function to a thread
    async def guard(request: Request) -> Principal:
        caller = principal(request)
        if caller.role not in roles:
            raise Problem(403, f"role {caller.role} may not do this; it takes {' or '.join(roles)}")
        return caller

    return guard

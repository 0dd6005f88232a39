"""Query parameters that a route does not have: refused, since a mistyped filter must not look like a whole answer."""

from collections.abc import Iterator
from difflib import get_close_matches

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from shared.http.problem import MOST_ERRORS, MOST_POINTER, FieldError, invalid


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency of routes. Raises Problem 422 that names each unknown parameter, with the nearest known one."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = list(_parameters(route.dependant))
    wrong = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if wrong:
        first = wrong[:MOST_ERRORS]  # to look for the nearest name takes long
        raise invalid([FieldError(f"#/{name}", _detail(name[:MOST_POINTER], known)) for name in first], of=len(wrong))


def _parameters(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _parameters(each)


def _detail(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    if near:
        return f"there is no such parameter: is it {near[0]}?"
    return f"there is no such parameter: use {', '.join(known)}" if known else "this route takes no parameters"

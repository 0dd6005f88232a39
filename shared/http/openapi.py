"""The OpenAPI document of a service, with what FastAPI does not know: problems, roles, and bodies read by hand.

Which problems a route can answer follows from what it is made of: its guard, its path, its parameters, its body. What
only the route knows (409, say) it declares itself with `problems`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import BaseModel

from shared.http.body import read
from shared.http.guard import Guard, row_name
from shared.http.problem import NO_DATABASE
from shared.http.rights import Right, Rights
from shared.http.schemas import Problem

MEDIA_TYPE = "application/problem+json"
REFERENCE = "#/components/schemas/{model}"
PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(model="Problem")}}}
RETRY_AFTER = {"Retry-After": {"description": "seconds until it is worth trying again", "schema": {"type": "integer"}}}
Responses = dict[int | str, dict[str, Any]]


def problems(described: Mapping[int, str]) -> Responses:
    """For a route's `responses`: what each status means there."""
    return {status: _problem(status, text) for status, text in described.items()}


def _problem(status: int | str, text: str) -> dict[str, Any]:
    headers = {"headers": RETRY_AFTER} if str(status) in ("429", "503") else {}
    return {"description": text, "content": PROBLEM_CONTENT} | headers


@dataclass(frozen=True, eq=False)
class RawBody:
    """A dependency: the bytes of a body that the route parses itself. `content`: its media types, for the document.

    Goes after the guard among the parameters, so that nobody's body is read whose token is not known.
    """

    limit: int
    content: Mapping[str, Any]
    models: Iterable[type[BaseModel]] = field(default=())
    """What `content` refers to."""

    async def __call__(self, request: Request) -> bytes:
        """Raises Problem 413."""
        return await read(request, self.limit)


class UnlistedRouteError(Exception):
    """A route and the table of rights disagree. The text names the route."""


def check_rights(router: APIRouter, rights: Rights) -> None:
    """Every route has a row, and asks for a token unless its row is public. Raises UnlistedRouteError."""
    for route in iter_route_contexts(router.routes):
        for method in route.methods or ():
            name = row_name(method, route.original_route)
            if name not in rights:
                raise UnlistedRouteError(f"{name} is not in the table of rights: add a row")
            if bool(rights[name].roles) != any(_found(route, Guard)):
                raise UnlistedRouteError(f"{name}: a public route asks for no caller, and every other one does")


class DocumentedApp(FastAPI):
    """A FastAPI application whose document is complete. The document is made once, when it is first asked for.

    `state.rights` say who may call its routes.
    """

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = self._complete(super().openapi())
        return self.openapi_schema

    def _complete(self, document: dict[str, Any]) -> dict[str, Any]:
        schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas |= _schemas_of(Problem)
        for route in iter_route_contexts(self.routes):
            if isinstance(route.original_route, APIRoute) and route.include_in_schema:
                for body in _found(route, RawBody):
                    for model in body.models:
                        schemas |= _schemas_of(model)
                for method in route.methods or ():
                    right = self.state.rights.get(row_name(method, route.original_route))
                    _complete_operation(document["paths"][route.path_format][method.lower()], route, right)
        return _with_short_names(document)


def _with_short_names(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI names two models of one name by their whole modules; the last part of these will do."""
    text = orjson.dumps(document).decode()
    for name in document["components"]["schemas"]:
        if "__" in name:
            *_, module, short = name.split("__")
            text = text.replace(name, module.title().replace("_", "") + short)
    return orjson.loads(text)


def _schemas_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=REFERENCE)
    return schema.pop("$defs", {}) | {model.__name__: schema}


def _complete_operation(operation: dict[str, Any], route: RouteContext, right: Right | None) -> None:
    body: RawBody | None = next(_found(route, RawBody), None)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": dict(body.content)}
    is_guarded = right is not None and any(_found(route, Guard))
    who = f"Roles: {', '.join(right.roles)}." if right and is_guarded else _public(operation)
    operation["description"] = "\n\n".join(text for text in (operation.get("description"), who) if text)
    responses: dict[str, Any] = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    limit = body.limit if body is not None else getattr(route.original_route, "body_limit", None)
    for status, text in _statuses(operation, route, limit, is_guarded=is_guarded):
        responses.setdefault(status, _problem(status, text))
    operation["responses"] = dict(sorted(responses.items()))


def _public(operation: dict[str, Any]) -> str:
    return "Public." if "security" not in operation else ""


def _statuses(
    operation: dict[str, Any], route: RouteContext, limit: int | None, *, is_guarded: bool
) -> Iterator[tuple[str, str]]:
    """The problems that follow from what the route is made of."""
    path = str(route.path)
    if is_guarded:
        yield "401", "no token, or one that is not accepted"
        yield "403", "not this role's, or not this ward's"
        yield "429", "more than this credential may ask, at once or a minute"
    if "{" in path:
        yield "404", "there is no such thing, or none that the caller may see"
    if "requestBody" in operation:
        yield "400", "the body is not UTF-8" if route.body_field is not None else "the body is not UTF-8 or not JSON"
        yield "413", f"the body has more than {limit} bytes"
    if route.body_field is not None or any(_is_checked(p) for p in operation.get("parameters", ())):
        yield "422", "a parameter or the body is wrong; `errors` names each place"
    if path.startswith("/v1/"):
        yield "503", NO_DATABASE
    yield "default", "any other problem: an address that leads nowhere or holds a NUL, or a fault of ours"


def _is_checked(parameter: dict[str, Any]) -> bool:
    """Whether it can be wrong: not where any text will do, but for a cursor only what a list gave out will."""
    if parameter["name"] == "cursor" or (parameter["required"] and parameter["in"] != "path"):
        return True
    schema = parameter["schema"]
    plain = [{"type": "string"}, {"type": "null"}]
    said = ("title", "description", "default")
    kinds = schema.get("anyOf", [schema])
    return any({name: one[name] for name in one if name not in said} not in plain for one in kinds)


def _found(route: RouteContext, kind: type[Any]) -> Iterator[Any]:
    """What of `kind` the route depends on."""
    waiting: list[Dependant] = [route.dependant]
    while waiting:
        dependant = waiting.pop(0)
        if isinstance(dependant.call, kind):
            yield dependant.call
        waiting += dependant.dependencies

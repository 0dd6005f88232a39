"""How services become one ASGI application: each under its own prefix, with health, metrics and documents."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from shared import documents
from shared.clock import Clock
from shared.http import errors
from shared.http.docs import add_docs
from shared.http.health import Check, Checks, add_health, ask
from shared.http.identity import TokenVerifier
from shared.http.index import add_index
from shared.http.openapi import DocumentedApp, check_rights
from shared.http.problem import Problem
from shared.http.rate import Rate
from shared.http.rights import Rights
from shared.http.safe_answers import SafeAnswers
from shared.settings import Settings

log = structlog.get_logger()

ABOUT = """Times are RFC 3339 with an offset. Ids are UUIDv7 unless the sender chose them. Every list is
`{"items": […], "next": cursor or null}`; `?cursor=` goes on from there. A failure is a `Problem` (RFC 9457).
A token goes into `Authorization: Bearer`; people of a ward see what is of their ward."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A wired service. `running` owns its database, broker and loops; `checks` answers whether it can do its job.

    Each service returns a subclass of its own, with what others need of it by name and type.
    """

    name: str
    app: FastAPI
    running: Callable[[], AbstractAsyncContextManager[None]]
    checks: Checks
    end_connections: Callable[[], None] | None = None
    """Called when the server stops, before it waits for its connections: ends those that would stay open."""


def service_app(
    name: str, verifier: TokenVerifier, routes: APIRouter, rights: Rights, rate: Rate | None = None
) -> FastAPI:
    """The FastAPI application of one service, mounted at `/name`; its routes are those of `/name/v1`.

    `rights`: who may call them. `rate`: of each credential; None: as the settings have it where nothing is set. Raises
    UnlistedRouteError for a route without a row.
    """
    check_rights(routes, rights)
    app = DocumentedApp(
        title=f"Trực Ban {name}",
        version="1",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.verifier, app.state.rights = verifier, rights
    app.state.rate = rate or rate_of(Settings.model_construct())
    errors.install(app)
    errors.install_outages(app)
    add_docs(app)
    app.include_router(routes, prefix="/v1")
    return app


def rate_of(settings: Settings) -> Rate:
    """How much one credential may ask of a service of these settings."""
    return Rate(settings.rate_per_minute, settings.rate_at_once)


class NoNul:
    """Refuses U+0000 in an address, which no PostgreSQL text can hold, before any route sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            refused = Problem(400, "the address holds a NUL character (%00): leave it out")
            await errors.response(refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class RootApp(FastAPI):
    """The application around all that a process serves."""

    def build_middleware_stack(self) -> ASGIApp:
        """Around Starlette's own handling of errors, too, which answers outside of all that is added."""
        return SafeAnswers(super().build_middleware_stack())


def checks_of_all(services: Sequence[Service]) -> Checks:
    """The checks of all services, each under its service's name. They answer in time, and raise nothing."""

    async def all_checks() -> Sequence[Check]:
        found = await asyncio.gather(*(ask(service.checks) for service in services))
        return [
            Check(f"{service.name}.{check.name}", check.ok, check.detail)
            for service, checks in zip(services, found, strict=True)
            for check in checks
        ]

    return all_checks


def root_app(names: Sequence[str], verifier: TokenVerifier, clock: Clock | None = None) -> FastAPI:
    """What is served beside the services `names`, but for their health: the page at `/`, and the streams' document.

    `clock`: that of the services, for the page, which tells when it was moved.
    """
    root = RootApp(title="Trực Ban", docs_url=None, redoc_url=None, openapi_url=None)
    root.add_middleware(NoNul)
    root.state.verifier = verifier
    errors.install(root)
    add_index(root, names, clock)
    root.add_api_route("/asyncapi", documents.asyncapi, tags=["documents"])
    return root


def compose(services: Sequence[Service], verifier: TokenVerifier, clock: Clock | None = None) -> FastAPI:
    """One application for all `services`, which somebody else runs. `clock`: as for `root_app`."""
    root = root_app([service.name for service in services], verifier, clock)
    add_health(root, checks_of_all(services))
    for service in services:
        add_health(service.app, partial(ask, service.checks))
        root.mount(f"/{service.name}", service.app)
    return root

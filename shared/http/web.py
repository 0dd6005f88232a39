"""How services become one ASGI application: each under its own prefix, with health, metrics and documents."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from shared import documents
from shared.clock import Clock
from shared.http import errors
from shared.http.docs import add_docs
from shared.http.guard import SCHEME, principal
from shared.http.identity import TokenVerifier
from shared.http.index import add_index
from shared.http.openapi import DocumentedApp, Responses, problems
from shared.http.problem import Problem
from shared.http.schemas import CheckResult, Health, Readiness

log = structlog.get_logger()
LOOPBACK = {"127.0.0.1", "::1", "localhost", "testclient"}

ABOUT = """Times are RFC 3339 with an offset. Ids are UUIDv7 unless the sender chose them. Every list is
`{"items": […], "next": cursor or null}`; `?cursor=` goes on from there. A failure is a `Problem` (RFC 9457).
A token goes into `Authorization: Bearer`; people of a ward see what is of their ward."""


@dataclass(frozen=True)
class Check:
    """One thing that a service needs to do its job; `detail` says what is wrong and what to do."""

    name: str
    ok: bool
    detail: str = ""


class Metrics(Response):
    media_type = CONTENT_TYPE_LATEST


def checks_of(health_failures: Mapping[str, str | None]) -> list[Check]:
    """One check a complaint; None is well."""
    return [Check(name, text is None, text or "") for name, text in health_failures.items()]


@dataclass(frozen=True, kw_only=True)
class Service:
    """A wired service. `running` owns its database, broker and loops; `checks` answers whether it can do its job.

    Each service returns a subclass of its own, with what others need of it by name and type.
    """

    name: str
    app: FastAPI
    running: Callable[[], AbstractAsyncContextManager[None]]
    checks: Callable[[], Awaitable[Sequence[Check]]]
    end_connections: Callable[[], None] | None = None
    """Called when the server stops, before it waits for its connections: ends those that would stay open."""


def service_app(name: str, verifier: TokenVerifier, routes: APIRouter) -> FastAPI:
    """The FastAPI application of one service, mounted at `/name`; its routes are those of `/name/v1`."""
    app = DocumentedApp(
        title=f"Trực Ban {name}",
        version="1",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.verifier = verifier
    errors.install(app)
    errors.install_outages(app)
    add_docs(app)
    app.include_router(routes, prefix="/v1")
    return app


def _add_health(app: FastAPI, checks: Callable[[], Awaitable[Sequence[Check]]]) -> None:
    async def healthz() -> Health:
        """Whether the process answers."""
        return Health(status="alive")

    async def readyz(response: Response) -> Readiness:
        """Whether the service can do its job: database, broker, and the progress of its loops."""
        found = await _ask(checks)
        ready = all(c.ok for c in found)
        response.status_code = 200 if ready else 503
        return Readiness(
            status="ready" if ready else "not ready",
            checks=[CheckResult(name=c.name, ok=c.ok, detail=c.detail) for c in found],
        )

    async def metrics(request: Request) -> Metrics:
        """Prometheus text. From this machine, or with a token of any role."""
        if request.client is None or request.client.host not in LOOPBACK:
            principal(request)
        return Metrics(generate_latest(REGISTRY))

    not_ready: Responses = {503: {"model": Readiness, "description": "the service cannot do its job; `checks` say why"}}
    app.add_api_route("/healthz", healthz, tags=["health"])
    app.add_api_route("/readyz", readyz, tags=["health"], responses=not_ready)
    app.add_api_route(
        "/metrics",
        metrics,
        tags=["health"],
        response_class=Metrics,
        responses=problems({401: "from elsewhere, and without a token"}),
        openapi_extra={"security": [{}, {SCHEME: []}]},
    )


async def _ask(checks: Callable[[], Awaitable[Sequence[Check]]]) -> Sequence[Check]:
    try:
        return await checks()
    except Exception as error:
        log.warning("readiness check failed", error=type(error).__name__)
        return [Check("readiness", False, f"{type(error).__name__}: database or broker does not answer")]


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


def compose(services: Sequence[Service], verifier: TokenVerifier, clock: Clock | None = None) -> FastAPI:
    """One application for all `services`; starting and stopping it starts and stops them in order.

    `clock`: theirs, for the page at `/`, which tells when it was moved.
    """

    async def all_checks() -> Sequence[Check]:
        return [
            Check(f"{service.name}.{check.name}", check.ok, check.detail)
            for service in services
            for check in await _ask(service.checks)
        ]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for service in services:
                await stack.enter_async_context(service.running())
            yield

    root = FastAPI(title="Trực Ban", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    root.add_middleware(NoNul)
    root.state.verifier = verifier
    errors.install(root)
    add_index(root, [service.name for service in services], clock)
    _add_health(root, all_checks)
    root.add_api_route("/asyncapi", documents.asyncapi, tags=["documents"])
    for service in services:
        _add_health(service.app, service.checks)
        root.mount(f"/{service.name}", service.app)
    return root

"""Health: whether a process answers, whether it can do its job, and its metrics."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest

from shared.background import in_background
from shared.http.guard import SCHEME, principal
from shared.http.openapi import Responses, problems
from shared.http.schemas import CheckResult, Health, Readiness

log = structlog.get_logger()
LOOPBACK = {"127.0.0.1", "::1", "localhost", "testclient"}
ANSWER_SECONDS = 5.0
"""How long the checks of one service may take."""
LOG_SECONDS = 3.0
"""From one look at the checks, for the log, to the next."""
_failing = Gauge("trucban_check_failing", "1 while a readiness check fails, 0 while it is well", ["check"])


@dataclass(frozen=True)
class Check:
    """One thing that a service needs to do its job; `detail` says what is wrong and what to do."""

    name: str
    ok: bool
    detail: str = ""


Checks = Callable[[], Awaitable[Sequence[Check]]]


async def own_metrics() -> bytes:
    """Those of this process, as Prometheus text."""
    return generate_latest(REGISTRY)


class Metrics(Response):
    media_type = CONTENT_TYPE_LATEST


def checks_of(health_failures: Mapping[str, str | None]) -> list[Check]:
    """One check a health failure; None is well."""
    return [Check(name, text is None, text or "") for name, text in health_failures.items()]


async def ask(checks: Checks) -> Sequence[Check]:
    """The checks of one service, or one check that says why there is no answer. Raises nothing."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await checks()
    except TimeoutError:
        return [Check("readiness", False, f"no answer within {ANSWER_SECONDS:.0f} s: database or broker hangs")]
    except Exception as error:
        return [Check("readiness", False, f"{type(error).__name__}: database or broker does not answer")]


@asynccontextmanager
async def logged(checks: Checks) -> AsyncGenerator[None]:
    """Tell the log and a metric when a check begins to fail, and when it is well again, whoever asks.

    The metric goes when the block is left: nobody looks any more.
    """

    async def watch() -> None:
        failing: set[str] = set()
        while True:
            await asyncio.sleep(LOG_SECONDS)
            found = await checks()
            for check in found:
                _failing.labels(check.name).set(not check.ok)
                if not check.ok and check.name not in failing:
                    log.warning("not ready", check=check.name, detail=check.detail)
            now_failing = {check.name for check in found if not check.ok}
            if recovered := sorted(failing - now_failing):
                log.info("ready again" if not now_failing else "check is well again", checks=recovered)
                for name in recovered:
                    _failing.labels(name).set(0)
            failing = now_failing

    async with in_background(watch(), "readiness log"):
        try:
            yield
        finally:
            _failing.clear()


def add_health(app: FastAPI, checks: Checks, all_metrics: Callable[[], Awaitable[bytes]] = own_metrics) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`. `checks` answers in time, as what `ask` gives does."""

    async def healthz() -> Health:
        """Whether the process answers."""
        return Health(status="alive")

    async def readyz(response: Response) -> Readiness:
        """Whether the service can do its job: database, broker, and the progress of its loops."""
        found = await checks()
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
        return Metrics(await all_metrics())

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

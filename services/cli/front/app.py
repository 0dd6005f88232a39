"""What the front process answers: what concerns the whole city by itself, all else from the service that it is for."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import orjson
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from services.cli.front.forward import Forward
from services.cli.front.metrics import FRONT, merge
from services.cli.front.service_process import ServiceProcess
from services.cli.front.service_processes import ServiceProcesses
from shared.clock import Clock
from shared.http import health
from shared.http.health import Check, add_health
from shared.http.identity import TokenVerifier
from shared.http.web import root_app

ANSWER_SECONDS = health.ANSWER_SECONDS + 1
"""A little longer than a service gives its own checks."""


class Front:
    """The ASGI application of `trucban up`."""

    def __init__(self, processes: ServiceProcesses, verifier: TokenVerifier, clock: Clock) -> None:
        self._forwards = {service.name: Forward(service) for service in processes}
        self._root = _root(processes, verifier, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._root
        if scope["type"] == "http":
            app = self._forwards.get(scope["path"].removeprefix("/").partition("/")[0], app)
        await app(scope, receive, send)

    def end_streams(self) -> None:
        """End what would stay open when the server stops."""
        for forward in self._forwards.values():
            forward.end_streams()


def process_check(service: ServiceProcess) -> Check:
    """Whether the service's process runs and answers."""
    return Check(f"{service.name}.process", service.failure is None, service.failure or "")


def _root(processes: ServiceProcesses, verifier: TokenVerifier, clock: Clock) -> FastAPI:
    root = root_app([service.name for service in processes], verifier, clock)
    add_health(root, partial(_all_checks, processes), partial(_all_metrics, processes))
    return root


async def _all_checks(processes: ServiceProcesses) -> Sequence[Check]:
    found = await asyncio.gather(*map(_checks, processes))
    return [check for checks in found for check in checks]


async def _checks(service: ServiceProcess) -> Sequence[Check]:
    """What the service says of itself, by its own names; only its process where it says nothing."""
    process = process_check(service)
    if not process.ok:
        return [process]
    answer = await service.ask("/readyz", ANSWER_SECONDS)
    if answer is None:
        failure = service.failure or f"/readyz does not answer within {ANSWER_SECONDS:.0f} s"
        return [Check(process.name, ok=False, detail=failure)]
    return [process, *(Check(c["name"], c["ok"], c["detail"]) for c in orjson.loads(answer[1])["checks"])]


async def _all_metrics(processes: ServiceProcesses) -> bytes:
    """Those of each process, and our own. A process that does not answer has none."""
    asked = [service for service in processes if service.failure is None]
    answers = await asyncio.gather(*(service.ask("/metrics", ANSWER_SECONDS) for service in asked))
    texts: Mapping[str, bytes] = {
        FRONT: await health.own_metrics(),
        **{s.name: answer[1] for s, answer in zip(asked, answers, strict=True) if answer and answer[0] == 200},
    }
    return merge(texts)

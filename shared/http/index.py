"""The page `/`: what is served here, for people; the same as JSON where only that is asked for."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from shared.clock import Clock, local
from shared.http.fields import Answer
from shared.http.html_page import load, wants_json

PAGES = Path(__file__).parent / "pages"


class Purpose(NamedTuple):
    vi: str
    en: str


PURPOSES = {
    "intake": Purpose("Tiếp nhận và lưu giữ tin báo.", "Takes reports and makes them durable."),
    "escalation": Purpose(
        "Xác định người chịu trách nhiệm, thông báo cho họ, và báo lên cấp trên khi quá hạn.",
        "Finds who must answer, tells them, and tells the next level when time is up.",
    ),
    "ledger": Purpose("Sổ ghi mọi sự kiện theo thứ tự, kiểm chứng được.", "Keeps every event in order, with proof."),
}


class ServiceIndex(Answer):
    name: str
    docs: str
    openapi: str
    health: str
    readiness: str


class Index(Answer):
    """Paths of what is served here."""

    services: list[ServiceIndex]
    asyncapi: str = "/asyncapi"
    health: str = "/healthz"
    readiness: str = "/readyz"
    metrics: str = "/metrics"
    sample_clock: datetime | None
    """What the clock says, if it was moved: then the data are a sample."""


def add_index(root: FastAPI, names: Sequence[str], clock: Clock | None) -> None:
    """`names`: of the services. A `clock` that was moved means that they hold sample data, and the page says so."""
    page = load(PAGES, "index", "img-src data:; form-action 'none'")

    async def index(request: Request) -> Response:
        moved_to = local(clock.now()) if clock is not None and clock.is_moved else None
        if wants_json(request):
            found = Index(services=[_service(name) for name in names], sample_clock=moved_to)
            return JSONResponse(found.model_dump(mode="json"), headers=page.headers)
        services = [(name, PURPOSES.get(name, Purpose("", ""))) for name in names]
        return page.response(200, services=services, sample_clock=moved_to and f"{moved_to:%H:%M %d/%m/%Y}")

    root.add_api_route("/", index, include_in_schema=False)


def _service(name: str) -> ServiceIndex:
    return ServiceIndex(
        name=name,
        docs=f"/{name}/docs",
        openapi=f"/{name}/openapi.json",
        health=f"/{name}/healthz",
        readiness=f"/{name}/readyz",
    )

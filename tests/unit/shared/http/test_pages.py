"""The page at `/` and the pages `/docs`: all that they need comes from here, under a strict policy."""

import base64
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient

from shared.clock import Clock
from shared.http.health import Check
from shared.http.identity import verifier
from shared.http.web import Service, compose, service_app
from tests.support import NIGHT

NAMES = ("intake", "escalation", "ledger")


@asynccontextmanager
async def nothing() -> AsyncGenerator[None]:
    yield


async def well() -> Sequence[Check]:
    return []


def whole(keys: Path, clock: Clock | None = None) -> FastAPI:
    """Three services without a route."""
    tokens = verifier(keys)
    services = [
        Service(name=name, app=service_app(name, tokens, APIRouter(), {}), running=nothing, checks=well)
        for name in NAMES
    ]
    return compose(services, tokens, clock)


def browser(app: FastAPI) -> AsyncClient:
    here = ASGITransport(app, client=("127.0.0.1", 4000))
    return AsyncClient(transport=here, base_url="http://trucban", headers={"accept": "text/html,*/*"})


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[AsyncClient]:
    async with browser(whole(tmp_path)) as made:
        yield made


def policy_of(header: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in header.split(";"))}


# --- what is served ---


async def test_the_index_leads_to_all_that_is_served(client: AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = re.findall(r'<a href="([^"]+)"', page.text)
    assert {f"{name}/docs" for name in NAMES} | {"asyncapi", "healthz", "readyz"} <= set(links)
    for link in links:
        assert (await client.get(f"/{link}")).status_code == 200, link


async def test_the_index_is_vietnamese_with_english_after_it_and_has_no_script(client: AsyncClient) -> None:
    page = (await client.get("/")).text
    assert '<html lang="vi">' in page
    assert "width=device-width" in page
    assert page.index("Tài liệu API") < page.index("API documentation")
    assert "<script" not in page
    assert not re.search(r"\s(style|on\w+)=", page), "nothing inline that the policy would block"


async def test_the_index_allows_its_own_style_and_nothing_else(client: AsyncClient) -> None:
    page = await client.get("/")
    (style,) = re.findall(r"<style>(.*)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy_of(page.headers["content-security-policy"]) == {
        "default-src": ["'none'"],
        "style-src": [f"'sha256-{digest}'"],
        "img-src": ["data:"],
        "form-action": ["'none'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }


async def test_the_index_tells_of_sample_data_where_the_clock_was_moved(tmp_path: Path, client: AsyncClient) -> None:
    assert "DỮ LIỆU MẪU" not in (await client.get("/")).text
    async with browser(whole(tmp_path, Clock())) as real:
        assert "DỮ LIỆU MẪU" not in (await real.get("/")).text
    async with browser(whole(tmp_path, Clock(NIGHT))) as moved:
        page = (await moved.get("/")).text
        found = (await moved.get("/", headers={"accept": "application/json"})).json()
    assert page.index("DỮ LIỆU MẪU") < page.index("SAMPLE DATA")
    assert "23:50 21/01/2023" in page
    assert found["sample_clock"].startswith("2023-01-21T23:50")
    assert found["sample_clock"].endswith("+07:00")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("text/html,application/json", "text/html; charset=utf-8"),
        ("*/*", "text/html; charset=utf-8"),
    ],
)
async def test_the_index_is_json_where_only_that_is_asked_for(client: AsyncClient, accept: str, kind: str) -> None:
    answer = await client.get("/", headers={"accept": accept})
    assert answer.headers["content-type"] == kind
    assert answer.headers["vary"] == "Accept"
    if kind == "application/json":
        found = answer.json()
        assert [service["name"] for service in found["services"]] == list(NAMES)
        assert found["sample_clock"] is None
        paths = [path for service in found["services"] for name, path in service.items() if name != "name"]
        for path in (*paths, found["asyncapi"], found["health"], found["readiness"], found["metrics"]):
            assert (await client.get(path)).status_code == 200, path


# --- documentation ---


@pytest.mark.parametrize("service", NAMES)
async def test_the_documentation_needs_nothing_from_elsewhere(client: AsyncClient, service: str) -> None:
    page = await client.get(f"/{service}/docs")
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/docs.js", "openapi.json"} <= set(parts)
    for part in set(parts) - {"data:,"}:
        answer = await client.get(f"/{service}/{part}")
        assert answer.status_code == 200, part
        kind = {"js": "javascript", "css": "text/css", "json": "application/json"}[part.rpartition(".")[2]]
        assert kind in answer.headers["content-type"]
    script = (await client.get(f"/{service}/docs/docs.js")).text
    assert "http" not in script
    assert 'url: "openapi.json"' in script


async def test_the_documentation_runs_under_a_policy_without_inline_scripts(client: AsyncClient) -> None:
    page = await client.get("/intake/docs")
    policy = policy_of(page.headers["content-security-policy"])
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []
    assert "<style" not in page.text
    assert not re.search(r"\s(style|on\w+)=", page.text)


async def test_there_is_one_kind_of_documentation(client: AsyncClient) -> None:
    for path in ("/docs", "/openapi.json", "/intake/redoc", "/intake/docs/oauth2-redirect"):
        assert (await client.get(path)).status_code == 404

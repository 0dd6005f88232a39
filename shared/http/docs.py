"""The page `/docs` of a service: Swagger UI, served from here, so that it works without the internet.

Its script and style are files of the package `fastapi-offline`, of which nothing else is used; see decision 30.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

PAGES = Path(__file__).parent / "pages"
SWAGGER_UI = Path(str(files("fastapi_offline"))) / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}
_PAGE = HEADERS | {"cache-control": "no-cache", "content-security-policy": POLICY}
_PART = HEADERS | {"cache-control": "max-age=3600"}


def add_docs(app: FastAPI) -> None:
    """The page, and the files that it is made of."""
    app.add_api_route("/docs", _sends(PAGES / "docs.html", _PAGE), include_in_schema=False)
    for path in (SWAGGER_UI / "swagger-ui-bundle.js", SWAGGER_UI / "swagger-ui.css", PAGES / "docs.js"):
        app.add_api_route(f"/docs/{path.name}", _sends(path, _PART), include_in_schema=False)


def _sends(path: Path, headers: dict[str, str]) -> Callable[[], Awaitable[FileResponse]]:
    async def send() -> FileResponse:
        return FileResponse(path, headers=headers)

    return send

"""Pages for people: HTML without a script, under a strict Content-Security-Policy."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup


@dataclass(frozen=True)
class HtmlPage:
    """A template with its style sheet; `headers` belong to every answer of its route, JSON too."""

    template: Template
    css: Markup
    headers: dict[str, str]

    def response(self, status: int, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.template.render(css=self.css, **values), status, headers=self.headers)


def load(folder: Path, name: str, allow: str = "form-action 'none'") -> HtmlPage:
    """The page of `name`.html and `name`.css. `allow`: directives of its policy, which allows nothing else.

    The style sheet is named by its hash. Nobody may keep, frame or index the page.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (folder / f"{name}.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; {allow}; base-uri 'none'; frame-ancestors 'none'"
    headers = {
        "cache-control": "no-store",
        "content-language": "vi, en",
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "vary": "Accept",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex",
    }
    return HtmlPage(environment.get_template(f"{name}.html"), Markup(css), headers)  # noqa: S704 # our own file


def wants_json(request: Request) -> bool:
    """A program that asks for JSON and not for a page."""
    kinds = {kind.partition(";")[0].strip() for kind in request.headers.get("accept", "").split(",")}
    return "application/json" in kinds and "text/html" not in kinds

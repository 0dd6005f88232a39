"""The published documents are those that the code generates."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.documents import generated, text_of
from shared.documents import asyncapi

DOCS = Path(__file__).parents[3] / "docs"


SCHEMAS = sorted(str(path.relative_to(DOCS)) for path in (DOCS / "schemas").glob("*.json"))


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return generated()


@pytest.mark.parametrize("name", ["asyncapi.json", "roles.md", *SCHEMAS])
def test_document_is_what_the_code_generates(name: str, documents: dict[str, Any]) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == text_of(documents[name]), "run `make docs`"


def test_every_document_is_written_and_none_is_left_behind_by_an_event_that_is_gone(documents: dict[str, Any]) -> None:
    assert sorted(documents) == ["asyncapi.json", "roles.md", *SCHEMAS]


def test_every_event_travels_on_exactly_one_stream_unless_any_service_may_send_it() -> None:
    document: dict[str, Any] = asyncapi()
    sent = [name for channel in document["channels"].values() for name in channel["messages"]]
    by_all = ["credential.refused.v1", "dead_letter.discarded.v1"]
    assert sorted(sent) == sorted([*document["components"]["messages"], *by_all])


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()
    for reference in _references(json.loads(json.dumps(document["channels"] | document["operations"]))):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [str(value["$ref"])] if "$ref" in value else []
        return own + [r for v in value.values() for r in _references(v)]
    return [r for v in value for r in _references(v)] if isinstance(value, list) else []

"""Every kind of answer, as clients rely on it: field for field what it was before the answers had models."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.routing import iter_route_contexts
from pydantic import TypeAdapter

from services.escalation.api.links import LinkAnswer
from shared.http import schemas
from shared.http.openapi import MEDIA_TYPE
from tests.integration.answers_support import Answer, plain, told_in
from tests.integration.escalation_support import WholeCity
from tests.support import RULEBOOK

RULEBOOK_ROUTE = "/escalation/v1/rulebooks/{version}"
TEXT = "text/plain; charset=utf-8"
EXPECTED = Path(__file__).parent / "answers.json"
"""Kept from the commit before the answers had models; a field that is added since is added here by hand."""


@pytest.fixture(scope="module")
async def answers(house: WholeCity) -> list[Answer]:
    return [answer async for answer in told_in(house)]


def shown(answer: Answer) -> dict[str, Any]:
    response = answer.response
    kind = response.headers["content-type"]
    content = orjson.loads(response.content) if "json" in kind else response.text
    return {"name": answer.name, "status": response.status_code, "type": kind, "content": plain(content)}


def test_every_answer_is_what_it_was(answers: list[Answer]) -> None:
    """The same keys, the same nulls, the same spelling of times and numbers."""
    expected = orjson.loads(EXPECTED.read_bytes())
    assert [answer.name for answer in answers] == [one["name"] for one in expected]
    for answer, one in zip(answers, expected, strict=True):
        assert shown(answer) == one, answer.name


def document_of(house: WholeCity, answer: Answer) -> dict[str, Any]:
    """What is published about the route."""
    _, service, path = answer.route.split("/", 2)
    return getattr(house.services, service).app.openapi()["paths"][f"/{path}"][answer.method.lower()]


def model_of(house: WholeCity, answer: Answer) -> Any:
    """Of the content, if it is JSON."""
    if answer.response.headers["content-type"] == MEDIA_TYPE:
        return schemas.Problem
    _, service, path = answer.route.split("/", 2)
    routes = iter_route_contexts(getattr(house.services, service).app.routes)
    (route,) = (r for r in routes if r.path == f"/{path}" and answer.method in (r.methods or ()))
    return route.response_model or LinkAnswer


def test_every_answer_is_one_that_the_document_names(house: WholeCity, answers: list[Answer]) -> None:
    for answer in answers:
        responses = document_of(house, answer)["responses"]
        status = str(answer.response.status_code)
        assert status in responses, (answer.name, status)
        assert answer.response.headers["content-type"] in {*responses[status]["content"], TEXT}, answer.name


def test_every_answer_holds_what_its_model_names_and_nothing_else(house: WholeCity, answers: list[Answer]) -> None:
    """Read by the model that the document is made from and written again, it is the same."""
    for answer in answers:
        if "json" not in answer.response.headers["content-type"] or answer.route == RULEBOOK_ROUTE:
            continue
        adapter = TypeAdapter(model_of(house, answer))
        again = adapter.dump_json(adapter.validate_json(answer.response.content), exclude_unset=True)
        assert orjson.loads(again) == orjson.loads(answer.response.content), answer.name


def test_a_rulebook_is_answered_in_full(answers: list[Answer]) -> None:
    """Apart from the others, since its model reads no JSON: the minutes of each severity have numbers as keys."""
    *_, last = (answer for answer in answers if answer.route == RULEBOOK_ROUTE)
    assert last.response.json()["rulebook"] == RULEBOOK.rulebook.model_dump(mode="json")

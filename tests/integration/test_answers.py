"""Every kind of answer, as clients rely on it: field for field what it was before the answers had models."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.integration.answers_support import Answer, plain, told_in
from tests.integration.escalation_support import Template, whole_city_in

EXPECTED = Path(__file__).parent / "answers.json"
"""Kept from the commit before the answers had models; a field that is added since is added here by hand."""


@pytest.fixture(scope="module")
async def answers(template: Template) -> AsyncGenerator[list[Answer]]:
    async with whole_city_in(template) as house:
        yield [answer async for answer in told_in(house)]


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

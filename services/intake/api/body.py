"""What is in a request's body: UTF-8, JSON or NDJSON; each failure a problem that names the place."""

from collections.abc import Mapping
from typing import Any, cast

import orjson
from pydantic import ValidationError

from services.intake.domain.submission import Submission
from shared.http.problem import FieldError, Problem, field_errors, invalid

MAX_REPORT_BYTES = 64 * 1024
MAX_BATCH_BYTES = 5_000_000
MAX_BATCH_ITEMS = 1_000


def json_of(content: bytes, place: str = "body") -> Any:
    """Raises Problem 400 for what is not UTF-8 or not JSON (RFC 8259: no NaN, no lone surrogates)."""
    try:
        content.decode()
        return orjson.loads(content)
    except UnicodeDecodeError as error:
        raise Problem(400, f"{place}: byte {error.start} is not UTF-8") from error
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"{place} is not JSON: {error}") from error


def submission_of(value: Any) -> Submission:
    """Raises Problem 422 with a pointer for each field that is wrong."""
    if not isinstance(value, Mapping):
        raise invalid([FieldError("#", "a report is a JSON object")])
    try:
        return Submission.model_validate(value)
    except ValidationError as error:
        raise invalid(field_errors(error.errors())) from error


def items_of(content: bytes, content_type: str) -> list[Any]:
    """The items of a batch; of NDJSON each line, a bad one as the Problem it is. Raises Problem 400, 413."""
    head = content.lstrip()[:1]
    if head == b"[" and "ndjson" not in content_type:
        items = cast("list[Any]", json_of(content))
    elif head == b"{" or "ndjson" in content_type:
        lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
        _check_count(len(lines))
        items = [_line(line, number) for number, line in lines]
    else:
        json_of(content)
        raise Problem(400, "a batch is a JSON array of reports, or one report a line (NDJSON)")
    _check_count(len(items))
    return items


def _check_count(count: int) -> None:
    if count > MAX_BATCH_ITEMS:
        raise Problem(413, f"{count} items are more than {MAX_BATCH_ITEMS}: send smaller batches")


def _line(line: bytes, number: int) -> Any:
    try:
        return json_of(line, f"line {number}")
    except Problem as problem:
        return problem

"""What is in a request's body: UTF-8, JSON or NDJSON; each failure a problem that names the place."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson
from pydantic import ValidationError

from services.intake.domain.submission import Submission
from shared.http.problem import MOST_ERRORS, FieldError, Problem, invalid, invalid_fields

MAX_REPORT_BYTES = 64 * 1024
MAX_BATCH_BYTES = 5_000_000
MAX_BATCH_ITEMS = 1_000
MOST_VALUES = 150
"""Members of all objects and lists of a report; one that says everything has about 110."""
_TOO_LARGE = Problem(413, f"item is larger than {MAX_REPORT_BYTES} bytes: leave something out")
_LINE = re.compile(rb"\S[^\n]*")


def json_of(content: bytes, place: str = "body") -> Any:
    """Raises Problem 400 for what is not UTF-8 or not JSON (RFC 8259: no NaN, no lone surrogates)."""
    try:
        content.decode()
        return orjson.loads(content)
    except UnicodeDecodeError as error:
        raise Problem(400, f"{place}: byte {error.start} is not UTF-8") from error
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"{place} is not JSON: {error}") from error


def submission_of(value: Any, most_errors: int = MOST_ERRORS) -> Submission:
    """Raises Problem 422 with a pointer for each field that is wrong, `most_errors` of them."""
    if not isinstance(value, Mapping):
        raise invalid([FieldError("#", "a report is a JSON object")])
    if _holds_more_than(MOST_VALUES, value):  # each would be an error of its own, and take its time
        raise invalid([FieldError("#", f"holds more than {MOST_VALUES} values, and no report has so many")])
    try:
        return Submission.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        raise invalid_fields(errors, most=most_errors) from error


def _holds_more_than(most: int, value: Any) -> bool:
    count, waiting = 0, [value]
    while waiting and count <= most:
        container = waiting.pop()
        count += len(container)
        inner = container.values() if isinstance(container, dict) else container
        waiting += [v for v in inner if isinstance(v, dict | list)]
    return count > most


def items_of(content: bytes, content_type: str) -> list[Any]:
    """The items of a batch; one that is too large, or a line that is not JSON, as the Problem it is.

    Raises Problem 400, 413.
    """
    head = content.lstrip()[:1]
    if head == b"[" and "ndjson" not in content_type:
        items = cast("list[Any]", json_of(content))
        _check_count(len(items))
        return items if len(content) <= MAX_REPORT_BYTES else [_bounded(item) for item in items]
    if head == b"{" or "ndjson" in content_type:
        items = list[Any]()
        for number, line in _lines(content):
            _check_count(len(items) + 1)
            items.append(_line(line, number))
        return items
    json_of(content)
    raise Problem(400, "a batch is a JSON array of reports, or one report a line (NDJSON)")


def _check_count(count: int) -> None:
    if count > MAX_BATCH_ITEMS:
        raise Problem(413, f"more than {MAX_BATCH_ITEMS} items: send smaller batches")


def _bounded(item: Any) -> Any:
    try:
        size = len(orjson.dumps(item))
    except orjson.JSONEncodeError:  # it was read, so it is too deep to be written
        return invalid([FieldError("#", "is nested too deeply for a report")])
    return _TOO_LARGE if size > MAX_REPORT_BYTES else item


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers, one at a time."""
    number, counted = 1, 0
    for found in _LINE.finditer(content):
        number += content.count(b"\n", counted, found.start())
        counted = found.start()
        yield number, found[0]


def _line(line: bytes, number: int) -> Any:
    if len(line) > MAX_REPORT_BYTES:
        return _TOO_LARGE
    try:
        return json_of(line, f"line {number}")
    except Problem as problem:
        return problem

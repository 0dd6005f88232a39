"""What a failed request says: RFC 9457 problem details, the same shape from every route. Pure.

`errors` turns them into responses.
"""

from collections.abc import Sequence
from typing import Any

TITLES = {
    400: "Bad request",
    401: "Authentication required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    410: "Gone",
    413: "Content too large",
    414: "Address too long",
    415: "Unsupported media type",
    422: "Invalid input",
    429: "Too much at once",
    431: "Headers too large",
    500: "Internal error",
    503: "Not available now",
}
NO_DATABASE = "the database or the broker cannot do this now: send the same again in a moment"
MOST_ERRORS = 100
"""Shown in one problem, which says how many there are."""
MOST_POINTER, MOST_DETAIL = 200, 1_000
"""Characters of one error: a sender chooses the names of its fields."""
MENDED_LATER = "the database or the broker has to be mended first: send the same again later; our log says why"


class FieldError(dict[str, Any]):
    """`{"pointer": "#/ward", "detail": "…"}`, plus `candidates` where there is something to choose from."""

    def __init__(self, pointer: str, detail: str, **more: Any) -> None:
        super().__init__(pointer=_shortened(pointer, MOST_POINTER), detail=_shortened(detail, MOST_DETAIL), **more)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


class Problem(Exception):
    """One failed request. `detail` names the thing, the value and the way out, in one line.

    Not more than `MOST_ERRORS` of `errors` are kept. `of`: how many there are, if `errors` are the first.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
        of: int = 0,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, list(errors[:MOST_ERRORS]), headers
        self._count = max(of, len(errors))

    def body(self, most: int = MOST_ERRORS) -> dict[str, Any]:
        """With at most so many errors, and where that is not all, their number."""
        title = TITLES.get(self.status, "Error")
        body: dict[str, Any] = {
            "type": f"urn:trucban:problem:{title.lower().replace(' ', '-')}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
        }
        if not self.errors:
            return body
        shown = self.errors[:most]
        return body | {"errors": shown} | ({"error_count": self._count} if self._count > len(shown) else {})


def field_errors(errors: Sequence[Any], drop: int = 0, most: int = MOST_ERRORS) -> list[FieldError]:
    """Pydantic's errors as JSON pointers (RFC 6901) without the rejected values: they may be personal.

    The first `most` only.
    """
    found: list[FieldError] = []
    for error in errors[:most]:
        if error.get("type") == "json_invalid":  # FastAPI's: its place is one in the text, and not in a document
            found.append(FieldError("#", f"is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"))
            continue
        parts = [str(p).replace("~", "~0").replace("/", "~1") for p in error["loc"][drop:]]
        found.append(FieldError("#" + "".join(f"/{p}" for p in parts), str(error["msg"]).removeprefix("Value error, ")))
    return found


def invalid(errors: Sequence[FieldError], of: int = 0) -> Problem:
    """422 whose detail repeats the first error, so that one line is enough for a log or a phone.

    The detail counts all. `of`: as for `Problem`.
    """
    first, count = errors[0], max(of, len(errors))
    more = f" (and {count - 1} more)" if count > 1 else ""
    detail = f"{first['pointer']}: {first['detail']}{more}"
    return Problem(422, " ".join(detail.split()), errors, of=count)  # a sender's field name may hold line breaks


def invalid_fields(errors: Sequence[Any], drop: int = 0, most: int = MOST_ERRORS) -> Problem:
    """422 for pydantic's errors: the first `most` of them, without the first `drop` parts of their places."""
    return invalid(field_errors(errors, drop, most), of=len(errors))

"""Models of what every service answers alike: problems, health, readiness."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from shared.http.fields import Answer


class FieldError(Answer):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(title="FieldError", extra="allow")

    pointer: str
    """JSON pointer (RFC 6901) of the field or parameter, such as `#/ward`; `#` is the whole."""
    detail: str
    candidates: list[dict[str, Any]] | None = None
    """What could have been meant, where there is something to choose from."""


class Problem(Answer):
    """A request that failed (RFC 9457)."""

    type: str
    """A URN of the kind of problem."""
    title: str
    status: int
    detail: Annotated[str, Field(examples=["#/ward: 'Quận 1' is not exactly one ward"])]
    """One line that names the thing, the value and the way out."""
    errors: list[FieldError] | None = None
    """Each field or parameter that is wrong; only where the input is invalid. At most 100."""
    error_count: int | None = None
    """How many are wrong; only where `errors` are not all."""


class Health(Answer):
    """The process answers."""

    status: Literal["alive"]


class CheckResult(Answer):
    """One thing that a service needs to do its job."""

    name: str
    ok: bool
    detail: str
    """What is wrong and what to do; empty while all is well."""


class Readiness(Answer):
    """Whether the service can do its job."""

    status: Literal["ready", "not ready"]
    checks: list[CheckResult]

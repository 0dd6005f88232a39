"""Who may call which route: one table a service. It guards the routes, and docs/roles.md is printed from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from shared.http.identity import ROLES, Role
from shared.http.problem import Problem

Reach = Literal["any", "own", "told", "posted", "sent", "office"]
REACHES: tuple[Reach, ...] = get_args(Reach)


class Extent(NamedTuple):
    """What a reach covers: things of a ward where the caller is posted now, of another, and of one where they were."""

    own: str
    other: str
    former: str


YES, NO, THEIRS = "yes", "no", "what they sent"
TOLD, THEN = "what they had a notice of", "what happened while they were posted"
EXTENTS: Mapping[Reach, Extent] = {
    "any": Extent(YES, YES, YES),
    "own": Extent(YES, NO, NO),
    "told": Extent(YES, TOLD, TOLD),
    "posted": Extent(YES, NO, THEN),
    "sent": Extent(THEIRS, THEIRS, THEIRS),
    "office": Extent(YES, YES, NO),
}


@dataclass(frozen=True)
class Right:
    """One row: how far each role reaches. A role that is missing is refused; without any, the route is public."""

    reach: Mapping[Role, Reach]
    note: str = ""
    refusal: Callable[[Role], str] | None = None
    """Says why a role is refused, where there is more to say than which roles are not."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(role for role in ROLES if role in self.reach)

    def insist(self, role: Role) -> None:
        """Raises Problem 403 for a role that is not in the row."""
        if role not in self.reach:
            by = f"role {role} may not do this; it takes {' or '.join(self.roles)}"
            raise Problem(403, by if self.refusal is None else self.refusal(role))


Rights = Mapping[str, Right]
"""By method and path below the service's `/v1`, such as `GET /incidents`. What stands after a `?` is a row for that
question alone, which the route asks about by itself."""


def public(note: str = "") -> Right:
    return Right({}, note)


def anywhere(*roles: Role, note: str = "") -> Right:
    """These roles, without regard to wards."""
    return Right(dict.fromkeys(roles, "any"), note)


HEALTH: Rights = {
    "GET /healthz": public(),
    "GET /readyz": public(),
    "GET /metrics": anywhere(*ROLES, note="from this machine without a token"),
}
"""What every service answers beside its `/v1`."""

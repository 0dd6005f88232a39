"""Which incidents a caller may see and act on."""

from collections.abc import Collection

from shared.http.identity import Principal
from shared.http.problem import Problem


def require_ward(caller: Principal, wards: Collection[str]) -> None:
    """Raises Problem 403: an officer or official sees what is of their own ward, or of one whose place it took."""
    if caller.role in {"officer", "official"} and caller.ward not in wards:
        raise Problem(403, f"this is of ward {', '.join(sorted(wards))}; your token is for ward {caller.ward}")

"""Which incidents a caller may see and act on."""

from collections.abc import Collection

from shared.http.identity import Principal
from shared.http.problem import Problem


def require_ward(caller: Principal, wards: Collection[str]) -> None:
    """Raise Problem 403 if an officer or official does not belong to one of these wards.

    `wards`: codes of the wards whose people may see the incident. Other roles see every ward.
    """
    if caller.role in {"officer", "official"} and caller.ward not in wards:
        raise Problem(403, f"this is of ward {', '.join(sorted(wards))}; your token is for ward {caller.ward}")

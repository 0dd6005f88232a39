"""Which incidents a caller may see and act on."""

from collections.abc import Collection

from shared.http.identity import Principal
from shared.http.problem import Problem


def require_ward(caller: Principal, wards: Collection[str]) -> None:
    """Raise Problem 403 if an officer or official does not belong to one of these wards.

    `wards`: codes of the wards whose people may see the incident. Other roles see every ward.
    """
    if is_bound(caller) and caller.ward not in wards:
        raise _not_yours(caller)


def unknown(caller: Principal, what: str) -> Problem:
    """Return the refusal of an id that there is not.

    For whoever is bound to a ward it is the one of another ward's id: they do not learn which ids there are.
    """
    return _not_yours(caller) if is_bound(caller) else Problem(404, f"there is no {what}")


def is_bound(caller: Principal) -> bool:
    """Whether the caller sees one ward only."""
    return caller.role in {"officer", "official"}


def _not_yours(caller: Principal) -> Problem:
    return Problem(403, f"this is not of your ward; your token is for ward {caller.ward}")

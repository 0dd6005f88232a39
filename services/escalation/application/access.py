"""Which incidents a caller may see and act on, and which ward they mean."""

from collections.abc import Collection, Sequence

from services.escalation.domain.directory.model import Unit
from shared.http.identity import Principal
from shared.http.problem import FieldError, Problem, invalid


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


def not_one_ward(pointer: str, text: str, candidates: Sequence[Unit]) -> Problem:
    """Return Problem 422: the text is not exactly one ward, but perhaps one of the candidates."""
    choices = [
        {"code": u.ref.code, "valid_from": u.ref.valid_from.isoformat(), "name": u.ref.name, "kind": u.kind}
        for u in candidates
    ]
    names = ", ".join(f"{u.ref.name} ({u.ref.code}@{u.ref.valid_from})" for u in candidates)
    advice = f"did you mean {names}?" if candidates else "GET /escalation/v1/directory?kind=units lists them"
    return invalid([FieldError(pointer, f"{text!r} is not exactly one ward: {advice}", candidates=choices)])

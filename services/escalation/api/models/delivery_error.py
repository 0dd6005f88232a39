"""What a caller is told of a failed attempt."""

from shared.http.identity import Principal

NOT_TAKEN = "the channel did not take it"


def told_error(error: str | None, caller: Principal) -> str | None:
    """Return the error for administrators. Others learn that there was one.

    What came back (a status, a kind of failure) would tell them which hosts and ports there are.
    """
    return error if error is None or caller.role == "admin" else NOT_TAKEN

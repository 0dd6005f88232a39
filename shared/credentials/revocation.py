"""A revocation, as services keep it and send it to one another. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import AwareDatetime

from shared.events import CredentialKind, Frozen


class Revocation(Frozen):
    """One credential that is accepted no more; or all of a person that have no id of their own, issued until a time."""

    revocation_id: str
    kind: CredentialKind
    credential: str | None = None
    """Its id: `jti` of a token, the notice's id of a link."""
    subject: str | None = None
    """Without `credential`: whose tokens without an id, and whose links, are revoked. It leaves the services by
    pseudonym only."""
    issued_before: AwareDatetime | None = None
    """Beside `subject`: those that were issued before."""
    holder: str
    """Whom it was issued to, as events name them."""
    role: str
    revoked_at: AwareDatetime
    expires_at: AwareDatetime
    """After this time it would not be accepted anyway, and this can be forgotten."""


def encode(revocation: Revocation) -> bytes:
    return revocation.model_dump_json(exclude_none=True).encode()


def parse(body: bytes) -> Revocation:
    """Raises pydantic.ValidationError; do not log its text, which quotes the input."""
    return Revocation.model_validate_json(body)


class Revoked:
    """The revocations that a process knows, and that still matter. Asked in every request: no I/O, no waiting."""

    def __init__(self) -> None:
        self.on_change: list[Callable[[], None]] = []
        """Called when a revocation comes to be known."""
        self._by_id: dict[str, Revocation] = {}
        self._by_subject: dict[str, Revocation] = {}

    def __len__(self) -> int:
        return len(self._by_id) + len(self._by_subject)

    def add(self, *revocations: Revocation) -> bool:
        """Returns whether any of them was not known. Those that expired are forgotten."""
        now, is_new = datetime.now(UTC), False
        for each in revocations:
            if each.expires_at <= now:
                continue
            if each.credential is not None:
                is_new |= self._by_id.setdefault(each.credential, each) is each
            elif each.subject is not None and _before(self._by_subject.get(each.subject)) < _before(each):
                self._by_subject[each.subject] = each
                is_new = True
        if is_new:
            self._by_id = {key: each for key, each in self._by_id.items() if each.expires_at > now}
            self._by_subject = {key: each for key, each in self._by_subject.items() if each.expires_at > now}
            for changed in list(self.on_change):
                changed()
        return is_new

    def by_id(self, credential: str) -> Revocation | None:
        return self._by_id.get(credential)

    def by_subject(self, subject: str, issued_at: float) -> Revocation | None:
        """For what has no id. `issued_at`: Unix seconds."""
        found = self._by_subject.get(subject)
        return found if found is not None and issued_at < _before(found) else None


def _before(revocation: Revocation | None) -> float:
    return revocation.issued_before.timestamp() if revocation and revocation.issued_before else 0.0

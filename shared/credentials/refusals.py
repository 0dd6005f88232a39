"""Uses of revoked credentials, counted by the minute, and tokens of before that were used."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from shared.credentials.revocation import Revocation
from shared.events import CredentialKind, CredentialRefused, CredentialRefusedData
from shared.ids import uuid7

MOST_KEPT = 10_000
"""Of each kind, while nobody takes them."""


class Refused(NamedTuple):
    """A revoked credential, and the minute in which it was used."""

    kind: CredentialKind
    credential: str | None
    holder: str
    role: str
    minute: datetime


class OldToken(NamedTuple):
    """A token without an id, from before credentials were recorded, that was used."""

    digest: str
    """SHA-256 of its text."""
    subject: str
    role: str
    ward: str | None
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Seen:
    """What was seen since the last time. Counts are by credential and minute."""

    refused: Sequence[tuple[Refused, int]]
    old: Sequence[OldToken]


class Observed:
    """Notes what credentials were used for nothing. Takes no time of a request beyond a dictionary."""

    def __init__(self) -> None:
        self._refused: Counter[Refused] = Counter()
        self._old: dict[str, OldToken] = {}

    def refuse(self, revocation: Revocation, credential: str | None = None) -> None:
        """`credential`: what was used, where the revocation is of all of a person."""
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        used = revocation.credential or credential
        key = Refused(revocation.kind, used, revocation.holder, revocation.role, minute)
        if key in self._refused or len(self._refused) < MOST_KEPT:
            self._refused[key] += 1

    def see_old(self, token: OldToken) -> None:
        if len(self._old) < MOST_KEPT:
            self._old[token.digest] = token

    async def hand_over(self, take: Callable[[Seen], Awaitable[None]], *, up_to: datetime | None = None) -> None:
        """Give what was seen to `take`. If that raises, all of it is kept for the next time.

        `up_to`: refusals of minutes before this one only, so that a minute is one count.
        """
        refused = [(key, n) for key, n in self._refused.items() if up_to is None or key.minute < up_to]
        old = list(self._old.values())
        if not refused and not old:
            return
        await take(Seen(refused, old))
        for key, count in refused:
            self._refused[key] -= count
            if not self._refused[key]:
                del self._refused[key]
        for token in old:
            self._old.pop(token.digest, None)


def refusal_event(service: str, refused: Refused, count: int, now: datetime) -> CredentialRefused:
    data = CredentialRefusedData(
        kind=refused.kind,
        credential_id=refused.credential,
        holder=refused.holder,
        role=refused.role,
        service=service,
        minute=refused.minute,
        count=count,
    )
    subject = refused.credential or refused.holder
    return CredentialRefused(id=uuid7(now), source=f"/trucban/{service}", subject=subject, time=now, data=data)

"""Who is asking: signed tokens (JWT, Ed25519) that carry role, ward and post."""

import re
import time
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from shared.events import Means, Who
from shared.http.problem import Problem
from shared.keys import public_key, signing_key
from shared.pseudonym import pseudonym

Role = Literal["officer", "device", "official", "desk", "leader", "auditor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
ALGORITHM = "Ed25519"
"""RFC 9864's fully specified name; the polymorphic "EdDSA" is deprecated there."""
ISSUER = "trucban"
DAY_SECONDS = 86_400


_WARD = re.compile(r"([0-9]{5})(?:@([0-9]{4}-[0-9]{2}-[0-9]{2}))?")


def ward_of_token(ward: str) -> tuple[str, date | None]:
    """Code and first day of the unit that `CODE[@VALID_FROM]` names. Text that does not is a code of no unit."""
    found = _WARD.fullmatch(ward)
    if found is None or found[2] is None:
        return ward, None
    try:
        return found[1], date.fromisoformat(found[2])
    except ValueError:
        return ward, None


def names_a_ward(ward: str) -> bool:
    return _WARD.fullmatch(ward) is not None and ("@" not in ward or ward_of_token(ward)[1] is not None)


@dataclass(frozen=True)
class Principal:
    """The caller. `post`: the one post for which an official's token acts; without it, all that they hold.

    `ward`, as `CODE@VALID_FROM`, is where an officer or a device is posted unless the directory says where. A code
    alone means the unit that had it when the token was issued.
    """

    subject: str
    role: Role
    ward: str | None = None
    post: str | None = None
    means: Means = "api"
    issued_at: float | None = field(default=None, compare=False)
    """Of the token, Unix seconds; None is now."""

    def who(self, pseudonym_key: bytes) -> Who:
        """As events name the caller: an officer by pseudonym, for an officer may be the one who reported."""
        subject = pseudonym(pseudonym_key, self.subject) if self.role == "officer" else self.subject
        return Who(subject=subject, role=self.role, means=self.means)

    def issued(self, now: datetime) -> datetime:
        """When the token was issued, by the clock that says `now`, which may have been moved: tokens use real time."""
        return now if self.issued_at is None else now - timedelta(seconds=max(0.0, time.time() - self.issued_at))


class TokenIssuer:
    """Signs tokens. Only tokens use real time: a moved domain clock must not revive a dead token."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = OKPKey.import_key(key)

    def issue(self, principal: Principal, days: float = 30) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": principal.subject,
            "role": principal.role,
            "iat": now,
            "exp": now + round(days * DAY_SECONDS),
        }
        scope = {"ward": principal.ward, "post": principal.post}
        claims |= {name: value for name, value in scope.items() if value is not None}
        return jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM])


class TokenVerifier:
    """Checks signature, issuer, expiry and role; has the public half of the key only."""

    def __init__(self, public_key: bytes) -> None:
        self._key = OKPKey.import_key(public_key)
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER}, sub={"essential": True}, exp={"essential": True}
        )
        self._claims_of = lru_cache(maxsize=1_024)(self._signed_claims)

    def verify(self, token: str) -> Principal:
        """Raises Problem 401 for a token that is malformed, expired, or not signed by our key."""
        try:
            claims = self._claims_of(token)
            # RFC 7519 asks nothing of `iat`. A clock that was set back must not refuse what was issued a moment ago.
            self._claims.validate({name: value for name, value in claims.items() if name != "iat"})
        except (JoseError, ValueError) as error:
            raise unauthenticated(f"token not accepted: {type(error).__name__}; ask for a new one") from error
        if claims.get("role") not in ROLES:
            raise unauthenticated("token has an unknown role; ask for a new one")
        return Principal(
            claims["sub"], claims["role"], claims.get("ward"), claims.get("post"), issued_at=claims.get("iat")
        )

    def _signed_claims(self, token: str) -> dict[str, Any]:
        """Kept, since a signature does not change; expiry is looked at each time."""
        return jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims


def issuer(keys: Path) -> TokenIssuer:
    return TokenIssuer(signing_key(keys, "token"))


def verifier(keys: Path) -> TokenVerifier:
    return TokenVerifier(public_key(keys, "token"))


def unauthenticated(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="trucban"'})

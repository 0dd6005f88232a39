"""Who is asking: signed tokens (JWT, Ed25519) that carry role, ward and post."""

import base64
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import OKPKey
from prometheus_client import Counter

from shared.credentials.refusals import Observed, OldToken
from shared.credentials.revocation import Revocation, Revoked
from shared.events import Means, Who
from shared.http.problem import Problem
from shared.ids import uuid7
from shared.keys import KeyFileError, public_keys, signing_key
from shared.pseudonym import pseudonym

Role = Literal["officer", "device", "official", "desk", "leader", "auditor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
ALGORITHM = "Ed25519"
"""RFC 9864's fully specified name; the polymorphic "EdDSA" is deprecated there."""
ISSUER = "trucban"
AUDIENCE = "trucban"
KEY = "token"
"""Name of the key files."""
DAY_SECONDS = 86_400
OLD_TOKEN_SECONDS = 30 * DAY_SECONDS
"""How long a token of before, which has no id, is accepted."""
RELOAD_NANOSECONDS = 1_000_000_000
_strangers = Counter("trucban_strangers", "Requests with a token that is not one of ours, or has expired")


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
    credential: str | None = field(default=None, compare=False)
    """The id of the token; None for one of before."""
    issued_at: float | None = field(default=None, compare=False)
    """Of the token, Unix seconds; None is now."""

    def who(self, pseudonym_key: bytes) -> Who:
        """As events name the caller: an officer by pseudonym, for an officer may be the one who reported."""
        subject = pseudonym(pseudonym_key, self.subject) if self.role == "officer" else self.subject
        return Who(subject=subject, role=self.role, means=self.means)

    def issued(self, now: datetime) -> datetime:
        """When the token was issued, by the clock that says `now`, which may have been moved: tokens use real time."""
        return now if self.issued_at is None else now - timedelta(seconds=max(0.0, time.time() - self.issued_at))


@dataclass(frozen=True)
class IssuedToken:
    """A token, and what is recorded of it."""

    text: str
    token_id: str
    key_id: str
    issued_at: datetime
    expires_at: datetime


class TokenIssuer:
    """Signs tokens. Only tokens use real time: a moved domain clock must not revive a dead token."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = OKPKey.import_key(key)
        self.key_id = key_id(self._key)

    def issue(self, principal: Principal, days: float = 30) -> str:
        """A token that nobody records. `sign` tells what there is to record."""
        return self.sign(principal, days).text

    def sign(self, principal: Principal, days: float = 30) -> IssuedToken:
        now = int(time.time())
        issued_at = datetime.fromtimestamp(now, UTC)
        expires = now + round(days * DAY_SECONDS)
        token_id = uuid7(datetime.now(UTC))
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "jti": token_id,
            "sub": principal.subject,
            "role": principal.role,
            "iat": now,
            "exp": expires,
        }
        scope = {"ward": principal.ward, "post": principal.post}
        claims |= {name: value for name, value in scope.items() if value is not None}
        header = {"alg": ALGORITHM, "kid": self.key_id}
        text = jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])
        return IssuedToken(text, token_id, self.key_id, issued_at, datetime.fromtimestamp(expires, UTC))


class TokenVerifier:
    """Checks signature, issuer, audience, expiry, role and revocation; has the public halves of keys only.

    It asks nobody: `revoked` is what this process knows. What it refuses, and which tokens of before it meets, stands
    in `observed`.
    """

    def __init__(self, *keys: bytes, folder: Path | None = None) -> None:
        """`folder`: where the keys lie. It is looked into again when a token names a key that is not known."""
        self.revoked, self.observed = Revoked(), Observed()
        self._folder, self._changed_at = folder, 0
        self._keys: dict[str, OKPKey] = {}
        self._old: set[str] = set()
        """Tokens without an id that were met. There are only so many: none is issued any more."""
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER},
            aud={"value": AUDIENCE},
            sub={"essential": True},
            exp={"essential": True},
        )
        self._take(keys)
        self.reload()

    def reload(self) -> None:
        """Read the keys anew if their folder changed: another may sign now, an earlier one may verify no more.

        Raises KeyFileError.
        """
        if self._folder is None:
            return
        changed_at = self._folder.stat().st_mtime_ns if self._folder.exists() else 0
        # a change in the same tick of the clock as the last one would not be seen
        if changed_at != self._changed_at or time.time_ns() - changed_at < RELOAD_NANOSECONDS:
            self._changed_at = changed_at
            self._take(public_keys(self._folder, KEY))

    def verify(self, token: str) -> Principal:
        """Raises Problem 401 for a token that is malformed, expired, revoked, or not signed by a key of ours."""
        try:
            claims = self._claims_of(token)
            # RFC 7519 asks nothing of `iat`. A clock that was set back must not refuse what was issued a moment ago.
            self._claims.validate({name: value for name, value in claims.items() if name != "iat"})
        except (JoseError, ValueError) as error:
            _strangers.inc()
            raise unauthenticated(f"token not accepted: {type(error).__name__}; ask for a new one") from error
        if claims.get("role") not in ROLES:
            raise unauthenticated("token has an unknown role; ask for a new one")
        token_id: str | None = claims.get("jti")
        if token_id is None and time.time() >= _issued_at(claims) + OLD_TOKEN_SECONDS:
            raise unauthenticated("token without an id is older than 30 days: ask for a new one")
        if token_id is not None and "aud" not in claims:
            raise unauthenticated("token names no audience; ask for a new one")
        if (revocation := self._revocation_of(claims)) is not None:
            self.observed.refuse(revocation)
            raise unauthenticated("token was revoked; ask for a new one")
        if token_id is None and token not in self._old:
            self._old.add(token)
            self.observed.see_old(_old_token(token, claims))
        return Principal(
            claims["sub"],
            claims["role"],
            claims.get("ward"),
            claims.get("post"),
            credential=token_id,
            issued_at=claims.get("iat"),
        )

    def is_revoked(self, token: str) -> bool:
        """Whether a token that was accepted was revoked since. This is no use of it."""
        return self._revocation_of(self._claims_of(token)) is not None

    def verify_with_end(self, token: str) -> tuple[Principal, datetime]:
        """The same, and when the token expires."""
        principal = self.verify(token)
        return principal, datetime.fromtimestamp(self._claims_of(token)["exp"], UTC)

    def refuses_link(self, notice_id: str, recipient: str, issued_at: datetime) -> bool:
        """Whether the signed link of a notice was revoked: by itself, or with all of its recipient."""
        found = self.revoked.by_id(notice_id) or self.revoked.by_subject(recipient, issued_at.timestamp())
        if found is not None:
            self.observed.refuse(found, notice_id)
        return found is not None

    def _revocation_of(self, claims: Mapping[str, Any]) -> Revocation | None:
        token_id: str | None = claims.get("jti")
        if token_id is not None:
            return self.revoked.by_id(token_id)
        return self.revoked.by_subject(claims["sub"], _issued_at(claims))

    def _take(self, keys: Sequence[bytes]) -> None:
        """What was verified with a key that is gone is not remembered."""
        known = {key_id(key): key for key in map(OKPKey.import_key, keys)}
        if known.keys() != self._keys.keys():
            self._keys = known
            self._claims_of = lru_cache(maxsize=1_024)(self._signed_claims)

    def _signed_claims(self, token: str) -> dict[str, Any]:
        """Kept, since a signature does not change; expiry and revocation are looked at each time."""
        named = _key_id_in(token)
        if named is None:
            claims = self._claims_by_any_key(token)
        else:
            if named not in self._keys:
                with suppress(KeyFileError, OSError):
                    self.reload()
            if named not in self._keys:
                raise InvalidKeyIdError
            claims = jwt.decode(token, self._keys[named], algorithms=[ALGORITHM]).claims
        return claims

    def _claims_by_any_key(self, token: str) -> dict[str, Any]:
        *others, last = self._keys.values()
        for key in others:
            with suppress(BadSignatureError):
                return jwt.decode(token, key, algorithms=[ALGORITHM]).claims
        return jwt.decode(token, last, algorithms=[ALGORITHM]).claims


def key_id(key: OKPKey) -> str:
    """Return the id by which tokens name the key: its thumbprint (RFC 7638), cut to 96 bits."""
    return key.thumbprint()[:16]


def _key_id_in(token: str) -> str | None:
    """The id of the key that a token names in its header. Raises ValueError for what is no token."""
    head = token.partition(".")[0]
    header = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    named = header.get("kid") if isinstance(header, dict) else None
    return named if isinstance(named, str) else None


def _issued_at(claims: Mapping[str, Any]) -> int:
    """0 where a token does not say it."""
    issued_at = claims.get("iat")
    return issued_at if isinstance(issued_at, int) else 0


def _old_token(token: str, claims: Mapping[str, Any]) -> OldToken:
    issued_at = _issued_at(claims)
    expires = min(claims["exp"], issued_at + OLD_TOKEN_SECONDS)
    return OldToken(
        hashlib.sha256(token.encode()).hexdigest(),
        str(claims.get("sub")),
        str(claims.get("role")),
        claims.get("ward"),
        datetime.fromtimestamp(issued_at, UTC),
        datetime.fromtimestamp(expires, UTC),
    )


def issuer(keys: Path) -> TokenIssuer:
    return TokenIssuer(signing_key(keys, KEY))


def verifier(keys: Path) -> TokenVerifier:
    return TokenVerifier(*public_keys(keys, KEY), folder=keys)


def unauthenticated(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="trucban"'})

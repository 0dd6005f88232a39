"""Tokens and their keys: ids, keys that follow one another, and tokens of before."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import OKPKey

from shared.credentials.refusals import Seen
from shared.credentials.revocation import Revocation
from shared.http.identity import ALGORITHM, ISSUER, KEY, OLD_TOKEN_SECONDS, Principal, TokenVerifier, issuer, verifier
from shared.http.problem import Problem
from shared.keys import forget_retired, retire, signing_key, write_public_key

DESK = Principal("truc-ban", "desk")
LATER = datetime.now(UTC) + timedelta(days=400)


def of_before(key: Ed25519PrivateKey, **changes: Any) -> str:
    """As tokens were issued before they had an id."""
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": "truc-ban", "role": "desk", "iat": now, "exp": now + 400 * 86_400} | changes
    return jwt.encode({"alg": ALGORITHM}, claims, OKPKey.import_key(key), algorithms=[ALGORITHM])


def is_refused(tokens: TokenVerifier, token: str) -> bool:
    try:
        tokens.verify(token)
    except Problem as problem:
        assert problem.status == 401
        return True
    return False


def revocation(**more: Any) -> Revocation:
    now = datetime.now(UTC)
    common = {"revocation_id": "1", "kind": "token", "holder": "x", "role": "desk", "revoked_at": now}
    return Revocation.model_validate(common | {"expires_at": LATER} | more)


@pytest.mark.parametrize("has_private_half", [True, False])
def test_a_running_verifier_takes_tokens_of_the_old_key_and_of_the_new_one(
    tmp_path: Path, *, has_private_half: bool
) -> None:
    old = issuer(tmp_path)
    write_public_key(tmp_path, KEY)
    before = old.issue(DESK)
    tokens = verifier(tmp_path)
    retire(tmp_path, KEY, old.key_id, LATER)
    after = issuer(tmp_path).issue(DESK)
    assert issuer(tmp_path).key_id != old.key_id
    if not has_private_half:
        (tmp_path / "token.pem").unlink()
    for known in (tokens, verifier(tmp_path)):
        assert [known.verify(token) for token in (before, after)] == [DESK, DESK]


def test_an_old_key_that_is_forgotten_verifies_nothing_not_even_what_was_verified_before(tmp_path: Path) -> None:
    old = issuer(tmp_path)
    before, tokens = old.issue(DESK), verifier(tmp_path)
    tokens.verify(before)
    retire(tmp_path, KEY, old.key_id, LATER)
    forget_retired(tmp_path, KEY)
    tokens.reload()
    assert is_refused(tokens, before)
    assert tokens.verify(issuer(tmp_path).issue(DESK)) == DESK


def test_an_old_key_ends_at_its_time(tmp_path: Path) -> None:
    old = issuer(tmp_path)
    before = old.issue(DESK)
    retire(tmp_path, KEY, old.key_id, datetime.now(UTC) - timedelta(seconds=1))
    assert is_refused(verifier(tmp_path), before)


def test_of_three_keys_each_verifies_its_own(tmp_path: Path) -> None:
    issued = [issuer(tmp_path).issue(DESK)]
    for _ in range(2):
        retire(tmp_path, KEY, issuer(tmp_path).key_id, LATER)
        issued.append(issuer(tmp_path).issue(DESK))
    assert [verifier(tmp_path).verify(token) for token in issued] == [DESK] * 3
    assert len(list(tmp_path.glob("token-*.pub"))) == 2


def test_a_token_of_before_holds_for_thirty_days_whichever_key_signed_it(tmp_path: Path) -> None:
    key = signing_key(tmp_path, KEY)
    young, old = of_before(key), of_before(key, iat=int(time.time()) - OLD_TOKEN_SECONDS)
    nameless = of_before(key, iat="yesterday")
    retire(tmp_path, KEY, issuer(tmp_path).key_id, LATER)
    tokens = verifier(tmp_path)
    assert tokens.verify(young) == DESK
    assert [is_refused(tokens, token) for token in (old, nameless)] == [True, True]


def test_a_token_for_another_audience_or_with_an_id_and_none_is_refused(tmp_path: Path) -> None:
    key = signing_key(tmp_path, KEY)
    tokens = verifier(tmp_path)
    for claims in ({"jti": "1", "aud": "another"}, {"jti": "1"}, {"aud": "another"}):
        assert is_refused(tokens, of_before(key, **claims)), claims
    assert not is_refused(tokens, of_before(key, jti="1", aud="trucban"))


def test_a_revoked_token_is_refused_and_one_of_the_same_person_is_not(tmp_path: Path) -> None:
    signed, other = (issuer(tmp_path).sign(DESK) for _ in range(2))
    tokens = verifier(tmp_path)
    tokens.verify(signed.text)
    tokens.revoked.add(revocation(credential=signed.token_id))
    assert is_refused(tokens, signed.text)
    assert tokens.verify(other.text) == DESK


def test_all_of_a_person_are_the_tokens_of_before_that_were_issued_until_then(tmp_path: Path) -> None:
    key = signing_key(tmp_path, KEY)
    now = int(time.time())
    earlier, later = of_before(key, iat=now - 60), of_before(key, iat=now)
    signed, tokens = issuer(tmp_path).issue(DESK), verifier(tmp_path)
    until = datetime.fromtimestamp(now - 30, UTC)
    tokens.revoked.add(revocation(subject="truc-ban", issued_before=until))
    assert is_refused(tokens, earlier)
    assert tokens.verify(later) == tokens.verify(signed) == DESK
    another = of_before(key, iat=now - 60, sub="truc-ban-2")
    assert tokens.verify(another).subject == "truc-ban-2"


async def test_refusals_are_one_count_a_minute_and_are_kept_until_somebody_takes_them(tmp_path: Path) -> None:
    signed = issuer(tmp_path).sign(DESK)
    tokens = verifier(tmp_path)
    tokens.revoked.add(revocation(credential=signed.token_id))
    for _ in range(3):
        is_refused(tokens, signed.text)
    taken: list[Seen] = []

    async def fail(_: Seen) -> None:
        raise OSError

    async def take(seen: Seen) -> None:
        taken.append(seen)

    with pytest.raises(OSError):
        await tokens.observed.hand_over(fail)
    await tokens.observed.hand_over(take)
    await tokens.observed.hand_over(take)
    (seen,) = taken
    assert sum(count for _, count in seen.refused) == 3
    assert {refused.credential for refused, _ in seen.refused} == {signed.token_id}


async def test_a_token_of_before_is_told_once(tmp_path: Path) -> None:
    token = of_before(signing_key(tmp_path, KEY))
    tokens, taken = verifier(tmp_path), list[Seen]()

    async def take(seen: Seen) -> None:
        taken.append(seen)

    for _ in range(3):
        tokens.verify(token)
        await tokens.observed.hand_over(take)
    (seen,) = taken
    assert [(old.subject, old.role) for old in seen.old] == [("truc-ban", "desk")]
    assert seen.old[0].expires_at - seen.old[0].issued_at == timedelta(days=30)

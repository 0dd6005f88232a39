"""Tokens: whoever cannot show one that we signed, for a role that we know, and that is still good, is nobody."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from shared.http.guard import Guard
from shared.http.identity import ALGORITHM, ISSUER, ROLES, Principal, TokenIssuer, TokenVerifier, issuer, verifier
from shared.http.problem import Problem
from shared.http.rate import Rate
from shared.http.rights import anywhere
from shared.keys import KeyFileError, secret, signing_key, write_public_key

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ISSUED_BY, VERIFIER = TokenIssuer(KEY), TokenVerifier(PUBLIC)
CHAIR = Principal("mau-chu-tich", "official", ward="14776", post="chair")
NOW = int(time.time())
CLAIMS: dict[str, Any] = {"iss": ISSUER, "sub": "truc-ban", "role": "desk", "iat": NOW, "exp": NOW + 600}


def signed(**changes: Any) -> str:
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return jwt.encode({"alg": ALGORITHM}, claims, OKPKey.import_key(KEY), algorithms=[ALGORITHM])


def unsigned(header: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in (header, CLAIMS)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def refused(token: str) -> Problem:
    with pytest.raises(Problem) as raised:
        VERIFIER.verify(token)
    assert raised.value.status == 401
    assert raised.value.headers is not None
    assert "Bearer" in raised.value.headers["WWW-Authenticate"]
    return raised.value


# --- what a token says ---


@pytest.mark.parametrize("role", ROLES)
def test_a_token_says_who_in_which_role(role: Any) -> None:
    principal = Principal("mau", role, ward="14776", post="chair")
    assert VERIFIER.verify(ISSUED_BY.issue(principal)) == principal


def test_a_token_without_ward_and_post_gives_none() -> None:
    assert VERIFIER.verify(ISSUED_BY.issue(Principal("mau", "desk"))) == Principal("mau", "desk", None, None)


# --- what is no token ---


def test_an_expired_token_is_refused() -> None:
    assert "Expired" in refused(ISSUED_BY.issue(CHAIR, days=-1)).detail


def test_a_token_is_taken_after_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    token = ISSUED_BY.issue(Principal("truc-ban", "desk"))
    earlier = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: earlier)
    assert VERIFIER.verify(token).role == "desk"


def test_a_token_that_another_key_signed_is_refused() -> None:
    assert "KeyId" in refused(TokenIssuer(OTHER_KEY).issue(CHAIR)).detail


@pytest.mark.parametrize(
    "changes",
    [
        {"role": None},
        {"role": "mayor"},
        {"role": ["desk"]},
        {"role": {"desk": 1}},
        {"iss": "somebody"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"exp": None},
        {"exp": "tomorrow"},
    ],
    ids=str,
)
def test_a_token_that_lacks_a_claim_or_has_another_kind_of_it_is_refused(changes: dict[str, Any]) -> None:
    refused(signed(**changes))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "EdDSA", "ES256", "", 1, None])
def test_an_unsigned_token_is_refused_whatever_algorithm_it_claims(algorithm: Any) -> None:
    refused(unsigned({"alg": algorithm}))


def test_the_public_key_is_no_shared_secret() -> None:
    forged = jwt.encode({"alg": "HS256"}, CLAIMS, OctKey.import_key(PUBLIC.hex()), algorithms=["HS256"])
    refused(forged)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_token_with_one_letter_changed_is_refused(part: int) -> None:
    parts = ISSUED_BY.issue(CHAIR).split(".")
    middle = len(parts[part]) // 2
    letter = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + letter + parts[part][middle + 1 :]
    refused(".".join(parts))


@given(
    st.text(max_size=60)
    | st.lists(st.binary(max_size=20).map(lambda b: base64.urlsafe_b64encode(b).decode()), max_size=5).map(".".join)
    | st.lists(
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda c: st.lists(c)).map(
            lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
        ),
        min_size=3,
        max_size=3,
    ).map(".".join)
)
def test_no_text_at_all_is_more_than_401(token: str) -> None:
    refused(token)


# --- the guard of a route ---


def request_of(caller: Principal) -> Request:
    app = FastAPI()
    app.state.verifier, app.state.rate = VERIFIER, Rate(6_000, 1_000)
    token = f"Bearer {ISSUED_BY.issue(caller)}".encode()
    app.state.rights = {"GET /things": anywhere("desk", "admin")}
    route = APIRoute("/things", lambda: None)
    scope = {"type": "http", "method": "GET", "headers": [(b"authorization", token)], "app": app, "route": route}
    return Request(scope)


@pytest.mark.parametrize("role", ROLES)
async def test_a_guard_lets_its_roles_in_and_tells_the_others_which_those_are(role: Any) -> None:
    guard = Guard()
    caller = Principal("mau", role)
    if role in {"desk", "admin"}:
        assert await guard(request_of(caller)) == caller
        return
    with pytest.raises(Problem) as raised:
        await guard(request_of(caller))
    assert raised.value.status == 403
    assert "desk or admin" in raised.value.detail


# --- key files ---


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_keys_are_made_once_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first, content = signing_key(folder, "token"), secret(folder, "content")
    assert (mode(folder), mode(folder / "token.pem"), mode(folder / "content.key")) == (0o700, 0o600, 0o600)
    assert signing_key(folder, "token").private_bytes_raw() == first.private_bytes_raw()
    assert secret(folder, "content") == content
    assert len(content) == 32
    assert sorted(path.name for path in folder.iterdir()) == ["content.key", "token.pem"], "no draft is left"


def test_issuer_and_verifier_of_one_folder_belong_together(tmp_path: Path) -> None:
    issued = issuer(tmp_path).issue(CHAIR)
    assert verifier(tmp_path).verify(issued) == CHAIR
    with pytest.raises(Problem):
        verifier(tmp_path / "another-city").verify(issued)


def test_a_verifier_reads_the_public_half_only(tmp_path: Path) -> None:
    issued = issuer(tmp_path).issue(CHAIR)
    write_public_key(tmp_path, "token")
    (tmp_path / "token.pem").unlink()
    assert verifier(tmp_path).verify(issued) == CHAIR
    assert b"PRIVATE" not in (tmp_path / "token.pub").read_bytes()


def test_a_key_file_that_is_damaged_says_which_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "token.pem").write_bytes(b"not a key")
    (tmp_path / "content.key").write_bytes(b"short")
    other = generate_private_key(SECP256R1())
    other_kind = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ledger.pem").write_bytes(other_kind)
    with pytest.raises(KeyFileError, match=r"token\.pem holds no private key: restore it"):
        signing_key(tmp_path, "token")
    with pytest.raises(KeyFileError, match=r"ledger\.pem is not an Ed25519 key: restore it"):
        signing_key(tmp_path, "ledger")
    with pytest.raises(KeyFileError, match=r"content\.key has 5 bytes, not 32: restore it"):
        secret(tmp_path, "content")

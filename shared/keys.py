"""Key files: made at first start, mode 0600, never logged. Verifiers are given the public half only."""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


class KeyFileError(Exception):
    """A key file is unreadable or of the wrong kind; the text says which and what to do."""


def signing_key(folder: Path, name: str) -> Ed25519PrivateKey:
    """The Ed25519 key of `folder`/`name`.pem, made if absent. Raises KeyFileError."""
    new = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / f"{name}.pem"
    try:
        key = load_pem_private_key(_read_or_create(path, new), password=None)
    except ValueError as error:
        raise KeyFileError(f"key file {path} holds no private key: restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"key file {path} is not an Ed25519 key: restore it from a backup")
    return key


def public_key(folder: Path, name: str) -> bytes:
    """PEM of the public half. A folder with `name`.pub and no private key serves a verifier that has no more."""
    public = folder / f"{name}.pub"
    if public.exists() and not (folder / f"{name}.pem").exists():
        return public.read_bytes()
    key = signing_key(folder, name).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_public_key(folder: Path, name: str) -> None:
    """Write `name`.pub, for those who are given the public half only."""
    (folder / f"{name}.pub").write_bytes(public_key(folder, name))


def secret(folder: Path, name: str) -> bytes:
    """The 32 random bytes of `folder`/`name`.key, made if absent. Raises KeyFileError."""
    path = folder / f"{name}.key"
    content = _read_or_create(path, secrets.token_bytes(32))
    if len(content) != 32:
        raise KeyFileError(f"key file {path} has {len(content)} bytes, not 32: restore it from a backup")
    return content


def _read_or_create(path: Path, new: bytes) -> bytes:
    """Whoever links first wins, so that several processes that start at once agree on one key."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()

"""Key files: made at first start with mode 0600, and never logged.

Verifiers are given only the public half.
"""

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
    """A key file is unreadable or of the wrong kind. The text says which, and what to do."""


def signing_key(folder: Path, name: str) -> Ed25519PrivateKey:
    """Return the Ed25519 key in `folder`/`name`.pem. Makes it if there is none. Raises KeyFileError."""
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
    """Return the public half as PEM. Raises KeyFileError.

    A verifier's folder holds `name`.pub without a private key: then that file is read.
    """
    public = folder / f"{name}.pub"
    try:
        if public.exists() and not (folder / f"{name}.pem").exists():
            return public.read_bytes()
    except OSError as error:
        raise KeyFileError(f"key file {public} cannot be read ({error.strerror}): give this user its folder") from error
    key = signing_key(folder, name).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_public_key(folder: Path, name: str) -> None:
    """Write `name`.pub, for those who are given the public half only."""
    (folder / f"{name}.pub").write_bytes(public_key(folder, name))


def secret(folder: Path, name: str) -> bytes:
    """Return the 32 random bytes in `folder`/`name`.key. Makes them if there are none. Raises KeyFileError."""
    path = folder / f"{name}.key"
    content = _read_or_create(path, secrets.token_bytes(32))
    if len(content) != 32:
        raise KeyFileError(f"key file {path} has {len(content)} bytes, not 32: restore it from a backup")
    return content


def _read_or_create(path: Path, new: bytes) -> bytes:
    """Return what the file holds, which is `new` if there was no file.

    The first process to link its draft wins, so that processes that start at once agree on one key.
    """
    try:
        return _read_or_link(path, new)
    except OSError as error:
        raise KeyFileError(
            f"key file {path} cannot be read or made ({error.strerror}): give this user its folder, or restore it"
        ) from error


def _read_or_link(path: Path, new: bytes) -> bytes:
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

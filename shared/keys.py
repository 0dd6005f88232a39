"""Key files: made at first start with mode 0600, and never logged.

Verifiers are given only the public half.
"""

import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

_STAMP = "%Y%m%dT%H%M%SZ"


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


def public_keys(folder: Path, name: str) -> list[bytes]:
    """Return the present public half, and those of earlier keys that still verify (`retire`). Raises KeyFileError."""
    return [public_key(folder, name), *(path.read_bytes() for path, until in _retired(folder, name) if until > _now())]


def retire(folder: Path, name: str, key_id: str, until: datetime) -> None:
    """Replace the key `name` by a new one. What the old one signed verifies until `until`; its private half is gone.

    Whoever reads the folder meanwhile finds the halves of both. Raises KeyFileError.
    """
    old, new = public_key(folder, name), Ed25519PrivateKey.generate()
    private = new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        for path, ended in _retired(folder, name):
            if ended <= _now():
                path.unlink(missing_ok=True)
        _replace(folder / f"{name}-{key_id}-{until.astimezone(UTC):{_STAMP}}.pub", old)
        _replace(folder / f"{name}.pub", new.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        _replace(folder / f"{name}.pem", private)
    except OSError as error:
        raise KeyFileError(
            f"key files in {folder} cannot be written ({error.strerror}): run it as their user"
        ) from error


def forget_retired(folder: Path, name: str) -> None:
    """What earlier keys signed verifies no more."""
    for path, _ in _retired(folder, name):
        path.unlink(missing_ok=True)


def retired_files(folder: Path, name: str) -> list[str]:
    """The names of the files with the public halves of earlier keys."""
    return [path.name for path, _ in _retired(folder, name)]


def _retired(folder: Path, name: str) -> list[tuple[Path, datetime]]:
    """The public halves of earlier keys, and until when they verify, which stands in the file's name."""
    found: list[tuple[Path, datetime]] = []
    for path in sorted(folder.glob(f"{name}-*.pub")):
        with suppress(ValueError):
            found.append((path, datetime.strptime(path.stem.rpartition("-")[2], _STAMP).replace(tzinfo=UTC)))
    return found


def _now() -> datetime:
    return datetime.now(UTC)


def _replace(path: Path, content: bytes) -> None:
    """Whoever reads the file finds the old content or the new."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.suffix == ".pub":
        draft.chmod(0o644)
    draft.replace(path)


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

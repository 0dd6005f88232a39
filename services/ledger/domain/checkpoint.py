"""Checkpoints: C2SP tlog-checkpoint in a C2SP signed-note, signed with Ed25519 (signature type 0x01).

A checkpoint says "the log `origin` has `size` entries and the root `root`"; whoever keeps one can later show
that history was changed. Specifications: c2sp.org/tlog-checkpoint, c2sp.org/signed-note; the form of a
verifier key is that of Go's `sumdb/note`: `name+hex key id+base64(0x01 || public key)`.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.ledger.domain.merkle import HASH_BYTES

ED25519 = b"\x01"
MAX_NOTE_BYTES = 100_000
"""More than 16 post-quantum cosignatures; a larger note is not read."""


class NoteError(Exception):
    """A note, checkpoint or key is malformed or not signed by the expected key."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: `size` entries with the Merkle root `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """The public half of a log's key under the name that it signs with."""

    name: str
    key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.key) != 32:
            raise NoteError(f"Ed25519 public key has {len(self.key)} bytes, not 32")

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.key).digest()[:4]

    def vkey(self) -> str:
        """The one line that an auditor is given and keeps."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.key).decode()}"


def check_name(name: str) -> None:
    """Raises NoteError for a name that a signature line cannot carry."""
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise NoteError(f"key name {name!r}: must not be empty, nor have spaces or '+'")


def parse_vkey(vkey: str) -> Verifier:
    """Raises NoteError."""
    parts = vkey.strip().split("+", 2)
    if len(parts) != 3:
        raise NoteError("verifier key: expected name+key id+base64 key")
    name, key_id, encoded = parts
    key = _base64("verifier key", encoded)
    if key[:1] != ED25519:
        raise NoteError("verifier key: not an Ed25519 key (type 0x01)")
    verifier = Verifier(name, key[1:])
    if verifier.key_id.hex() != key_id:
        raise NoteError(f"verifier key {name}: its key id is not {key_id}; was it copied completely?")
    return verifier


class Signer:
    """Signs notes under one name. A log must sign no two checkpoints that contradict one another."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.verifier = Verifier(name, key.public_key().public_bytes_raw())
        self._key = key

    def sign(self, text: str) -> str:
        """The signed note of `text`, which ends in a newline. Raises NoteError."""
        _check_text(text)
        signature = base64.b64encode(self.verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.verifier.name} {signature}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """The text of a note that `verifier` signed; signatures of other keys are ignored. Raises NoteError."""
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise NoteError(f"note is larger than {MAX_NOTE_BYTES} bytes")
    head, blank, tail = note.rpartition("\n\n")
    text = head + "\n"
    if not blank or not tail.endswith("\n"):
        raise NoteError("note: expected a text, an empty line and signature lines")
    _check_text(text)
    signatures = [_signature(line) for line in tail[:-1].split("\n")]
    ours = [value[4:] for name, value in signatures if (name, value[:4]) == (verifier.name, verifier.key_id)]
    if not ours:
        raise NoteError(f"note is not signed by {verifier.name}+{verifier.key_id.hex()}")
    public = Ed25519PublicKey.from_public_bytes(verifier.key)
    try:
        for value in ours:
            public.verify(value, text.encode())
    except InvalidSignature as error:
        raise NoteError(f"signature of {verifier.name} on the note is wrong") from error
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of a note's text; extension lines, which nobody can audit, are refused.

    Raises NoteError.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise NoteError("checkpoint: expected three lines: origin, size, root")
    origin, size, root = lines[0], lines[1], _base64("root of the checkpoint", lines[2])
    if not (size.isascii() and size.isdigit()) or (size != "0" and size.startswith("0")) or len(size) > 19:
        raise NoteError(f"checkpoint: size {size[:24]!r} is not a plain decimal number")
    if not origin or len(root) != HASH_BYTES:
        raise NoteError(f"checkpoint: expected an origin and a root of {HASH_BYTES} bytes")
    return Checkpoint(origin, int(size), root)


def open_checkpoint(note: str, verifier: Verifier, origin: str) -> Checkpoint:
    """A signed checkpoint of the log `origin`. Raises NoteError."""
    found = parse_checkpoint(open_note(note, verifier))
    if found.origin != origin:
        raise NoteError(f"checkpoint is of the log {found.origin!r}, not {origin!r}")
    return found


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in text):
        raise NoteError("note: the text must end in a newline and have no other control characters")


def _signature(line: str) -> tuple[str, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise NoteError("note: signature lines read '— name base64'")
    check_name(parts[1])
    value = _base64("signature", parts[2])
    if len(value) < 5:
        raise NoteError("note: a signature is shorter than its key id")
    return parts[1], value


def _base64(what: str, text: str) -> bytes:
    """Only the one encoding that the standard alphabet gives, so that nothing has two spellings."""
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise NoteError(f"{what}: not base64") from error
    if base64.b64encode(value).decode() != text:
        raise NoteError(f"{what}: not in the canonical form of base64")
    return value

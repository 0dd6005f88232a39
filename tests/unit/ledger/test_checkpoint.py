"""Signed notes and checkpoints against the C2SP specifications."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain.checkpoint import (
    Checkpoint,
    NoteError,
    Signer,
    Verifier,
    open_checkpoint,
    open_note,
    parse_checkpoint,
    parse_vkey,
)

# The example key and note of golang.org/x/mod/sumdb/note (BSD-3-Clause), which c2sp.org/signed-note was taken from.
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""
SUM_VKEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

# The example of c2sp.org/tlog-checkpoint.
EXAMPLE_TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

ORIGIN = "trucban.local/ledger"
SIGNER = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
CHECKPOINT = Checkpoint(ORIGIN, 12, bytes(range(32)))
NOTE = SIGNER.sign(CHECKPOINT.text())


def test_published_note_opens() -> None:
    """The published example verifies with the published key, and not with one letter changed."""
    verifier = parse_vkey(PETER_VKEY)
    assert open_note(PETER_NOTE, verifier) == PETER_NOTE.split("\n\n")[0] + "\n"
    with pytest.raises(NoteError, match="signature of PeterNeumann"):
        open_note(PETER_NOTE.replace("don't", "do"), verifier)


@pytest.mark.parametrize("vkey", [PETER_VKEY, SUM_VKEY])
def test_published_keys_have_our_key_id(vkey: str) -> None:
    """The key id is computed as c2sp.org/signed-note says."""
    assert parse_vkey(vkey).vkey() == vkey


def test_published_checkpoint_reads() -> None:
    """The example of tlog-checkpoint is read, and written again, byte for byte."""
    found = parse_checkpoint(EXAMPLE_TEXT)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.text() == EXAMPLE_TEXT


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_signed_checkpoint_opens_again(size: int, root: bytes) -> None:
    """What the ledger signs, the auditor reads."""
    signed = Checkpoint(ORIGIN, size, root)
    assert open_checkpoint(SIGNER.sign(signed.text()), SIGNER.verifier, ORIGIN) == signed


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(0, 7))
def test_no_flipped_bit_opens(place: int, bit: int) -> None:
    """A note that differs in any one bit is refused."""
    changed = bytearray(NOTE.encode())
    changed[place] ^= 1 << bit
    with pytest.raises((NoteError, UnicodeDecodeError)):
        open_checkpoint(changed.decode(), SIGNER.verifier, ORIGIN)


def test_signature_of_others_is_ignored_but_not_enough() -> None:
    """A witness may add its line; a note that only the witness signed is not the log's."""
    witness = Signer("witness.example", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    line = witness.sign(CHECKPOINT.text()).rpartition("\n\n")[2]
    assert open_checkpoint(NOTE + line, SIGNER.verifier, ORIGIN) == CHECKPOINT
    with pytest.raises(NoteError, match="not signed by"):
        open_checkpoint(CHECKPOINT.text() + "\n" + line, SIGNER.verifier, ORIGIN)


def test_same_name_with_another_key_is_not_the_log() -> None:
    """The header of an export may carry any key: only the pinned one counts."""
    forger = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(NoteError, match="not signed by"):
        open_checkpoint(forger.sign(CHECKPOINT.text()), SIGNER.verifier, ORIGIN)


def test_checkpoint_of_another_log_is_refused() -> None:
    """A key that signs for two logs does not make one stand for the other."""
    other = SIGNER.sign(Checkpoint("trucban.local/other", 12, bytes(32)).text())
    with pytest.raises(NoteError, match=r"'trucban\.local/other', not 'trucban\.local/ledger'"):
        open_checkpoint(other, SIGNER.verifier, ORIGIN)


ROOT_TEXT = CHECKPOINT.text().split("\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n012\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n-1\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n١٢\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n{10**19}\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n\n{ROOT_TEXT}\n",
        f"\n12\n{ROOT_TEXT}\n",
        f"{ORIGIN}\n12\nAAAA\n",
        f"{ORIGIN}\n12\n{ROOT_TEXT[:-2]}9=\n",
        f"{ORIGIN}\n12\n{ROOT_TEXT} \n",
        f"{ORIGIN}\n12\n{ROOT_TEXT}\nextension\n",
        f"{ORIGIN}\n12\n",
    ],
)
def test_malformed_checkpoint(text: str) -> None:
    """One spelling only: no leading zero, no other digits, no other base64, no further line."""
    with pytest.raises(NoteError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "note",
    ["", "text\n", f"{CHECKPOINT.text()}\n", NOTE[:-1], NOTE + "\n", NOTE.replace("— ", "- "), "\t" + NOTE],
)
def test_malformed_note(note: str) -> None:
    """A note that is cut, or has anything more, is refused."""
    with pytest.raises(NoteError):
        open_note(note, SIGNER.verifier)


def test_note_too_large_is_not_read() -> None:
    """A verifier bounds what it reads."""
    with pytest.raises(NoteError, match="larger than"):
        open_note("x" * 100_001, SIGNER.verifier)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\tb"])
def test_name_that_a_line_cannot_carry(name: str) -> None:
    """Names are one word without '+'."""
    with pytest.raises(NoteError, match="key name"):
        Verifier(name, bytes(32))


@pytest.mark.parametrize(
    "vkey", ["", "name", PETER_VKEY[:-4], PETER_VKEY.replace("c7", "c8"), PETER_VKEY.replace("+ARp", "+Ahp")]
)
def test_malformed_verifier_key(vkey: str) -> None:
    """A key that was copied incompletely is noticed before it is used."""
    with pytest.raises(NoteError, match=r"verifier key|Ed25519"):
        parse_vkey(vkey)

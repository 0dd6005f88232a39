"""The offline verifier: an honest export holds, and whatever was done to one is named."""

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain.checkpoint import Signer
from services.ledger.domain.verify import MAX_FAILURES, Verification, verify_export
from tests.unit.ledger.sample import ORIGIN, SIGNER, entries, export, report, signed

VKEY = SIGNER.verifier.vkey()
BODIES = [entry.body for entry in entries(report(number) for number in range(12))]
EXPORT = export(BODIES)


def whats_wrong(lines: list[bytes], known: str | None = None) -> list[str]:
    return [str(failure) for failure in verify_export(lines, VKEY, known=known).failures]


@pytest.mark.parametrize("size", [0, 1, 7, 12])
def test_honest_export_holds(size: int) -> None:
    """Every size, from the empty log on; progress reaches the end."""
    seen: list[tuple[int, int]] = []
    found = verify_export(export(BODIES[:size]), VKEY, progress=lambda done, total: seen.append((done, total)))
    assert found.is_verified and not found.failures
    assert found.checkpoint is not None
    assert (found.entries, found.checkpoint.size) == (size, size)
    assert seen == ([(size, size)] if size else [])


def test_crlf_is_no_difference() -> None:
    """A file that went through a mail program with other line ends is still the same export."""
    assert not whats_wrong([line.replace(b"\n", b"\r\n") for line in EXPORT])


def test_changed_body_is_named() -> None:
    """One changed letter: the entry is named, and the root does not hold either."""
    lines = [line.replace(b'"r-4"', b'"r-5"') if place == 5 else line for place, line in enumerate(EXPORT)]
    assert whats_wrong(lines) == [
        "entry 4: the body does not have the recorded leaf hash: it was changed",
        "the 12 entries do not have the root that the checkpoint signs",
    ]


def test_body_changed_along_with_its_hash() -> None:
    """Who also corrects the leaf hash is caught by the root."""
    bodies = [body.replace(b'"r-4"', b'"r-5"') for body in BODIES]
    lines = [EXPORT[0], *export(bodies)[1:]]
    assert whats_wrong(lines) == ["the 12 entries do not have the root that the checkpoint signs"]


@given(st.data())
def test_no_flipped_bit_holds(data: st.DataObject) -> None:
    """Any one bit of any entry's line, flipped, is noticed."""
    place = data.draw(st.integers(1, 12))
    line = bytearray(EXPORT[place])
    bit = data.draw(st.integers(0, (len(line) - 1) * 8 - 1))
    line[bit // 8] ^= 1 << bit % 8
    assert not verify_export([*EXPORT[:place], bytes(line), *EXPORT[place + 1 :]], VKEY).is_verified


def test_dropped_and_swapped_lines() -> None:
    """A gap, an exchange, an early end and a late one are each told."""
    assert whats_wrong([*EXPORT[:4], *EXPORT[5:]])[0].startswith("entry 3: the line is missing, out of order")
    assert whats_wrong([*EXPORT[:2], EXPORT[3], EXPORT[2], *EXPORT[4:]])[:2] == [
        "entry 1: the line is missing, out of order or not in the form of an export",
        "entry 2: the line is missing, out of order or not in the form of an export",
    ]
    assert whats_wrong(EXPORT[:-2]) == ["the export ends after 10 of 12 entries"]
    assert whats_wrong([*EXPORT, EXPORT[-1]]) == ["the export goes on after the 12 entries of its checkpoint"]


def test_only_the_pinned_key_counts() -> None:
    """An export that someone signed with a key of their own, carried in its header, is refused."""
    forger = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    found = verify_export(export(BODIES, forger), VKEY)
    assert found.checkpoint is None and not found.is_verified
    assert "not signed by" in str(found.failures[0])


def test_bodies_that_are_no_entries() -> None:
    """A log whose operator signed something else than canonical, complete bodies is told apart."""
    assert whats_wrong(export([b'{"b":1,"a":2}', b'{"a":2}', BODIES[0]])) == [
        "entry 0: the body is not canonical JSON",
        "entry 1: the body is incomplete: v: expected 1, found None",
    ]


def test_known_checkpoint_must_be_continued() -> None:
    """A history rewritten with the true key differs from the checkpoint that the auditor kept."""
    kept = signed(BODIES[:7])
    assert not whats_wrong(EXPORT, kept)
    rewritten = [BODIES[8], *BODIES[1:8], *BODIES[9:]]
    assert not whats_wrong(export(rewritten))
    assert whats_wrong(export(rewritten), kept) == ["the first 7 entries are not those of the known checkpoint"]
    assert whats_wrong(export(BODIES[:6]), kept) == ["the export is shorter than the known checkpoint of 7 entries"]


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b'"\xff"', b'{"format":"other"}', b'{"format":"trucban-export/1"}', b"[" * 9999],
)
def test_header_that_is_none(header: bytes) -> None:
    """A file that is no export is told in one line."""
    assert len(whats_wrong([header, *EXPORT[1:]])) == 1


def test_wrong_key_is_told() -> None:
    """A mistyped key is the auditor's to correct."""
    assert not verify_export(EXPORT, "trucban").is_verified


def test_failures_are_counted_beyond_those_described() -> None:
    """A ruined export of any size gives a report of bounded size."""
    found = Verification()
    for index in range(MAX_FAILURES + 5):
        found.fail(index, "changed")
    assert (len(found.failures), found.failed) == (MAX_FAILURES, MAX_FAILURES + 5)


def test_needs_nothing_but_cryptography() -> None:
    """An auditor's machine has Python and `cryptography`: nothing else is imported."""
    program = (
        "import sys; import services.ledger.domain.verify; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # what site-packages' own start-up files import is not ours
    started = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    imported = set(run.stdout.split()) - {name.partition(".")[0] for name in started.stdout.split()}
    others = {name for name in imported - sys.stdlib_module_names if not name.startswith("_")}
    assert others <= {"services", "cryptography"}

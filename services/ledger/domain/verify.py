"""The offline verifier of an export: needs the export and the log's verifier key, no access to the system.

Standard library and cryptography only, so that an auditor can read all of it; export.py says what an export looks
like. The key in the export's own header is never trusted.
What it shows: these are all the entries of the log at the checkpoint, in order and unchanged. What it cannot
show: that the operator, who holds the key, did not rewrite history before anyone kept a checkpoint; so keep
one, and pass it as `known`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import cast

from services.ledger.domain.checkpoint import (
    Checkpoint,
    NoteError,
    open_checkpoint,
    parse_vkey,
)
from services.ledger.domain.export import BODY, FORMAT, line_head
from services.ledger.domain.merkle import Frontier
from services.ledger.domain.projection import ProjectionError, project

MAX_FAILURES = 100
"""Failures that are described; more are only counted."""
_BATCH = 512
_MAX_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that does not hold; `index` is the entry's, or None for the export as a whole."""

    index: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.index is None else f"entry {self.index}: {self.what}"


@dataclass(slots=True)
class Verification:
    """What the verifier found. `checkpoint` is set once its signature has been verified."""

    checkpoint: Checkpoint | None = None
    note: str = ""
    entries: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list[Failure])

    @property
    def is_verified(self) -> bool:
        return self.checkpoint is not None and not self.failed

    def fail(self, index: int | None, what: str) -> None:
        self.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(Failure(index, what))


def verify_export(
    lines: Iterable[bytes],
    vkey: str,
    origin: str | None = None,
    known: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Verify an export against the key that the auditor holds.

    `origin` is the log's name where it differs from the key's; `known` is a checkpoint (note) kept from
    earlier, which the export must continue; `progress` is called with entries done and entries in all. Never
    raises for what an export says: whatever is wrong is in the verification.
    """
    verification = Verification()
    rest = iter(lines)
    try:
        verifier = parse_vkey(vkey)
        log = origin or verifier.name
        earlier = open_checkpoint(known, verifier, log) if known else None
        verification.note = _note_of_header(next(rest, b""))
        verification.checkpoint = open_checkpoint(verification.note, verifier, log)
    except NoteError as error:
        verification.fail(None, str(error))
        return verification
    if earlier and earlier.size > verification.checkpoint.size:
        verification.fail(None, f"the export is shorter than the known checkpoint of {earlier.size} entries")
        earlier = None
    _verify_entries(rest, verification, verification.checkpoint, earlier, progress)
    return verification


def _verify_entries(
    lines: Iterator[bytes],
    verification: Verification,
    latest: Checkpoint,
    earlier: Checkpoint | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    frontier = Frontier()
    stops = sorted({latest.size} | ({earlier.size} if earlier else set()))
    for stop in stops:
        while verification.entries < stop:
            batch = list(islice(lines, min(_BATCH, stop - verification.entries)))
            if not batch:
                verification.fail(None, f"the export ends after {verification.entries} of {latest.size} entries")
                return
            frontier.extend([_verify_line(line, verification, latest.origin) for line in batch])
            if progress:
                progress(verification.entries, latest.size)
        if earlier and stop == earlier.size and frontier.root() != earlier.root:
            verification.fail(None, f"the first {stop} entries are not those of the known checkpoint")
    if frontier.root() != latest.root:
        verification.fail(None, f"the {latest.size} entries do not have the root that the checkpoint signs")
    if next(lines, None) is not None:
        verification.fail(None, f"the export goes on after the {latest.size} entries of its checkpoint")


def _note_of_header(line: bytes) -> str:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NoteError("the first line is not the header of an export") from error
    if not isinstance(header, dict) or cast("dict[str, object]", header).get("format") != FORMAT:
        raise NoteError(f"the first line is not a header of format {FORMAT}")
    note = cast("dict[str, object]", header).get("checkpoint")
    if not isinstance(note, str):
        raise NoteError("the header has no checkpoint")
    return note


def _verify_line(line: bytes, verification: Verification, origin: str) -> bytes:
    """The leaf hash of the body in this line, computed; what is wrong with the line goes into the verification."""
    index = verification.entries
    verification.entries += 1
    head = line_head(index)
    middle = len(head) + 64
    start = middle + len(BODY)
    line = line.rstrip(b"\r\n")
    if not line.startswith(head) or line[middle:start] != BODY or line[-1:] != b"}":
        verification.fail(index, "the line is missing, out of order or not in the form of an export")
        return hashlib.sha256(b"\x00").digest()
    body = line[start:-1]
    leaf = hashlib.sha256(b"\x00" + body)
    if leaf.hexdigest().encode() != line[len(head) : middle]:
        verification.fail(index, "the body does not have the recorded leaf hash: it was changed")
    if wrong := body_error(body, origin):
        verification.fail(index, wrong)
    return leaf.digest()


def body_error(body: bytes, origin: str) -> str | None:
    """What keeps these bytes from being a body of the log `origin`; None: they are canonical and complete."""
    try:
        value = _decoder.decode(body.decode())
        if _encoder.encode(value).encode() != body:
            return "the body is not canonical JSON"
        if not isinstance(value, dict):
            return "the body is not a JSON object"
        project(cast("dict[str, object]", value), origin)
    except (ValueError, RecursionError) as error:
        return f"the body is not canonical JSON: {error}"
    except ProjectionError as error:
        return f"the body is incomplete: {error}"
    return None


def _refuse_number(text: str) -> object:
    raise ValueError(f"number {text[:24]} is not an integer")


def _integer(text: str) -> int:
    value = int(text)
    if abs(value) >= _MAX_INTEGER:
        raise ValueError(f"number {text[:24]} is not below 2^53 in size")
    return value


_decoder = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number, parse_int=_integer)
_encoder = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

"""The form of an export: a header line, then one line an entry, by index from 0 without a gap.

    {"format":"trucban-export/1","origin":O,"vkey":V,"checkpoint":N}
    {"index":I,"leaf_hash":"64 hex digits","body":B}

N is the signed note of the checkpoint that the export reaches, as text. B is the entry's body verbatim: the very bytes
that are hashed. Every line is JSON, and is spelt exactly so, that the body can be cut out of it without parsing.
"""

import json

from services.ledger.domain.checkpoint import Verifier

FORMAT = "trucban-export/1"
BODY = b'","body":'


def header(verifier: Verifier, note: str) -> bytes:
    return json.dumps(
        {"format": FORMAT, "origin": verifier.name, "vkey": verifier.vkey(), "checkpoint": note},
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def line(index: int, leaf_hash: bytes, body: bytes) -> bytes:
    return line_head(index) + leaf_hash.hex().encode() + BODY + body + b"}"


def line_head(index: int) -> bytes:
    return b'{"index":%d,"leaf_hash":"' % index

"""Events and exports for the ledger's tests."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.ledger.domain import merkle
from services.ledger.domain.canonical import Entry, make_entry
from services.ledger.domain.checkpoint import Checkpoint, Signer
from services.ledger.domain.verify import FORMAT
from shared.commitment import Committed
from shared.events import Event, ReportReceived, ReportReceivedData, Source, UnitRef

ORIGIN = "trucban.local/ledger"
SIGNER = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
AT = datetime(2023, 1, 21, 17, 30, tzinfo=UTC)
SALT = "5a" * 32


def report(number: int, description: str = "Có tiếng nổ lớn", ward: str = "14776") -> ReportReceived:
    """A report of the Tết night; equal numbers give the same event."""
    return ReportReceived(
        id=f"01860000-0000-7000-8000-{number:012x}",
        source="/trucban/intake",
        subject=f"r-{number}",
        time=AT,
        data=ReportReceivedData(
            incident=f"incident-{number % 5}",
            unit=UnitRef(code=ward, valid_from=date(2025, 7, 1), name="Phường Hạc Thành"),
            category="FIRECRACKER_SET_OFF",
            occurred_at=AT,
            officials=(f"mau-{ward}-bi-thu", f"mau-{ward}-chu-tich"),
            report_id=f"r-{number}",
            received_at=AT,
            from_source=Source(kind="officer", subject="mau-can-bo"),
            description=Committed(salt=SALT, value=description),
        ),
    )


def entries(events: Iterable[Event]) -> list[Entry]:
    return [make_entry(event, ORIGIN, AT) for event in events]


def signed(bodies: Sequence[bytes], signer: Signer = SIGNER) -> str:
    root = merkle.root([merkle.leaf_hash(body) for body in bodies])
    return signer.sign(Checkpoint(ORIGIN, len(bodies), root).text())


def export(bodies: Sequence[bytes], signer: Signer = SIGNER) -> list[bytes]:
    """An export as the service writes it."""
    header = {"format": FORMAT, "origin": ORIGIN, "vkey": signer.verifier.vkey()}
    lines = [json.dumps(header | {"checkpoint": signed(bodies, signer)}).encode() + b"\n"]
    for index, body in enumerate(bodies):
        leaf = merkle.leaf_hash(body).hex().encode()
        lines.append(b'{"index":%d,"leaf_hash":"%s","body":%s}\n' % (index, leaf, body))
    return lines

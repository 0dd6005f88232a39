"""Signatures of stream entries: an HMAC that only services can make, so that nobody else speaks in their name.

Each producing service has a key. Whoever reads its streams needs the same key, so a reader could forge as well: the
signature keeps out who can write to the broker, and not one service from another.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path

from shared.keys import secret
from shared.messaging.stream import StreamState
from shared.messaging.topology import GROUPS, REVOCATIONS, base_of, producer_of

KEY = "stream-"
"""Key file of a producer: this, and the name of the service."""
HIGHEST = 2**52
"""No outbox comes this far. A higher number in a stream is not ours; Redis' scripts could not count above it."""


class Seals:
    """Signs the entries of streams, and tells signed ones from others."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys`: by the base name of the streams."""
        self._begun = {base: hmac.new(key, digestmod="sha256") for base, key in keys.items()}

    def sign(self, stream: str, number: int, body: bytes) -> bytes:
        """In ASCII. Raises KeyError for a stream whose key it does not have."""
        mac = self._begun[base_of(stream)].copy()  # to begin anew costs more than the rest
        mac.update(b"%b\0%d\0%b" % (stream.encode(), number, body))
        return mac.hexdigest().encode()

    def is_signed(self, stream: str, number: int | None, body: bytes, mac: bytes) -> bool:
        """Whether this entry was signed for its place. `number`: None if its id is not one that a relay gives."""
        return number is not None and hmac.compare_digest(self.sign(stream, number, body), mac)

    def is_ours(self, stream: str, state: StreamState) -> bool:
        """Whether the stream ends with a signed entry, or with none because it was handled and trimmed."""
        if state.last_number > HIGHEST:
            return False
        last = state.last_entry
        return last is None or self.is_signed(stream, last.number, last.body, last.mac)


def key_names() -> list[str]:
    """The key files of all producers, without their suffix."""
    return [_key_of(base) for base in GROUPS]


def seals(keys: Path) -> Seals:
    """With the keys in this folder, which are made if they are not there. Raises KeyFileError."""
    return Seals({base: secret(keys, _key_of(base)) for base in (*GROUPS, REVOCATIONS)})


def _key_of(base: str) -> str:
    return KEY + producer_of(base)

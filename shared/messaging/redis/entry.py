"""How an event lies in a Redis stream: `<number>-0` is the id; three fields have the body, its age, and its mac."""

from collections.abc import Mapping

from shared.messaging.delivery import Entry
from shared.messaging.stream import StoredEntry

FIELD = "__data__"
"""FastStream's own parsers read a plain JSON body from the field of this name."""
SINCE = "since"
"""Since when the event waits to be handled, in milliseconds since 1970, by the clock of the sender's database."""
MAC = "mac"
_FIELD, _SINCE, _MAC = FIELD.encode(), SINCE.encode(), MAC.encode()


def id_of(number: int) -> str:
    return f"{number}-0"


def number_of(entry_id: bytes | str) -> int:
    """The part before the dash, which for our entries is the whole id."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0])


def stored_entry_of(entry_id: bytes, fields: Mapping[bytes, bytes]) -> StoredEntry:
    number, _, rest = entry_id.partition(b"-")
    return StoredEntry(int(number) if rest == b"0" else None, fields.get(_FIELD, b""), fields.get(_MAC, b""))


def entry_of(entry_id: bytes, fields: Mapping[bytes, bytes], times_delivered: int) -> Entry:
    stored = stored_entry_of(entry_id, fields)
    since = fields.get(_SINCE, b"")
    waited = int(since) / 1000 if since.isdigit() else None  # what others append may hold anything
    return Entry(entry_id.decode(), stored, times_delivered, waited)

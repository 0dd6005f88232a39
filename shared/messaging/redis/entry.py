"""How an event lies in a Redis stream: `<number>-0` is the id, one field has the body, one since when it waits."""

from collections.abc import Mapping

from shared.messaging.delivery import Entry

FIELD = "__data__"
"""FastStream's own parsers read a plain JSON body from the field of this name."""
SINCE = "since"
"""Since when the event waits to be handled, in milliseconds since 1970, by the clock of the sender's database."""
_FIELD, _SINCE = FIELD.encode(), SINCE.encode()


def id_of(number: int) -> str:
    return f"{number}-0"


def number_of(entry_id: bytes | str) -> int:
    """The part before the dash, which for our entries is the whole id."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.partition("-")[0])


def entry_of(entry_id: bytes, fields: Mapping[bytes, bytes], times_delivered: int) -> Entry:
    body = fields.get(_FIELD)
    if body is None:
        return Entry(entry_id.decode(), repr(dict(fields)).encode(), times_delivered, is_foreign=True)
    since = fields.get(_SINCE)  # entries of earlier versions have none
    return Entry(entry_id.decode(), body, times_delivered, since=int(since) / 1000 if since else None)

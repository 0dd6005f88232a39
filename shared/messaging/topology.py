"""Names: the streams, the groups that must acknowledge them, and the stream that a key belongs to."""

from collections.abc import Mapping
from zlib import crc32

INTAKE = "trucban.intake"
ESCALATION = "trucban.escalation"

GROUPS: Mapping[str, tuple[str, ...]] = {INTAKE: ("escalation", "ledger"), ESCALATION: ("intake", "ledger")}
"""Base name → the consumer groups without whose acknowledgement nothing is forgotten."""
REVOCATIONS = "trucban.revocations.escalation"
"""A stream of its own, in one partition, so that no storm of events holds a revocation up. It carries no events."""


def stream_name(base: str, partition: int) -> str:
    """The braces are a hash tag: on a cluster a stream and its dead letters stay in one slot."""
    return f"{base}.{{{partition}}}"


def base_of(stream: str) -> str:
    """The name without its partition."""
    return stream.partition(".{")[0]


def revocation_streams() -> dict[str, tuple[str, ...]]:
    """The stream of revocations with its groups."""
    return {stream_name(REVOCATIONS, 0): ("intake", "ledger")}


def producer_of(stream: str) -> str:
    """The service that appends to the stream, which is also the schema of its outbox."""
    return base_of(stream).rpartition(".")[2]


def partition_in(stream: str) -> int:
    """The number of the partition in a name that `stream_name` made."""
    return int(stream.rpartition("{")[2].removesuffix("}"))


def dead_stream(stream: str) -> str:
    return f"{stream}.dead"


def partition_of(key: str, count: int) -> int:
    """The same key goes to the same partition while `count` is the same. `trucban partitions` alone changes it."""
    return crc32(key.encode()) % count


def route(base: str, key: str, count: int) -> str:
    """The stream for events that must keep their order with all others of `key`."""
    return stream_name(base, partition_of(key, count))


def streams(base: str, count: int) -> dict[str, tuple[str, ...]]:
    """Every partition of `base` with its groups. Raises KeyError for a base that GROUPS does not list."""
    return {stream_name(base, partition): GROUPS[base] for partition in range(count)}

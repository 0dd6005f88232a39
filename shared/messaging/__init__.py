"""The only place that knows the broker. PostgreSQL is the truth, Redis Streams are the wire."""

from shared.messaging.consumer import Consumer
from shared.messaging.delivery import dead_letter_health_failure, dead_letter_table
from shared.messaging.outbox import Outbox, Outgoing, add, outbox_tables
from shared.messaging.progress import GroupProgress, is_drained, progress, wait_drained
from shared.messaging.relay import Relay
from shared.messaging.topology import ESCALATION, GROUPS, INTAKE, dead_stream, partition_of, route, stream_name, streams
from shared.messaging.wire import connect, describe_error, is_transient

__all__ = [
    "ESCALATION",
    "GROUPS",
    "INTAKE",
    "Consumer",
    "GroupProgress",
    "Outbox",
    "Outgoing",
    "Relay",
    "add",
    "connect",
    "dead_letter_health_failure",
    "dead_letter_table",
    "dead_stream",
    "describe_error",
    "is_drained",
    "is_transient",
    "outbox_tables",
    "partition_of",
    "progress",
    "route",
    "stream_name",
    "streams",
    "wait_drained",
]

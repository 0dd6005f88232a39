"""Messaging for the services: an outbox, a relay and consumers, over a broker that only `redis/` knows.

PostgreSQL is the truth, the broker is the wire. Services import from here only.
"""

from shared.messaging.dead_letters import (
    DeadLetter,
    DeadLetterRetries,
    dead_letter_health_failure,
    dead_letter_table,
    dead_letters_in,
    mark_dead_letter,
    take_dead_letter,
)
from shared.messaging.draining import is_drained, wait_drained
from shared.messaging.errors import NOT_MIGRATED, describe_error, is_transient, passes_by_itself, sqlstate_of
from shared.messaging.group_progress import CatchUp, GroupProgress, progress
from shared.messaging.left import Left
from shared.messaging.outbox import Outbox, Outgoing, add, lock_streams, outbox_tables
from shared.messaging.partitions import refuse_fewer_partitions
from shared.messaging.redis.client import BrokerError, Client, connect
from shared.messaging.redis.consumer import Consumer
from shared.messaging.relay import Relay
from shared.messaging.topology import (
    ESCALATION,
    GROUPS,
    INTAKE,
    dead_stream,
    partition_of,
    producer_of,
    route,
    stream_name,
    streams,
)

__all__ = [
    "ESCALATION",
    "GROUPS",
    "INTAKE",
    "NOT_MIGRATED",
    "BrokerError",
    "CatchUp",
    "Client",
    "Consumer",
    "DeadLetter",
    "DeadLetterRetries",
    "GroupProgress",
    "Left",
    "Outbox",
    "Outgoing",
    "Relay",
    "add",
    "connect",
    "dead_letter_health_failure",
    "dead_letter_table",
    "dead_letters_in",
    "dead_stream",
    "describe_error",
    "is_drained",
    "is_transient",
    "lock_streams",
    "mark_dead_letter",
    "outbox_tables",
    "partition_of",
    "passes_by_itself",
    "producer_of",
    "progress",
    "refuse_fewer_partitions",
    "route",
    "sqlstate_of",
    "stream_name",
    "streams",
    "take_dead_letter",
    "wait_drained",
]

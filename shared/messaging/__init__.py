"""Messaging for the services: an outbox, a relay and consumers, over a broker that only `redis/` knows.

PostgreSQL is the truth, the broker is the wire. Services import from here only.
"""

from shared.messaging.dead_letters import dead_letter_health_failure, dead_letter_table
from shared.messaging.delivery import Left
from shared.messaging.draining import is_drained, wait_drained
from shared.messaging.errors import describe_error, is_transient
from shared.messaging.group_progress import GroupProgress, progress
from shared.messaging.outbox import Outbox, Outgoing, add, lock_streams, outbox_tables
from shared.messaging.redis.client import Client, connect
from shared.messaging.redis.consumer import Consumer
from shared.messaging.relay import Relay
from shared.messaging.topology import ESCALATION, GROUPS, INTAKE, dead_stream, partition_of, route, stream_name, streams

__all__ = [
    "ESCALATION",
    "GROUPS",
    "INTAKE",
    "Client",
    "Consumer",
    "GroupProgress",
    "Left",
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
    "lock_streams",
    "outbox_tables",
    "partition_of",
    "progress",
    "route",
    "stream_name",
    "streams",
    "wait_drained",
]

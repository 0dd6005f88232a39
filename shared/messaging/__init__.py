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
from shared.messaging.epochs import (
    PartitionsError,
    begin_epoch,
    check_partitions,
    current_epoch,
    epoch_table,
    partitions_in,
    settle_partitions,
)
from shared.messaging.errors import NOT_MIGRATED, describe_error, is_transient, passes_by_itself, sqlstate_of
from shared.messaging.group_progress import CatchUp, GroupProgress, progress
from shared.messaging.left import Left
from shared.messaging.outbox import Outbox, Outgoing, add, lock_streams, outbox_tables
from shared.messaging.partitions import StreamNumbers, move_rows, stream_numbers
from shared.messaging.publishing import drop_unsigned
from shared.messaging.redis.access import rules_of
from shared.messaging.redis.client import BrokerError, Client, connect
from shared.messaging.redis.consumer import Consumer
from shared.messaging.relay import Relay
from shared.messaging.signing import Seals, key_names, seals
from shared.messaging.topology import (
    ESCALATION,
    GROUPS,
    INTAKE,
    base_of,
    dead_stream,
    partition_of,
    producer_of,
    revocation_streams,
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
    "PartitionsError",
    "Relay",
    "Seals",
    "StreamNumbers",
    "add",
    "base_of",
    "begin_epoch",
    "check_partitions",
    "connect",
    "current_epoch",
    "dead_letter_health_failure",
    "dead_letter_table",
    "dead_letters_in",
    "dead_stream",
    "describe_error",
    "drop_unsigned",
    "epoch_table",
    "is_drained",
    "is_transient",
    "key_names",
    "lock_streams",
    "mark_dead_letter",
    "move_rows",
    "outbox_tables",
    "partition_of",
    "partitions_in",
    "passes_by_itself",
    "producer_of",
    "progress",
    "revocation_streams",
    "route",
    "rules_of",
    "seals",
    "settle_partitions",
    "sqlstate_of",
    "stream_name",
    "stream_numbers",
    "streams",
    "take_dead_letter",
    "wait_drained",
]

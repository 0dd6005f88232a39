"""Schema `ledger`. Entries, nodes and checkpoints are written once: a trigger refuses any change.

`private` is the only table with personal values, and the only one from which rows may be deleted.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

from shared.credentials.store import credential_tables
from shared.messaging import dead_letter_table, epoch_table

metadata = MetaData(schema="ledger")
Key = Text(collation="C")

entry = Table(
    "entry",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),  # from 0, without a gap
    Column("event_id", Key, nullable=False, unique=True),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the bytes that are hashed; the columns follow from it
    Column("kind", Key, nullable=False),
    Column("incident", Key),
    Column("ward", Key),
    Column("category", Key),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
)
for name in ("kind", "incident", "ward", "category", "occurred_at", "recorded_at"):
    Index(f"entry_{name}", entry.c[name], entry.c.idx)

entry_official = Table(
    "entry_official",
    metadata,
    Column("official", Key, primary_key=True),  # holder id
    Column("idx", BigInteger, primary_key=True),
)

private = Table(
    "private",
    metadata,
    Column("idx", BigInteger, primary_key=True),
    Column("field", Key, primary_key=True),  # dotted path in the event's data
    Column("salt", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),  # UTF-8; bytes, for PostgreSQL's text has no U+0000
)

node = Table(
    "node",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),  # 1 and above; 0 is in entry
    Column("pos", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),  # C2SP signed note
    Column("created_at", DateTime(timezone=True), nullable=False),
)

dead_letter = dead_letter_table(metadata)
epochs = epoch_table(metadata)
credentials = credential_tables(metadata)

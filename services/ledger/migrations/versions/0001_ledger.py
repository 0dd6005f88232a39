"""Entries, nodes, checkpoints, private values; what is written once cannot be changed by the service's own role."""

from alembic import op
from sqlalchemy import MetaData

from shared.messaging import dead_letter_table

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE ledger.entry (
    idx bigint PRIMARY KEY CHECK (idx >= 0),
    event_id text COLLATE "C" NOT NULL UNIQUE,
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    body bytea NOT NULL,
    kind text COLLATE "C" NOT NULL,
    incident text COLLATE "C",
    ward text COLLATE "C",
    category text COLLATE "C",
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX entry_kind ON ledger.entry (kind, idx);
CREATE INDEX entry_incident ON ledger.entry (incident, idx);
CREATE INDEX entry_ward ON ledger.entry (ward, idx);
CREATE INDEX entry_category ON ledger.entry (category, idx);
CREATE INDEX entry_occurred_at ON ledger.entry (occurred_at, idx);
CREATE INDEX entry_recorded_at ON ledger.entry (recorded_at, idx);
CREATE TABLE ledger.entry_official (
    official text COLLATE "C" NOT NULL,
    idx bigint NOT NULL,
    PRIMARY KEY (official, idx)
);
CREATE TABLE ledger.private (
    idx bigint NOT NULL,
    field text COLLATE "C" NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    value bytea NOT NULL,
    PRIMARY KEY (idx, field)
);
CREATE TABLE ledger.node (
    level smallint NOT NULL CHECK (level BETWEEN 1 AND 62),
    pos bigint NOT NULL CHECK (pos >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, pos)
);
CREATE TABLE ledger.checkpoint (
    size bigint PRIMARY KEY CHECK (size >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    note text NOT NULL,
    created_at timestamptz NOT NULL
)
"""

REFUSE = """
CREATE FUNCTION ledger.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is written once: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""


def upgrade() -> None:
    for statement in TABLES.split(";"):
        op.execute(statement)
    dead_letter_table(MetaData(schema="ledger")).create(op.get_bind())
    op.execute(REFUSE)
    for table in ("entry", "entry_official", "node", "checkpoint"):
        op.execute(
            f"CREATE TRIGGER written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse()"
        )
    op.execute(
        "CREATE TRIGGER written_once BEFORE UPDATE ON ledger.private "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse()"
    )


def downgrade() -> None:
    raise RuntimeError("the ledger is written once: restore a backup instead of going back a version")

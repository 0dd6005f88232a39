"""The number of partitions is stored, by epoch. The first start stores the one that it is told."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE intake.epoch (
        number INTEGER NOT NULL,
        partitions INTEGER NOT NULL,
        begun_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (number)
    )
    """,
    "ALTER TABLE intake.outbox_stream ADD COLUMN closed BIGINT DEFAULT 0 NOT NULL",
    "COMMENT ON COLUMN intake.outbox_stream.closed IS 'up to here, no longer published'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0003 is not undone: restore the database from before it")

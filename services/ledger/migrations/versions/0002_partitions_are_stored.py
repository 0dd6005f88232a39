"""The number of partitions is stored, by epoch. The first start stores the one that it is told."""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    """
    CREATE TABLE ledger.epoch (
        number INTEGER NOT NULL,
        partitions INTEGER NOT NULL,
        begun_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
        PRIMARY KEY (number)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("0002 is not undone: restore the database from before it")
